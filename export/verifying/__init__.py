"""verify(): compares a file with its torch model, and finds the first layer that differs.

verifier.py > running.py > judges.py    the steps; divergence.py searches for the layer
drawn.py, variants.py                   other inputs and other sizes
measures.py, rounding.py                error measures, and the effect of rounding errors on a model
"""

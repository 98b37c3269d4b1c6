"""verify(): a file against its torch model, and the first layer that differs.

verifier.py > running.py > judges.py          the steps; divergence.py searches for the layer
drawn.py, variants.py                         other inputs and other sizes
measures.py, rounding.py                      errors, and how far rounding alone moves a model
"""

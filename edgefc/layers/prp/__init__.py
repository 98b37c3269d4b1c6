"""PRP layers, whose weights are a fixed random matrix from a seed, scaled on both sides.

linear.py, conv.py, embedding.py   the layers
matrices.py   the kinds of fixed matrices; hadamard.py: the transforms of one kind
scales.py     fits of the scales to a trained matrix
"""

PAPER = "PRP, arXiv 2512.13480"
CLAIM = "accuracy comparable to dense with up to two orders of magnitude fewer parameters"
"""The claim of the paper, as far as we know it."""

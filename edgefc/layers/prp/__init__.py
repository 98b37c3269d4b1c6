"""PRP layers: linear.py, conv.py and embedding.py. matrices.py has the kinds of fixed matrices, scales.py the fits."""

PAPER = "PRP, arXiv 2512.13480"
CLAIM = "accuracy comparable to dense with up to two orders of magnitude fewer parameters"
"""What the paper says of it, as far as it is known to us."""

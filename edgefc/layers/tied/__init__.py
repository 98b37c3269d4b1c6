"""Layers that use one matrix as W and as its transpose: ffn.py, bottleneck.py and attention.py."""

PAPER = "W and W-transpose, arXiv 2401.16438"
CLAIM = "about half the parameters, minor degradation"
"""What the paper says of it, as far as it is known to us."""

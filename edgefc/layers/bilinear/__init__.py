"""Bilinear layers: linear, conv, embedding and lstm. kronecker.py has their products, factors.py their sizes."""

PAPER = "bilinear, arXiv 2011.01391"
CLAIM = "higher accuracy than dense at a much smaller size after scaling up"
"""What the paper says of it, as far as it is known to us."""

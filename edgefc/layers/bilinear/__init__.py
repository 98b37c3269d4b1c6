"""Bilinear layers, whose weights are sums of Kronecker products.

linear.py, conv.py, embedding.py, lstm.py   the layers
kronecker.py      products with these weights, their expansion to a dense matrix, and fits to a trained matrix
factors.py        the sizes of the factors, and their initialisation
free_entries.py   fits to matrices whose sizes are padded
"""

PAPER = "bilinear, arXiv 2011.01391"
CLAIM = "higher accuracy than dense at a much smaller size after scaling up"
"""The claim of the paper, as far as we know it."""

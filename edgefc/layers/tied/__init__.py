"""Layers that use one matrix both as W and as W^T: ffn.py, bottleneck.py and attention.py."""

PAPER = "W and W-transpose, arXiv 2401.16438"
CLAIM = "about half the parameters, minor degradation"
"""The claim of the paper, as far as we know it."""

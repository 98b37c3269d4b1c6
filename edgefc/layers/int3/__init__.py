"""Weights of 3 bits: linear.py. packing.py has the layout of the codes in memory, which is also that of the files."""

PAPER = "GPTQ, arXiv 2210.17323"
CLAIM = "3 bits per weight with little loss for large language models"
"""What the paper says of it, as far as it is known to us."""

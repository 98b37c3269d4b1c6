"""Monarch layers: linear.py."""

PAPER = "Monarch, arXiv 2204.00595"
CLAIM = "ViT and GPT-2 trained twice as fast with comparable quality"
"""What the paper says of it, as far as it is known to us."""

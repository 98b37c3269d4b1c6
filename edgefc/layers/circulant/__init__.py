"""Circulant layers: linear.py, conv.py and lstm.py. All use the block-circulant matrices of blocks.py."""

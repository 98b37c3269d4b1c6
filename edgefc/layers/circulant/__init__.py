"""Circulant layers: linear.py, conv.py and lstm.py on the block-circulant matrices of blocks.py."""

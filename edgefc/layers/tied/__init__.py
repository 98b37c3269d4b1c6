"""Layers that use one matrix as W and as its transpose: ffn.py, bottleneck.py and attention.py."""

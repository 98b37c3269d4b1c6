"""Layers that use one matrix both as W and as W^T: ffn.py, bottleneck.py and attention.py."""

"""Attention with structured projections.

structured.py   the layer
masks.py        checks and merges masks
projections.py  checks the callables that create projections, and the sizes of their outputs
conversion.py   converts to and from torch.nn.MultiheadAttention
"""

"""Attention with structured projections: structured.py. masks.py checks masks, projections.py makes the projections,
conversion.py converts to and from torch.nn.MultiheadAttention.
"""

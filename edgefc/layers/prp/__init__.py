"""PRP layers: linear.py, conv.py and embedding.py.

matrices.py has the kinds of fixed random matrices, hadamard.py the fast transform, and scales.py the fits.
"""

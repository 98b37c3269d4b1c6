"""Bilinear layers: linear.py, conv.py, embedding.py and lstm.py.

kronecker.py applies and fits sums of Kronecker products. factors.py chooses the sizes of the factors.
"""

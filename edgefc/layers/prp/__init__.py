"""PRP layers: linear.py, conv.py and embedding.py. matrices.py has the kinds of fixed matrices, scales.py the fits."""

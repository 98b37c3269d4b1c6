"""EUGen layers: linear.py.

projections.py computes the random features, start.py initialises the weight after them, and fit.py fits it to data.
"""

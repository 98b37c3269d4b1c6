"""EUGen layers: linear.py. projections.py makes the random features, start.py and fit.py the weight behind them."""

PAPER = "EUGen, arXiv 2410.09771"
CLAIM = "ViT-B with 6 MLPs replaced: about 30 % fewer parameters, accuracy about equal"
"""What the paper says of it, as far as it is known to us."""

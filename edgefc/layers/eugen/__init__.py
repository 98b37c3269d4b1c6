"""EUGen layers: linear.py. projections.py makes the random features, start.py and fit.py the weight behind them."""

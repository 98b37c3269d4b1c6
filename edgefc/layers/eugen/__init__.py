"""EUGen layer: random features followed by one small matrix.

linear.py        the layer
projections.py   the random projections, and the products of their outputs
start.py         the initial weight; fit.py: the weight fitted to recorded inputs and outputs
"""

PAPER = "EUGen, arXiv 2410.09771"
CLAIM = "ViT-B with 6 MLPs replaced: about 30 % fewer parameters, accuracy about equal"
"""The claim of the paper, as far as we know it."""

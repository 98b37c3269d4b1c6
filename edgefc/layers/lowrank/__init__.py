"""Low-rank layers: linear.py. The truncated SVD is in common/low_rank.py."""

PAPER = "low rank, ICASSP 2013"
CLAIM = "30 to 50 % fewer parameters without a significant loss of accuracy"
"""What the paper says of it, as far as it is known to us."""

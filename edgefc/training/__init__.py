"""Trains a replaced torch model on the outputs of the original one, quantised layers included.

distilling.py    distil()
report.py        what it returns
"""

from edgefc.lazy import lazy

__getattr__, __dir__ = lazy(
    "edgefc.training",
    {"distil": "edgefc.training.distilling", "DistilReport": "edgefc.training.report"},
    "torch",
)

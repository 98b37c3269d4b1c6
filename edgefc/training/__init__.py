"""Trains a replaced torch model on the outputs of the original one, quantised layers included.

    distilling.py    distil(); report.py: what it returns
    loop.py          steps, evaluations, the best state; schedule.py: budget, phases and learning rates
    losses.py        what is minimised, and what decides
    teacher.py       the outputs to match; hidden.py: which modules' outputs are among them
    student.py       the trained model; latent.py: stored layers are trained through their codes
    data.py          the order of the batches
    checkpoint.py    the state in a folder; ranks.py: several processes

edgefc.distil is the public name.
"""

from edgefc.lazy import lazy

__getattr__, __dir__ = lazy(
    "edgefc.training",
    {"distil": "edgefc.training.distilling", "DistilReport": "edgefc.training.report"},
    "torch",
)

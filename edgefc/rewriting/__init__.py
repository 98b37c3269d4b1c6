"""Replaces the layers of an .onnx file by a plan: .onnx in, .onnx out, without torch.

    replacing.py  replace_file(): reads > finds > decides > observes > fits > writes > compares
    reading.py    a model, after the checks of edgefc.modelfile
    constants.py  constant values, and the stored tensors that they come from
    finding.py    the weights that a plan can name, in all graphs
    deciding.py   what replaces each weight
    feeds.py      calibration data; probing.py: inner values as outputs; moments.py: statistics of the inputs of layers
    products.py   a product with a fitted layer; tables.py: a Gather with a fitted table; functions.py: edgefc:: nodes
    storage.py    any weight in float16 or 8 bits
    editing.py    changes graphs; packing.py: codes in bytes
    comparing.py  the change of the outputs; report.py: what was done

The fits are those of edgefc.fitting, and the plan is that of edgefc.plan. The names below are imported on first use.
"""  # fmt: skip

from typing import TYPE_CHECKING

from edgefc.lazy import lazy

if TYPE_CHECKING:
    from edgefc.rewriting.replacing import replace_file as replace_file
    from edgefc.rewriting.report import FileReport as FileReport

_NAMES = {"FileReport": "edgefc.rewriting.report", "replace_file": "edgefc.rewriting.replacing"}

__all__ = ["FileReport", "replace_file"]

if not TYPE_CHECKING:  # hides the lazy names from type checkers, which use the imports above
    __getattr__, __dir__ = lazy(__name__, _NAMES, "onnx")

"""Replaces the layers of an .onnx file by a plan or within a budget: .onnx in, .onnx out, without torch.

    replacing.py  replace_file(): reads > finds > decides > observes > fits > writes > compares
    reading.py    a model, after the checks of edgefc.modelfile
    constants.py  constant values, and the stored tensors that they come from
    finding.py    the weights that a plan can name, in all graphs
    deciding.py   what replaces each weight
    feeds.py      calibration data; probing.py: inner values as outputs; moments.py: statistics of the inputs of layers
    products.py   a product with a fitted layer; tables.py: a Gather with a fitted table; functions.py: edgefc:: nodes
    storage.py    any weight in float16 or 8 bits
    fits.py       what replaces a weight, fitted and then put into a model; keeping.py: fits as bytes
    editing.py    changes graphs; packing.py: codes in bytes
    comparing.py  the change of the outputs; report.py: what was done

    compressing.py  compress_file(): chooses a plan within a budget, writes it and measures it in the file
    subject.py      the file as a subject of edgefc.choosing; candidates.py: what its weights can become
    swapping.py     runs the model with other weights; loss.py: the loss of its outputs
    timing.py       what candidates cost in time on a device (edgefc.latency); single.py: models of one layer

The fits are those of edgefc.fitting, and the plan is that of edgefc.plan. The names below are imported on first use.
"""  # fmt: skip

from typing import TYPE_CHECKING

from edgefc.lazy import lazy

if TYPE_CHECKING:
    from edgefc.rewriting.compressing import compress_file as compress_file
    from edgefc.rewriting.replacing import replace_file as replace_file
    from edgefc.rewriting.report import FileReport as FileReport

_NAMES = {
    "FileReport": "edgefc.rewriting.report",
    "compress_file": "edgefc.rewriting.compressing",
    "replace_file": "edgefc.rewriting.replacing",
}

__all__ = ["FileReport", "compress_file", "replace_file"]

if not TYPE_CHECKING:  # hides the lazy names from type checkers, which use the imports above
    __getattr__, __dir__ = lazy(__name__, _NAMES, "onnx")

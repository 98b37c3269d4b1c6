"""Files whose MatMulNBits nodes round their inputs to int8 (accuracy_level 4).

The rounding is far larger than that of float32, and hides other errors. Such a file is compared with torch twice: a
copy without the rounding has the bounds of other files, and the file itself has NMSE_BOUND_INT8 for each output.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir
from torch import Tensor

from edgefc import temporary
from edgefc.export.verifying.measures import all_nodes, load, nmse, rounds_inputs
from edgefc.export.verifying.running import feeds_of, open_session, run_session
from edgefc.files import writing


@contextmanager
def without_int8(file: Path) -> Iterator[Path]:
    """The file itself, or a copy in a temporary folder in which MatMulNBits computes in float32."""
    model = load(file)
    if not round_no_inputs(model):
        yield file
        return
    with writing("temporary files"), temporary.folder("edgefc-verify-") as folder:
        ir.save(model, folder / file.name, external_data="exact.data")
        yield folder / file.name


def round_no_inputs(model: ir.Model) -> bool:
    """Lets MatMulNBits compute in float32. Returns whether any of the nodes rounded its inputs."""
    nodes = [node for node in all_nodes(model) if rounds_inputs(node)]
    for node in nodes:
        node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", 0)
    return bool(nodes)


def change(file: Path, exact: Path, names: Sequence[str], inputs: Sequence[Tensor]) -> float:
    """The largest normalised mean squared error of an output of `file` relative to the same output of `exact`."""
    sessions = [(open_session(each), each) for each in (file, exact)]
    one, other = (run_session(session, each, feeds_of(session, names, inputs)) for session, each in sessions)
    floats = [(a, b) for a, b in zip(one, other, strict=True) if np.issubdtype(b.dtype, np.floating)]
    return max((nmse(a, b) for a, b in floats), default=0.0)

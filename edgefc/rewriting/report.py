"""What replace_file() did."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgefc.rewriting.comparing import OutputChange


@dataclass(frozen=True)
class LayerChange:
    """The weights of one place, or of several places that share them.

    Attributes:
        name           of the first node
        names          of all nodes
        op             the operator of the first node
        shape          of the weight as the node reads it
        configuration  the kind in the plan, such as Int4
        replaced       whether it was replaced
        reason         why it was not; "" if it was
        numbers        of the weight
        bytes_before   of its stored tensors
        bytes_after    of the tensors that replace them, without biases; equal to bytes_before if it stays
        output_error   sqrt(tr D C D^T / tr W C W^T) for a fitted product, with C the covariance of its inputs on the
                       calibration data, or the identity without; for stored weights |W - W'| / |W|; None if it stays
        samples        the number of vectors in the moments; 0 for a fit to the weights alone
        note           why there are no moments although there are calibration data; ""
    """

    name: str
    names: tuple[str, ...]
    op: str
    shape: tuple[int, ...]
    configuration: str
    replaced: bool
    reason: str
    numbers: int
    bytes_before: int
    bytes_after: int
    output_error: float | None
    samples: int
    note: str


@dataclass(frozen=True)
class Step:
    """The seconds that a part of the work took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class FileReport:
    """The result of replace_file().

    Attributes:
        source, path     the files
        layers           in the order of the file
        outputs          the change of every output on the held-out samples; empty without calibration data
        file_before      bytes of the source, with its external data
        file_after       bytes of the result, with its external data
        opset            of the result
        lowest_onnxruntime  the lowest version that runs the result, "" if the plan added nothing that needs one
        notes            on files of the replaced model that are kept
        steps            the time of each step
    """

    source: Path
    path: Path
    layers: tuple[LayerChange, ...]
    outputs: tuple[OutputChange, ...]
    file_before: int
    file_after: int
    opset: int
    lowest_onnxruntime: str
    notes: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def weights_before(self) -> int:
        """The bytes of the replaced weights in the source."""
        return sum(layer.bytes_before for layer in self.layers if layer.replaced)

    @property
    def weights_after(self) -> int:
        """The bytes of what replaces them."""
        return sum(layer.bytes_after for layer in self.layers if layer.replaced)

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    def record(self) -> dict[str, Any]:
        """The report as JSON values. An error that is infinite, because the old output was zero, becomes None."""
        record: dict[str, Any] = asdict(self)
        record |= {"source": str(self.source), "path": str(self.path)}
        for change in record["outputs"]:
            change["nmse"] = change["nmse"] if math.isfinite(change["nmse"]) else None
        return {**record, "weights_before": self.weights_before, "weights_after": self.weights_after}

    def sentence(self) -> str:
        """The result in one sentence."""
        replaced = sum(layer.replaced for layer in self.layers)
        text = (
            f"{self.path}: {replaced} of {len(self.layers)} weights replaced, {self.weights_before:,} bytes -> "
            f"{self.weights_after:,}; file {self.file_before:,} bytes -> {self.file_after:,}"
        )
        if not self.outputs:
            return f"{text}; the outputs were not compared, without calibration data"
        largest = max(self.outputs, key=lambda change: change.nmse)
        return f"{text}; largest change of an output: {largest.name} {largest.nmse:.1e}"

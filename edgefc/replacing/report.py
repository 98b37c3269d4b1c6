"""What replace() did: layer by layer, and for the whole model. The record of edgefc replace --json."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgefc.timing import StepReport


@dataclass(frozen=True)
class LayerReport:
    """One layer that a rule names.

    Attributes:
        name          the name in the model
        shared        further names of the same layer
        before        what it was, such as "Linear 384 to 1536"
        to            the configuration, such as "Int4(group=32, rotate=True)"
        after         the new layer, such as "QuantizedLinear"; None if the layer stays
        reason        why it stays; empty if it does not
        numbers       how many numbers it stored, and stores: codes of 2 to 8 bits count as numbers
        bytes         the bytes that they take in a weights file
        error         the relative error of its outputs, sqrt(tr D C D^T / tr W C W^T), where D is the change of the
                      weight. C is the covariance of the inputs; E[x x^T] for a layer without a bias, which cannot
                      correct the mean; the identity without calibration. None: not fitted
        error_plain   the same for the fit without the statistics of the inputs; None without calibration, and for a
                      refitted layer
        refitted      whether the layer was fitted again to the outputs of the original model, for the inputs that it
                      has in the replaced model. W in `error` is then the dense weight that does this best, and C the
                      covariance of those inputs.
    """

    name: str
    before: str
    to: str
    after: str | None = None
    reason: str = ""
    shared: tuple[str, ...] = ()
    numbers_before: int = 0
    numbers_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    error: float | None = None
    error_plain: float | None = None
    refitted: bool = False


@dataclass(frozen=True)
class OutputReport:
    """The change of one output of the model on samples that were not used for the fits, if `held_out`.

    Attributes:
        name      such as last_hidden_state; empty for a model with one output
        samples   the number of vectors that were compared: all axes but the last
        error     sqrt(|new - old|^2 / |old|^2) over all values
        cosine    the mean cosine of the vectors along the last axis; None for an output of single numbers
    """

    name: str
    samples: int
    error: float
    cosine: float | None
    held_out: bool


@dataclass(frozen=True)
class ReplaceReport:
    """What replace() did.

    Attributes:
        outputs             the change of the model's outputs on calibration data
        warnings            one sentence each
        numbers, bytes      of the whole model, before and after: bytes of its weights in a file
        lowest_onnxruntime  the lowest version that runs an exported file with these layers
    """

    layers: tuple[LayerReport, ...]
    outputs: tuple[OutputReport, ...] = ()
    steps: tuple[StepReport, ...] = ()
    warnings: tuple[str, ...] = ()
    numbers_before: int = 0
    numbers_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    lowest_onnxruntime: str = ""

    def record(self) -> dict[str, Any]:
        """The report as JSON values. Errors that are infinite become None."""
        record: dict[str, Any] = _finite(asdict(self))
        return record

    @property
    def replaced(self) -> Sequence[LayerReport]:
        return [layer for layer in self.layers if layer.after is not None]

    @property
    def kept(self) -> Sequence[LayerReport]:
        """The layers that a rule names and that stay, each with its reason."""
        return [layer for layer in self.layers if layer.after is None]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

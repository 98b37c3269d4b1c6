"""Moments of the inputs of layers, and how often the rows of tables are used, over calibration data.

The model runs in onnxruntime with the inputs of the layers as additional outputs. Layers with the same input share its
moments. If the moments of all inputs do not fit into MOST_BYTES, the data are run several times. Tokens that an input
named attention_mask or input_mask marks as padding are left out.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.fitting.moments import Moments, TokenCounts
from edgefc.progress import steps
from edgefc.rewriting.constants import attribute
from edgefc.rewriting.feeds import Feeds
from edgefc.rewriting.finding import CONVOLUTION, TABLE, Place, find
from edgefc.rewriting.patches import patches
from edgefc.rewriting.probing import Prober
from edgefc.rewriting.reading import read
from edgefc.runtime.session import Session
from edgefc.temporary import folder

Array = NDArray[Any]

MOST_BYTES = 1 << 30
_ROWS = 1024  # vectors that are collected before they are added
_MASKS = ("attention_mask", "input_mask")


@dataclass
class Statistics:
    """The result, by the index of a place among those of find().

    Attributes:
        moments   of the inputs of linear layers, and of the patches that convolutions multiply
        counts    of the rows of tables
        missing   the reason for each place without statistics
    """

    moments: dict[int, Moments] = field(default_factory=dict)
    counts: dict[int, TokenCounts] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)


class _Sink:
    """Collects vectors for Moments and adds several feeds at a time: one addition costs n^2 for any number of them."""

    def __init__(self, moments: Moments) -> None:
        self._moments, self._waiting, self._rows = moments, list[Array](), 0

    def add(self, x: Array) -> None:
        rows = x.reshape(-1, x.shape[-1])
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._rows >= _ROWS:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._moments.add(np.concatenate(self._waiting))
        self._waiting, self._rows = [], 0


@dataclass
class _Probe:
    """One value to observe, and the places that read it."""

    place: Place
    places: list[int]
    width: int

    @property
    def bytes(self) -> int:
        return 8 * (self.width if self.place.kind == TABLE else 2 * self.width**2)

    @property
    def key(self) -> str:
        """Equal for places with the same statistics."""
        node = self.place.node
        form = (node.attributes.items(), self.place.shape[1:]) if self.place.kind == CONVOLUTION else ()
        return repr((id(observed(self.place)), id(self.place.graph), is_transposed(self.place), self.place.kind, form))


def collect(path: Path, wanted: Sequence[int], feeds: Iterable[Feeds], *, functions: bool, threads: int) -> Statistics:
    """Runs the model over the feeds.

    Args:
        wanted      indices among the places of find() for this file
        functions   as in read(): the file is read in the same way, so that the places are the same

    Raises:
        UsageError, ModelError: the model does not run, or a value is NaN or infinite.
    """
    result = Statistics()
    pending = list(wanted)
    while pending:
        model = read(path, functions=functions)
        places = find(model)
        probes, pending = _portion(places, pending)
        _run(model, probes, feeds, result, threads)
    for index in wanted:
        found = result.moments.get(index) or result.counts.get(index)
        if found is None:
            result.missing[index] = "it is in the body of a Loop or Scan, whose steps cannot be observed"
        elif isinstance(found, Moments) and found.count == 0:
            del result.moments[index]
            result.missing[index] = "the calibration data did not reach it"
    return result


def _portion(places: Sequence[Place], pending: Sequence[int]) -> tuple[list[_Probe], list[int]]:
    """The probes of one run within MOST_BYTES, at least one, and the places that remain."""
    probes: dict[Any, _Probe] = {}
    left, used = list[int](), 0
    for index in pending:
        probe = _Probe(places[index], [index], _width(places[index]))
        known = probes.get(probe.key)
        if known is not None:
            known.places.append(index)
        elif probes and used + probe.bytes > MOST_BYTES:
            left.append(index)
        else:
            probes[probe.key] = probe
            used += probe.bytes
    return list(probes.values()), left


def _run(model: ir.Model, probes: Sequence[_Probe], feeds: Iterable[Feeds], result: Statistics, threads: int) -> None:
    prober = Prober(model)
    named = []
    for probe in probes:
        dtype = ir.DataType.INT64 if probe.place.kind == TABLE else probe.place.dtype
        name = prober.output(observed(probe.place), probe.place.graph, dtype)
        if name is not None:
            named.append((name, probe, _add_to(result, probe)))
    if not named:
        return
    with folder("edgefc-probe-") as place:
        ir.save(model, place / "probe.onnx", external_data="probe.data")
        session = Session(place / "probe.onnx", threads=threads, native="off")
        outputs = [name for name, _, _ in named]
        for feed in steps(feeds, "observing layers"):
            values = session.run(list(dict.fromkeys(outputs)), feed)
            by_name = dict(zip(dict.fromkeys(outputs), values, strict=True))
            for name, probe, target in named:
                _observe(by_name[name], probe, target, mask_of(feed))
        for _, _, target in named:
            if isinstance(target, _Sink):
                target.flush()


def _add_to(result: Statistics, probe: _Probe) -> _Sink | TokenCounts:
    if probe.place.kind == TABLE:
        counts = TokenCounts.empty(probe.width)
        result.counts.update(dict.fromkeys(probe.places, counts))
        return counts
    moments = Moments.empty(probe.width)
    result.moments.update(dict.fromkeys(probe.places, moments))
    return _Sink(moments)


def _observe(value: Array, probe: _Probe, target: _Sink | TokenCounts, mask: NDArray[np.bool_] | None) -> None:
    if value.size == 0:  # a branch that did not run, or no rows
        return
    if isinstance(target, TokenCounts):
        target.add(value[mask] if mask is not None and value.shape == mask.shape else value)
        return
    if probe.place.kind == CONVOLUTION:
        target.add(patches(value, probe.place.node, probe.place.shape[2:]))
        return
    x = value.T if is_transposed(probe.place) else value
    target.add(_kept(x, mask))


def _kept(x: Array, mask: NDArray[np.bool_] | None) -> Array:
    """The vectors (..., n) that are not padding, if the axes of x are those of the mask."""
    if mask is None:
        return x
    if x.ndim > mask.ndim and x.shape[: mask.ndim] == mask.shape:
        kept: Array = x[mask]
        return kept
    if x.ndim == 2 and len(x) == mask.size:
        x = x[mask.reshape(-1)]
    return x


def mask_of(feeds: Mapping[str, Array]) -> NDArray[np.bool_] | None:
    """True for each token that is not padding, (batch, tokens)."""
    given: Iterator[Array] = (np.asarray(feeds[name]) for name in _MASKS if name in feeds)
    return next((mask != 0 for mask in given if mask.ndim == 2 and mask.dtype.kind in "iub"), None)


def observed(place: Place) -> ir.Value:
    """The value that a place multiplies, or the indices of a table."""
    value = place.node.inputs[1 if place.kind == TABLE else 0]
    assert value is not None
    return value


def _width(place: Place) -> int:
    """The number of inputs of one output, or of rows of a table."""
    if place.kind == TABLE:
        return place.shape[0]
    if place.kind == CONVOLUTION:
        return math.prod(place.shape[1:])
    transposed = place.node.op_type == "Gemm" and bool(attribute(place.node, "transB", 0))
    return place.shape[1 if transposed else 0]


def is_transposed(place: Place) -> bool:
    """Whether a Gemm reads its vectors along the first axis."""
    return place.node.op_type == "Gemm" and bool(attribute(place.node, "transA", 0))

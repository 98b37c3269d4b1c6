"""An .onnx file as a subject of edgefc.choosing: its weights, and the outputs with some of them replaced.

A unit is a weight, or weights with a stored tensor in common. The outputs are those of a Swapper (swapping.py) on the
choosing samples; the chosen plan is then measured again in the file that is written (compressing.py).
"""

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgefc import __version__
from edgefc.choosing.subject import Choices, Swap, Unit
from edgefc.errors import ModelError, UsageError
from edgefc.fitting.fitted import Fitted
from edgefc.fitting.half import HalfFit
from edgefc.fitting.quantized import QuantizedFit
from edgefc.fitting.tables import QuantizedTableFit
from edgefc.modelfile.weights import weight_files
from edgefc.plan.configurations import Configuration
from edgefc.rewriting.candidates import SMALLEST, is_replaceable, served
from edgefc.rewriting.constants import Array, stored, tensor_of
from edgefc.rewriting.deciding import FITTED, Decision, decided, needs_function
from edgefc.rewriting.feeds import Calibration, Divided, Feeds
from edgefc.rewriting.finding import Place, find, shared
from edgefc.rewriting.fits import New, Prepared, fitted, takes_moments, tensors_of
from edgefc.rewriting.keeping import from_bytes, to_bytes
from edgefc.rewriting.loss import Loss, loss_between
from edgefc.rewriting.moments import Statistics, collect, mask_of
from edgefc.rewriting.reading import file_bytes, read
from edgefc.rewriting.replacing import replace_fitted
from edgefc.rewriting.report import FileReport
from edgefc.rewriting.single import Layer
from edgefc.rewriting.storage import Stored
from edgefc.rewriting.swapping import Swapper
from edgefc.runtime.session import Session
from edgefc.temporary import folder

Metric = Callable[[Session], float]

_CAST_BYTES, _SCALED_BYTES = 200, 600
"""About what the nodes take in a file that turn a tensor in float16, or in 8 bits, into the one that is read."""


@dataclass(frozen=True)
class Weights:
    """A unit in the file.

    Attributes:
        at           the indices of its places among those of find()
        replaceable  whether its nodes can be replaced by a fitted layer
    """

    unit: Unit
    at: tuple[int, ...]
    replaceable: bool


class FileSubject:
    """The weights of one .onnx file. See edgefc.choosing.subject.Subject.

    Args:
        source         the file
        configurations what the weights may become
        data           the moments are those of data.fitting, and the loss is that on data.choosing
        metric         of a Session of a model; higher is better
        smallest       weights with fewer numbers stay; None: SMALLEST

    Raises:
        UsageError: no weight can be replaced.
        ModelError: the file is not valid.
    """

    def __init__(
        self,
        source: Path,
        configurations: Sequence[Configuration],
        data: Divided,
        *,
        metric: Metric | None = None,
        threads: int = 1,
        seed: int = 0,
        smallest: int | None = None,
    ) -> None:
        self.source, self._samples, self._metric = source, list(data.choosing), metric
        self._threads, self._seed = threads, seed
        self._functions = _has_functions(source, configurations)
        size = file_bytes(source)
        self._weights = _weights(self._places, configurations, smallest or SMALLEST, functions=self._functions)
        if not self._weights:
            raise UsageError(f"no weight of {source} can be replaced. Weights below {SMALLEST} numbers stay.")
        self.units: Sequence[Unit] = [each.unit for each in self._weights]
        self.other_bytes = size - sum(unit.bytes for unit in self.units)
        self.other_numbers = _numbers(self._model) - sum(unit.numbers for unit in self.units)
        self.fingerprint = _fingerprint(source, self.units, [*data.fitting, *self._samples], seed)
        wanted = [at for each in self._weights if self._observed(each) for at in each.at]
        self._statistics = (
            collect(source, wanted, data.fitting, functions=self._functions, threads=threads)
            if wanted
            else Statistics()
        )
        self._fits: dict[str, dict[Configuration, New]] = {}

    def swaps(self, unit: Unit) -> list[Swap]:
        weights = self._by_name[unit.name]
        made = self._fits[unit.name] = dict[Configuration, New]()
        found = list[Swap]()
        for to in unit.configurations:
            decision = self._decision(weights, to)
            try:
                new = fitted(decision, weights.at, self._statistics, self._seed)
                sizes = self._size(weights, to, new)
            except (UsageError, ModelError, np.linalg.LinAlgError):
                continue
            made[to] = new
            loss = self.loss({unit.name: to})
            if np.isfinite(loss):
                found.append(Swap(unit.name, to, loss, new.error, *sizes))
        return found

    def loss(self, choices: Choices) -> float:
        values = dict[str, Array]()
        for name, to in choices.items():
            slot = self._swapper.slots[self._index[name]]
            values |= slot.values(self._places_of(self._by_name[name]), self._fits[name][to])
        total = Loss()
        for feeds, before in zip(self._samples, self._originals, strict=True):
            total.add(before, self._swapper.run(feeds, values), mask_of(feeds))
        return total.value()

    def metric(self, choices: Choices) -> float | None:
        if self._metric is None:
            return None
        if not choices:
            return float(self._metric(Session(self.source, threads=self._threads, native="off")))
        with folder("edgefc-metric-") as place:
            self.write(choices, place / "model.onnx", None)
            return float(self._metric(Session(place / "model.onnx", threads=self._threads, native="off")))

    def write(self, choices: Choices, output: Path, calibration: Calibration | None) -> FileReport:
        """Writes the file with all choices. Compares the outputs on calibration.held."""
        by_place = {self._by_name[name].at[0]: to for name, to in choices.items()}
        fits = {each.at[0]: self._fits.get(each.unit.name, {}) for each in self._weights}
        prepared = Prepared(self._statistics, fits, self._functions)
        return replace_fitted(self.source, by_place, output, prepared, calibration=calibration, threads=self._threads)

    def pack(self, unit: Unit) -> bytes:
        return to_bytes(self._fits[unit.name])

    def unpack(self, unit: Unit, content: bytes) -> None:
        self._fits[unit.name] = from_bytes(content)

    def part(self, units: Sequence[Unit]) -> "FileSubject":
        part = copy.copy(self)
        part.__dict__ = {name: value for name, value in vars(self).items() if name not in _MADE}
        part._metric, part._fits = None, {}
        at = {index for unit in units for index in self._by_name[unit.name].at}
        part._statistics = Statistics(
            {index: each for index, each in self._statistics.moments.items() if index in at},
            {index: each for index, each in self._statistics.counts.items() if index in at},
        )
        return part

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _MADE}

    def loss_of(self, path: Path) -> float:
        """The loss of a file on the choosing samples."""
        old, new = (Session(each, threads=self._threads, native="off") for each in (self.source, path))
        return loss_between(old, new, self._samples).value()

    def read(self) -> tuple[ir.Model, list[Place]]:
        """A copy of the model, and its places."""
        model = read(self.source, functions=self._functions)
        return model, find(model)

    def places_of(self, unit: Unit) -> tuple[int, ...]:
        """The indices of the places of a unit among those of find()."""
        return self._by_name[unit.name].at

    def layer_of(self, unit: Unit) -> Layer | None:
        """The layer of a unit whose nodes can be replaced; None for another one."""
        weights = self._by_name[unit.name]
        return Layer.of(self._places_of(weights)[0]) if weights.replaceable else None

    def is_fitted(self, unit: Unit, to: Configuration) -> bool:
        """Whether other nodes run for the unit, and not only another form of its weight is stored."""
        return self._decision(self._by_name[unit.name], to).way == FITTED

    @cached_property
    def _model(self) -> ir.Model:
        return read(self.source, functions=self._functions)

    @cached_property
    def _places(self) -> list[Place]:
        return find(self._model)

    @cached_property
    def _by_name(self) -> dict[str, Weights]:
        return {each.unit.name: each for each in self._weights}

    @cached_property
    def _index(self) -> dict[str, int]:
        return {each.unit.name: index for index, each in enumerate(self._weights)}

    @cached_property
    def _swapper(self) -> Swapper:
        model, _ = self.read()
        groups, direct = [each.at for each in self._weights], [each.replaceable for each in self._weights]
        return Swapper(model, groups, direct, path=self.source, threads=self._threads)

    @cached_property
    def _originals(self) -> list[list[Array]]:
        """The outputs of the original for each sample, by the session that runs the swaps."""
        return [self._swapper.run(feeds, {}) for feeds in self._samples]

    def _places_of(self, weights: Weights) -> list[Place]:
        return [self._places[at] for at in weights.at]

    def _decision(self, weights: Weights, to: Configuration) -> Decision:
        return decided(self._places_of(weights), to)

    def _observed(self, weights: Weights) -> bool:
        return any(takes_moments(self._decision(weights, to)) for to in weights.unit.configurations)

    def _size(self, weights: Weights, to: Configuration, new: New) -> tuple[int, int]:
        """The numbers and the bytes of the new weights."""
        unit = weights.unit
        if new.fitted is None:
            return unit.numbers, sum(map(_stored_bytes, new.stored))
        added = Layer.of(self._places_of(weights)[0]).added_bytes(to, new)
        return _numbers_of(new.fitted, unit.numbers), unit.bytes + added


_MADE = ("_model", "_places", "_by_name", "_index", "_swapper", "_originals")
"""What a subject makes again in another process."""


def _has_functions(source: Path, configurations: Sequence[Configuration]) -> bool:
    """Whether new nodes can be edgefc's functions, if a candidate has some.

    A file with an old opset is converted only if a candidate needs it. If onnx cannot convert it, such candidates are
    left out.
    """
    groups = shared(find(read(source)))
    if not any(needs_function(decided(group, to)) for group in groups for to in served(group, configurations)):
        return False
    try:
        read(source, functions=True)
    except ModelError:
        return False
    return True


def _weights(
    places: Sequence[Place], configurations: Iterable[Configuration], smallest: int, *, functions: bool
) -> list[Weights]:
    index = {id(place): at for at, place in enumerate(places)}
    groups, given = shared(places), list(configurations)
    used = dict[str, int]()
    for group in groups:
        for name in {name for place in group for name in place.names}:
            used[name] = used.get(name, 0) + 1
    found = list[Weights]()
    for group in groups:
        tensors = tensors_of(group)
        numbers = sum(_count(root.value) for root in tensors)
        choices = served(group, given) if numbers >= smallest else ()
        choices = tuple(to for to in choices if functions or not needs_function(decided(group, to)))
        if choices:
            at = tuple(index[id(place)] for place in group)
            size = sum(root.bytes for root in tensors)
            unit = Unit(_name(group, used, at[0]), _before(group[0]), numbers, size, choices)
            found.append(Weights(unit, at, is_replaceable(group)))
    return found


def _name(group: Sequence[Place], used: Mapping[str, int], at: int) -> str:
    """A name that a plan can use for this unit only, or else one that no other unit has."""
    names = [name for place in group for name in place.names]
    return next((name for name in names if used[name] == 1), f"{names[0]} (place {at})")


def _before(place: Place) -> str:
    return f"{place.node.op_type} {' x '.join(map(str, place.shape))}"


def _count(value: ir.Value) -> int:
    return int(np.prod(tensor_of(value).shape.numpy()))


def _numbers(model: ir.Model) -> int:
    """The numbers that a model stores in initializers and constants."""
    total = sum(_count(value) for graph in model.graphs() for value in graph.initializers.values())
    nodes = (node for node in model.graph.all_nodes() if node.op_type == "Constant")
    return total + sum(_count(node.outputs[0]) for node in nodes if stored(node.outputs[0]))


def _stored_bytes(new: Stored) -> int:
    """The bytes of a tensor in another form, with its nodes."""
    if new.scales is None:
        return new.codes.nbytes + _CAST_BYTES
    bias = 0 if new.correction is None else 4 * new.correction.size
    return new.codes.nbytes + new.scales.nbytes + bias + _SCALED_BYTES


def _numbers_of(made: Fitted, whole: int) -> int:
    """The numbers of a fitted layer, without its bias. Codes count as the numbers that they stand for."""
    if isinstance(made, (HalfFit, QuantizedTableFit)):
        return whole
    if isinstance(made, QuantizedFit):
        return whole + made.down.size + made.up.size
    total = 0
    for field in fields(made):
        value = getattr(made, field.name)
        if isinstance(value, Fitted):
            total += _numbers_of(value, value.dense().size)
        elif isinstance(value, np.ndarray) and field.name != "bias":
            total += value.size
    return total


def _fingerprint(source: Path, units: Sequence[Unit], feeds: Iterable[Feeds], seed: int) -> str:
    """A hash of what the results of a sweep depend on."""
    state = hashlib.sha256(repr((__version__, seed, [*units])).encode())
    for path in (source, *weight_files(source)):
        state.update(path.read_bytes())
    for feed in feeds:
        for name in sorted(feed):
            array = np.asarray(feed[name])
            state.update(f"{name}{array.dtype}{array.shape}".encode())
            state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()

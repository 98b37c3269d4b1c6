"""Write the models of one case to files. A layer that cannot be made is listed with the reason."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgefc.bench import models, plan
from edgefc.bench.check import FLOAT32, INT4, INT8, Array, Check
from edgefc.bench.models import Competitor
from edgefc.bench.plan import Case
from edgefc.bench.record import NATIVE_INT8, LeftOut
from edgefc.catalogue import Entry
from edgefc.errors import EdgefcError, UsageError
from edgefc.runtime import Model

_QUANTISED: dict[str, tuple[Callable[[Path, Path], None], float]] = {
    plan.INT8: (models.quantise_int8, INT8),
    plan.INT8_BLOCKS: (partial(models.quantise_blocks, bits=8), INT8),
    plan.INT4: (partial(models.quantise_blocks, bits=4), INT4),
}

_SMALL = 8
"""The low-rank competitor has as many parameters as a layer with at most this part of those of dense."""


class Made:
    """The models of one case.

    Args:
        folder: where the .onnx files are written.
        tick: called after each layer.

    Attributes:
        competitors: the models that passed their check, the dense one first. Empty if the dense layer did not pass.
        left_out: the layers that are not among them, each with the reason.
    """

    def __init__(
        self, case: Case, folder: Path, check: Check | None = None, tick: Callable[[], object] = lambda: None
    ) -> None:
        self.case, self.folder, self.tick = case, folder, tick
        self.check = check or Check(case.n, (1,), 1)
        self.competitors: list[Competitor] = []
        self.left_out: list[LeftOut] = []
        self._largest = 0, ""
        torch.manual_seed(0)
        if case.block is None:
            self._linear()
        else:
            self._block(case.block)

    def _linear(self) -> None:
        case, dense = self.case, self.folder / "dense.onnx"
        with self._layer(plan.DENSE, "onnxruntime"):
            reference = self._reference(models.dense(case.n, case.m, dense))
            self._plain(plan.DENSE, dense, case.n * case.m, reference)
        if not self.competitors:
            return
        for name in (each for each in case.competitors if each in _QUANTISED):
            quantise, bound = _QUANTISED[name]
            path = self.folder / f"{name.replace(' ', '-')}.onnx"
            with self._layer(name, "onnxruntime"):
                quantise(dense, path)
                self._plain(name, path, case.n * case.m, reference, bound)
        for index, entry in enumerate(case.entries):
            if entry.linear is not None:
                make = partial(entry.linear, case.n, case.m)
                self._structured(entry, make, self.folder / f"layer{index}.onnx")
        if plan.LOW_RANK in case.competitors:
            with self._layer(plan.LOW_RANK, "onnxruntime"):
                self._low_rank()
                self.competitors.sort(key=lambda competitor: competitor.kernel != "onnxruntime")

    def _block(self, entry: Entry) -> None:
        """An entry and the dense model that it replaces."""
        path, n = self.folder / "dense.onnx", self.case.n
        with self._layer(plan.name_of(entry), None):
            with torch.device("meta"):
                weights = [p for p in entry.dense(n).parameters() if p.ndim > 1]
            count = sum(p.numel() for p in weights)
            if 4 * count > self.case.most_bytes:
                raise UsageError(f"the dense layers that it replaces take {4 * count / 1e9:.1f} GB; {self.case.hint}")
            dense = models.random_layer(partial(entry.dense, n))
            models.write_layer(entry, dense, n, path)
            self._plain(plan.dense_name(entry), path, count, self.check.layer(dense))
            self._structured(entry, partial(entry.make, n), self.folder / "layer.onnx")

    def _reference(self, chain: models.Chain) -> Array:
        return self.check.product(chain.weights, chain.bias)

    def _plain(
        self, name: str, path: Path, multiply_adds: int, reference: Array, bound: float = FLOAT32, note: str = ""
    ) -> None:
        """Add a model of onnxruntime's own operators."""
        size = models.weight_bytes(path)
        competitor = Competitor(name, "onnxruntime", Model(path, native="off"), size, multiply_adds, bound, note)
        self._add(competitor, reference)

    def _structured(self, entry: Entry, make: Callable[[], Any], path: Path) -> None:
        """Add the portable form of an entry, and the native form if it has a kernel."""
        name = plan.name_of(entry)
        with self._layer(name, None):
            layer: nn.Module = models.random_layer(make)
            models.write_layer(entry, layer, self.case.n, path)
            size, count = models.weight_bytes(path), layer.multiply_adds()  # type: ignore[operator]
            reference = self.check.layer(layer)
            numbers = sum(p.numel() for p in layer.parameters())
            if numbers * _SMALL <= self.case.n * self.case.m:
                self._largest = max(self._largest, (numbers, name))
            bound = INT8 if models.rounds_inputs(path) else FLOAT32
            portable = Competitor(name, "portable", Model(path, native="off"), size, count, bound)
            for competitor in (portable, *self._native(portable)):
                with self._recorded(competitor.layer, competitor.kernel):
                    self._add(competitor, reference)

    def _native(self, portable: Competitor) -> Iterator[Competitor]:
        path = Path(portable.model.path)
        missing = models.missing_kernel(path)
        if missing is not None:
            self._leave_out(portable.layer, "native", missing)
            return
        yield replace(portable, kernel="native", model=Model(path, native="on"))
        if models.gains_by_int8(path):
            model = Model(path, native="on", activation_dtype="int8")
            yield replace(portable, kernel=NATIVE_INT8, model=model, bound=INT8)

    def _add(self, competitor: Competitor, reference: Array) -> None:
        self.competitors.append(
            replace(competitor, errors=self.check.errors(competitor.model, reference, competitor.bound))
        )

    def _low_rank(self) -> None:
        """Add a low-rank layer with as many parameters as the largest layer that is _SMALL times smaller than dense."""
        n, m = self.case.n, self.case.m
        numbers, name = self._largest
        most = max(1, n * m // (n + m))
        rank = min(most, max(1, numbers // (n + m))) if numbers else most // 2 or 1
        equal = f"rank {rank}, as many numbers as {name}" if numbers else f"rank {rank}, half the numbers of dense"
        path = self.folder / "low-rank.onnx"
        reference = self._reference(models.low_rank(n, m, rank, path))
        note = equal if rank < most else f"rank {rank}, the largest that is smaller than dense"
        self._plain(plan.LOW_RANK, path, rank * (n + m), reference, note=note)

    @contextmanager
    def _layer(self, layer: str, kernel: str | None) -> Iterator[None]:
        """Call _recorded(), then tick()."""
        with self._recorded(layer, kernel):
            yield
        self.tick()

    @contextmanager
    def _recorded(self, layer: str, kernel: str | None) -> Iterator[None]:
        """Record an error as the reason why the layer is left out: for example, it fails its check."""
        try:
            yield
        except EdgefcError as error:
            self._leave_out(layer, kernel, str(error))

    def _leave_out(self, layer: str, kernel: str | None, reason: str) -> None:
        case = self.case
        self.left_out.append(LeftOut(layer=layer, kernel=kernel, n=case.n, m=case.m, batch=None, reason=reason))

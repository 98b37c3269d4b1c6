"""The models of one case as files, and what could not be made, each with its reason."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgefc.bench import models, plan
from edgefc.bench.models import Rival
from edgefc.bench.plan import Case
from edgefc.bench.record import NATIVE_INT8, LeftOut
from edgefc.catalogue import Entry
from edgefc.errors import EdgefcError, UsageError
from edgefc.runtime import Model


class Made:
    """rivals, the dense one first; left_out; tick() is called for each layer that is done."""

    def __init__(self, case: Case, folder: Path, tick: Callable[[], object] = lambda: None) -> None:
        self.case, self.folder, self.tick = case, folder, tick
        self.rivals: list[Rival] = []
        self.left_out: list[LeftOut] = []
        self._largest = 0, ""
        torch.manual_seed(0)
        if case.block is None:
            self._linear()
        else:
            self._block(case.block)

    def _linear(self) -> None:
        case, dense = self.case, self.folder / "dense.onnx"
        models.dense(case.n, case.m, dense)
        self._plain(plan.DENSE, dense, case.n * case.m)
        for name, quantise in ((plan.INT8, models.quantise_int8), (plan.INT4, models.quantise_int4)):
            if name in case.rivals:
                path = self.folder / f"{name.split()[0]}.onnx"
                with self._told(name, "onnxruntime"):
                    quantise(dense, path)
                    self._plain(name, path, case.n * case.m)
        for index, entry in enumerate(case.entries):
            if entry.linear is not None:
                make = partial(entry.linear, case.n, case.m)
                self._structured(entry, make, self.folder / f"layer{index}.onnx")
        if plan.LOW_RANK in case.rivals:
            with self._told(plan.LOW_RANK, "onnxruntime"):
                self._low_rank()
                self.rivals.sort(key=lambda rival: rival.kernel != "onnxruntime")

    def _block(self, entry: Entry) -> None:
        """An entry beside the model that it replaces."""
        path, n = self.folder / "dense.onnx", self.case.n
        with self._told(plan.name_of(entry), None):
            with torch.device("meta"):
                weights = [p for p in entry.dense(n).parameters() if p.ndim > 1]
            count = sum(p.numel() for p in weights)
            if 4 * count > self.case.most_bytes:
                raise UsageError(f"the dense layers that it replaces take {4 * count / 1e9:.1f} GB; {self.case.hint}")
            models.write_layer(entry, models.drawn(partial(entry.dense, n)), n, path)
            self._plain(plan.dense_name(entry), path, count)
            self._structured(entry, partial(entry.make, n), self.folder / "layer.onnx")

    def _plain(self, name: str, path: Path, multiply_adds: int, note: str = "") -> None:
        size = models.weight_bytes(path)
        self.rivals.append(Rival(name, "onnxruntime", Model(path, native="off"), size, multiply_adds, note))

    def _structured(self, entry: Entry, make: Callable[[], Any], path: Path) -> None:
        """Its portable form, and its native one where there is a kernel."""
        name = plan.name_of(entry)
        with self._told(name, None):
            layer: nn.Module = models.drawn(make)
            models.write_layer(entry, layer, self.case.n, path)
            size, count = models.weight_bytes(path), layer.multiply_adds()  # type: ignore[operator]
            portable = Rival(name, "portable", Model(path, native="off"), size, count)
            self.rivals.append(portable)
            numbers = sum(p.numel() for p in layer.parameters())
            self._largest = max(self._largest, (numbers, name))
            missing = models.missing_kernel(path)
            if missing is None:
                self.rivals.append(replace(portable, kernel="native", model=Model(path, native="on")))
                if models.gains_by_int8(path):
                    model = Model(path, native="on", activations="int8")
                    self.rivals.append(replace(portable, kernel=NATIVE_INT8, model=model))
            else:
                self._leave_out(name, "native", missing)

    def _low_rank(self) -> None:
        """With as many numbers as the largest of the structured layers trains, and never more than dense."""
        n, m = self.case.n, self.case.m
        numbers, name = self._largest
        most = max(1, n * m // (n + m))
        rank = min(most, max(1, numbers // (n + m))) if numbers else most // 2 or 1
        equal = f"rank {rank}, as many numbers as {name}" if numbers else f"rank {rank}, half the numbers of dense"
        path = self.folder / "low-rank.onnx"
        models.low_rank(n, m, rank, path)
        note = equal if rank < most else f"rank {rank}, the largest that is smaller than dense"
        self._plain(plan.LOW_RANK, path, rank * (n + m), note)

    @contextmanager
    def _told(self, layer: str, kernel: str | None) -> Iterator[None]:
        """A layer that cannot have this size is left out with the sentence that it says."""
        try:
            yield
        except EdgefcError as error:
            self._leave_out(layer, kernel, str(error))
        self.tick()

    def _leave_out(self, layer: str, kernel: str | None, reason: str) -> None:
        case = self.case
        self.left_out.append(LeftOut(layer=layer, kernel=kernel, n=case.n, m=case.m, batch=None, reason=reason))

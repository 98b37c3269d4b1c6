"""The statistics of the inputs of layers, for one pass over the calibration data at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from edgefc.replacing.finding import CONVOLUTION, LINEAR, TABLE, Target
from edgefc.replacing.resuming import Store
from edgefc.replacing.statistics import Batch, Group, Pass, Statistics, groups_of, passes_of


class Inputs:
    """The statistics of the inputs of some layers. Those of one pass are in memory at a time.

    Attributes:
        order   the targets in the order of the passes; those without statistics last
    """

    def __init__(
        self, model: nn.Module, targets: Sequence[Target], batches: Sequence[Batch], memory: int, folder: Path | None
    ) -> None:
        """`folder` keeps the statistics."""
        self._model, self._batches = model, batches
        self._store = None if folder is None else Store(folder, model, batches)
        observed = [each for each in targets if each.kind in (LINEAR, CONVOLUTION, TABLE)]
        self._passes = list(passes_of(groups_of(model, observed, batches[0]), memory)) if observed else []
        self._now: tuple[int, Mapping[Target, Statistics]] = (-1, {})
        self._pass = {target: at for at, part in enumerate(self._passes) for group in part for target in group.members}
        self.order = sorted(targets, key=lambda target: self._pass.get(target, len(self._passes)))

    def of(self, target: Target) -> Statistics:
        """The statistics of a target; None if it has none, or got no inputs."""
        at = self._pass.get(target)
        if at is None:
            return None
        if at != self._now[0]:
            self._now = (-1, {})  # frees the memory first
            collected = self._collected(at, self._passes[at])
            self._now = (at, {each: known for each, known in collected.of().items() if known.count})
        return self._now[1].get(target)

    def _collected(self, at: int, groups: Sequence[Group]) -> Pass:
        if self._store is not None:
            return self._store.run(at, groups, self._model, self._batches)
        collected = Pass(list(groups))
        collected.run(self._model, self._batches)
        return collected


class GivenInputs:
    """Statistics that were collected before, of some targets."""

    def __init__(self, known: Mapping[Target, Statistics]) -> None:
        self._known = known

    def of(self, target: Target) -> Statistics:
        return self._known.get(target)

"""Makes the new layers of a model, with the statistics of their inputs pass by pass."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from edgefc.errors import UsageError
from edgefc.progress import steps
from edgefc.replacing import distributed
from edgefc.replacing.deciding import Decision
from edgefc.replacing.finding import CONVOLUTION, LINEAR, TABLE, Target
from edgefc.replacing.making import Made, make_fitted, make_new
from edgefc.replacing.resuming import Store
from edgefc.replacing.rivals import Rival, rival_of
from edgefc.replacing.statistics import Batch, Pass, Statistics, groups_of, passes_of
from edgefc.timing import Steps


class Work:
    """The new layers of a model.

    Attributes:
        made      the new layer of each decision that can be carried out. The others have a reason.
        rivals    what quantisation does at the bytes of a structured layer, for one layer of each configuration
        unseen    layers that did not run on the calibration data
    """

    def __init__(self, model: nn.Module, decisions: Sequence[Decision], measured: Steps) -> None:
        self.model, self.decisions, self.measured = model, decisions, measured
        self.made: dict[Decision, Made] = {}
        self.rivals: dict[Decision, Rival] = {}
        self.unseen: list[Decision] = []

    def create(self) -> None:
        """Makes the layers with initial values. They and the seeds of layers are drawn from torch's generator."""
        with self.measured.step("make layers"):
            for decision in self._open():
                self._make(decision, _new)

    def fit(self, batches: Sequence[Batch], memory: int, folder: Path | None) -> None:
        """Fits the layers to the trained ones and, if there are batches, to the inputs that these get.

        `folder` keeps the statistics.
        """
        waiting = self._open()
        if batches:
            observed = {each.target: each for each in waiting if each.target.kind in (LINEAR, CONVOLUTION, TABLE)}
            with self.measured.step("read calibration data"):
                groups = groups_of(self.model, list(observed), batches[0])
                store = None if folder is None else Store(folder, self.model, batches)
            for index, part in enumerate(passes_of(groups, memory)):
                with self.measured.step("read calibration data"):
                    if store is not None:
                        collected = store.run(index, part, self.model, batches)
                    else:
                        collected = Pass(part)
                        collected.run(self.model, batches)
                    collected.statistics = [distributed.merged(each) for each in collected.statistics]
                statistics = {target: each for target, each in collected.of().items() if each.count}
                self._fit([observed[target] for target in statistics], statistics)
                waiting = [each for each in waiting if each.target not in statistics]
            self.unseen = [each for each in waiting if each.target in observed]
        self._fit(waiting, {})

    def _fit(self, decisions: Sequence[Decision], statistics: Mapping[Target, Statistics]) -> None:
        with self.measured.step("fit layers"):
            for decision in steps(decisions, "fitting layers"):
                given = statistics.get(decision.target)
                self._make(decision, functools.partial(_fitted, given))
                made = self.made.get(decision)
                if made is not None and decision.configuration not in {each.configuration for each in self.rivals}:
                    rival = rival_of(decision, made, given)
                    if rival is not None:
                        self.rivals[decision] = rival

    def _make(self, decision: Decision, how: Callable[[Decision], Made]) -> None:
        try:
            self.made[decision] = how(decision)
        except UsageError as error:
            decision.reason = str(error).rstrip(".")
        except np.linalg.LinAlgError as error:
            decision.reason = f"the fit failed: {error}"

    def _open(self) -> list[Decision]:
        return [each for each in self.decisions if not each.reason]


def _new(decision: Decision) -> Made:
    rotates = getattr(decision.configuration, "rotate", False)
    return Made(make_new(decision.target, decision.configuration, decision.seed if rotates else None))


def _fitted(statistics: Statistics, decision: Decision) -> Made:
    return make_fitted(decision.target, decision.configuration, statistics, decision.seed)

"""Refits layers in the order in which they run, to the outputs of the original model.

A replaced layer gets other inputs than the original one, because the layers before it are replaced too. Its refit
minimises the distance of its outputs from those of the original layer in the original model (fitting/sequential.py).

The layers are divided into stages, in the order in which they first run. For each stage the original and the replaced
model run on the same batches in turn, each up to the last layer of the stage. Both are one model, whose layers are
exchanged in between, so that the memory is that of one model and of the moments of one stage.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from torch import Tensor, nn

from edgefc.errors import CheckFailed, UsageError
from edgefc.fitting.sequential import PairedMoments
from edgefc.progress import steps
from edgefc.replacing import distributed
from edgefc.replacing.deciding import Decision
from edgefc.replacing.finding import LINEAR, Target
from edgefc.replacing.making import Made, make_refitted
from edgefc.replacing.measuring import bytes_of
from edgefc.replacing.report import OutputReport
from edgefc.replacing.statistics import (
    Batch,
    Group,
    call,
    evaluating,
    groups_of,
    hooked,
    mask_of,
    passes_of,
    rows_of,
)
from edgefc.replacing.surgery import Surgery

_STAGES = 24
"""The stages of a model at most, unless their moments need more memory. Stages of deep models have several inputs."""

_RATIO = 4
"""Layers that compress less are near their original, and so are the inputs of what follows."""

Outputs = tuple[OutputReport, ...]


class _Reached(BaseException):
    """The last layer of a stage has run. Not an Exception, so that no model catches it."""


def check_batches(batches: Sequence[Batch]) -> None:
    """Checks that a batch can be held out, to show whether the refit helps.

    Raises:
        UsageError: there are less than two batches.
    """
    if len(batches) < 2:
        raise UsageError(
            f"sequential=True compares the outputs on a batch that is held out, and calibration has {len(batches)}. "
            "Give at least two batches."
        )


class Refit:
    """Refits layers of a model whose new layers are in place.

    Attributes:
        open   the layers that can be refitted: linear layers whose weights take at most a quarter of the bytes
        made   the refitted layer of each decision
    """

    def __init__(self, surgery: Surgery, original: int, made: Mapping[Decision, Made]) -> None:
        """`original` is the number of changes after which the model still had its own layers."""
        self._surgery, self._original, self._first = surgery, original, surgery.count
        self._placed = made
        self.open = [each for each, new in made.items() if _compresses(each, new)]
        self.made: dict[Decision, Made] = {}

    def run(self, batches: Sequence[Batch], memory: int) -> None:
        """Refits the layers and puts them into the model.

        Raises:
            CheckFailed: a layer of the replaced model gets values that are not finite.
        """
        by_target = {each.target: each for each in self.open}
        with self._surgery.undone(self._original):
            groups = groups_of(self._surgery.model, list(by_target), batches[0])
        stages = list(_stages(groups, memory))
        for index, stage in enumerate(stages):
            paired = self._paired(stage, by_target, steps(batches, f"refitting layers, {index + 1} of {len(stages)}"))
            for group in stage:
                moments = paired.pop(group.leader, None)
                for member in group.members:
                    if moments is not None and moments.moments.count:
                        self._refit(by_target[member], moments)

    def better(self, first: Outputs, refitted: Outputs) -> Outputs:
        """Returns the outputs with the smaller error, over all ranks. If these are the first ones, undoes the refit."""
        if _error(refitted) < _error(first):
            return refitted
        self._surgery.undo(self._first)
        self.made = {}
        return first

    def _refit(self, decision: Decision, paired: PairedMoments) -> None:
        try:
            made = make_refitted(decision.target, decision.configuration, paired, decision.seed)
        except (UsageError, np.linalg.LinAlgError):
            return  # the first fit stays
        self.made[decision] = made
        for name in decision.target.names:
            self._surgery.put(name, made.layer)

    def _paired(
        self, stage: Sequence[Group], by_target: Mapping[Target, Decision], batches: Any
    ) -> dict[Target, PairedMoments]:
        """The moments of each leader. Not if both models give it the same inputs, for which it is fitted already.

        Nor if the numbers of inputs differ, as in a mixture of experts.
        """
        calls = {group.leader: group.calls for group in stage}
        result = {group.leader: PairedMoments(group.width) for group in stage}
        own = {target: target.module for target in calls}
        new = {target: self._layer(by_target[target]) for target in calls}
        unpaired: set[Target] = set()
        moved: set[Target] = set()
        for batch in batches:
            with self._surgery.undone(self._original):
                theirs = self._inputs(own, calls, batch)
            ours = self._inputs(new, calls, batch)
            for target in result:
                first, second = theirs[target], ours[target]
                if [len(each) for each in first] != [len(each) for each in second]:
                    unpaired.add(target)
                if target in unpaired:
                    continue
                for x, z in zip(first, second, strict=True):
                    if not np.isfinite(z).all():
                        raise CheckFailed(
                            f"{target.name} of the replaced model gets values that are not finite. Use more bits."
                        )
                    if not np.array_equal(x, z):
                        moved.add(target)
                    result[target].add(x, z)
        kept = [each for each in result if _on_any_rank(each in moved) and not _on_any_rank(each in unpaired)]
        return {target: distributed.merged_pairs(result[target]) for target in kept}

    def _layer(self, decision: Decision) -> nn.Module:
        return self._placed[decision].layer

    def _inputs(
        self, modules: Mapping[Target, nn.Module], calls: Mapping[Target, int], batch: Batch
    ) -> dict[Target, list[Any]]:
        """The inputs of the modules in one call of the model, which ends when all of them have run."""
        found: dict[Target, list[Any]] = {target: [] for target in modules}
        mask, model = mask_of(batch), self._surgery.model

        def note(target: Target, x: Tensor) -> None:
            found[target] += [rows.reshape(-1, rows.shape[-1]) for rows in rows_of(target, x, mask)]
            if all(len(found[each]) >= count for each, count in calls.items()):
                raise _Reached

        with hooked(modules, note), evaluating(model), suppress(_Reached):
            call(model, batch)
        return found


def _stages(groups: Sequence[Group], memory: int) -> Iterator[list[Group]]:
    count = min(_STAGES, len(groups))
    for index in range(count):
        part = groups[index * len(groups) // count : (index + 1) * len(groups) // count]
        yield from passes_of(part, memory // 2)  # paired moments are twice as large


def _compresses(decision: Decision, new: Made) -> bool:
    """Whether the weights take at most a quarter of the bytes. The bias stays."""
    module = decision.target.module
    if decision.target.kind != LINEAR:
        return False
    bias = getattr(module, "bias", None)
    kept = 0 if bias is None else bias.nbytes
    return bytes_of(module) - kept >= _RATIO * (bytes_of(new.layer) - kept)


def _on_any_rank(condition: bool) -> bool:
    return distributed.total(float(condition)) > 0


def _error(outputs: Outputs) -> float:
    return distributed.total(sum(each.error**2 for each in outputs))

"""The training: steps, evaluations, trials of learning rates, and the best state."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.progress import Portion, portion
from edgefc.replacing.statistics import Batch, evaluating
from edgefc.training import ranks, schedule
from edgefc.training.adam import Adam
from edgefc.training.checkpoint import Store
from edgefc.training.data import Data
from edgefc.training.losses import HeldOut, training_loss
from edgefc.training.report import Evaluation
from edgefc.training.schedule import TRIAL, Budget, Phase
from edgefc.training.student import Student, local
from edgefc.training.teacher import HIDDEN, Teacher, outputs_of

Metric = Callable[[nn.Module], float]

_EVERY = 0.05
"""The part of the budget between two evaluations."""
_SHARE = 10
"""Training takes at least this many times as long as evaluating."""
_PATIENCE = 5
"""After this many evaluations in a row without a better one, training goes on from the best state at a lower rate."""
_CUTS, _CUT = 2, 3.0
"""How often it does, and by what the rate is divided. Then it ends."""


@dataclass
class Progress:
    """What a checkpoint holds beside tensors.

    Attributes:
        drawn  batches read
        due    the used part of the budget at which the student is evaluated next
        tried  the learning rates that were tried, with the number of the evaluation at the end of each trial
        best   the number of the best evaluation
        cuts   the numbers of the evaluations after which the rate was cut
    """

    drawn: int = 0
    due: float = 0.0
    tried: list[tuple[float, int]] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    best: int = 0
    cuts: list[int] = field(default_factory=list)
    stopped: str = ""


class Loop:
    """A training that can be saved and continued."""

    def __init__(
        self,
        student: Student,
        teacher: Teacher,
        data: Data,
        held_out: Sequence[Batch],
        budget: Budget,
        rates: tuple[float, ...],
        *,
        common: Sequence[str],
        metric: Metric | None,
        amp: bool,
        accumulate: int,
        store: Store | None,
    ) -> None:
        self.student, self.teacher, self.data, self.held_out = student, teacher, data, held_out
        self.judge = Teacher(teacher.model, ())
        self.budget, self.rates, self.common = budget, rates, common
        self.metric, self.amp, self.accumulate, self.store = metric, amp, accumulate, store
        self.progress = Progress()
        self.start = student.snapshot()
        self.best = self.start
        self._reserve = 0.0  # seconds of an evaluation
        self._begin()

    @property
    def lr(self) -> float:
        """The learning rate of the main phase."""
        tried = [(self._score(self.progress.evaluations[at]), rate) for rate, at in self.progress.tried]
        if not tried:
            return self.rates[-1]
        return max(tried)[1] if self.progress.best else min(rate for _, rate in tried) / 3

    def run(self) -> None:
        """Trains until the budget is used, and leaves the student in its best state, also after an exception."""
        try:
            with portion("distilling") as show:
                if not self._resumed():
                    self._evaluate()
                while not self.progress.stopped:
                    self._run(self._phase(), show)
        finally:
            self.student.restore(self.best)

    def _phase(self) -> Phase:
        done = len(self.progress.tried)
        if len(self.rates) > 1 and done < len(self.rates):
            return Phase(done * TRIAL, (done + 1) * TRIAL, self.rates[done], trial=True)
        return Phase(done * TRIAL, 1.0, self.lr / _CUT ** len(self.progress.cuts))

    def _run(self, phase: Phase, show: Portion) -> None:
        """Trains until the end of a phase."""
        stream = self.data.stream(self.progress.drawn)
        while (used := ranks.agreed(self.budget.used(self._reserve))) < phase.end:
            show(used, str(self.progress.evaluations[-1]))
            self._step([next(stream) for _ in range(self.accumulate)], phase.rate(used))
            if used >= self.progress.due:
                self._evaluate()
                if not phase.trial and self._is_stale():
                    self._cut()
                    return
            if self.store is not None and self.store.is_due():
                self._save(self.store)
        if self.progress.evaluations[-1].step != self.budget.step:
            self._evaluate()
        if phase.trial:
            self.progress.tried.append((phase.lr, len(self.progress.evaluations) - 1))
            last = len(self.progress.tried) == len(self.rates)
            self.student.restore(self.best if last else self.start)
            self._begin()
            if last:
                self.start = self.best  # frees the memory
        else:
            self._finish("steps" if self.budget.steps is not None else "time")

    def _cut(self) -> None:
        """Goes on from the best state with a lower rate, or ends."""
        if len(self.progress.cuts) == _CUTS:
            self._finish("early")
            return
        self.progress.cuts.append(len(self.progress.evaluations) - 1)
        self.student.restore(self.best)
        self._begin()

    def _finish(self, why: str) -> None:
        self.progress.stopped = why
        if self.store is not None:
            self._save(self.store)

    def _begin(self) -> None:
        """A new optimizer."""
        self.optimizer = Adam([local(each).detach() for each in self.student.parameters])

    def _step(self, batches: Sequence[tuple[Batch, int | None]], rate: float) -> None:
        """One step of the optimizer. A step whose gradient is not finite is left out."""
        for parameter in self.student.parameters:
            parameter.grad = None
        for batch, key in batches:
            with training(self.student.model), self._autocast():
                theirs = self.teacher.of(batch, key)
                ours = outputs_of(self.student.model, batch, self.teacher.hidden, gradients=True)
            targets = {name: theirs[name].to(ours[name].device) for name in self.common}
            hidden = {name for name in self.common if name.startswith(HIDDEN)}
            torch.autograd.backward(training_loss(ours, targets, hidden) / len(batches))
        self.progress.drawn += len(batches)
        self.student.average_gradients()
        if math.isfinite(self.student.cut_gradients()):
            self.optimizer.step(*self.student.values_and_gradients(), rate)
        self.budget.step += 1

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.student.device.type, torch.bfloat16) if self.amp else nullcontext()

    def _evaluate(self) -> None:
        """Evaluates the student, and keeps its state if it is the best."""
        begin = schedule.clock()
        outputs = [name for name in self.common if not name.startswith(HIDDEN)]
        held = HeldOut(outputs)
        with evaluating(self.student.model), torch.no_grad():
            for index, batch in enumerate(self.held_out):
                held.add(outputs_of(self.student.model, batch), self.judge.of(batch, index))
            metric = None if self.metric is None else _number(self.metric(self.student.given))
        losses = held.losses(ranks.totals)
        evaluation = Evaluation(
            self.budget.step,
            self.budget.elapsed(),
            sum(losses) / len(losses) if losses else None,
            None if metric is None else ranks.agreed(metric),
        )
        seconds = ranks.agreed(schedule.clock() - begin)
        self._reserve = seconds
        progress = self.progress
        progress.evaluations.append(evaluation)
        share = 0.0 if self.budget.limit is None else _SHARE * seconds / self.budget.limit
        progress.due = ranks.agreed(self.budget.used(self._reserve)) + max(_EVERY, share)
        if len(progress.evaluations) == 1 or self._score(evaluation) > self._score(progress.evaluations[progress.best]):
            progress.best = len(progress.evaluations) - 1
            self.best = self.student.snapshot() if progress.best else self.start

    def _score(self, evaluation: Evaluation) -> float:
        """Higher is better."""
        value = evaluation.metric if evaluation.metric is not None else -(evaluation.loss or 0.0)
        return value if math.isfinite(value) else -math.inf

    def _is_stale(self) -> bool:
        begin = max([self.progress.best, *self.progress.cuts, *(at for _, at in self.progress.tried)])
        return len(self.progress.evaluations) - 1 - begin >= _PATIENCE

    def _save(self, store: Store) -> None:
        tensors: dict[str, Tensor] = {}
        for name, values in (("now", self.student.parameters), ("best", self.best)):
            tensors |= {f"{name}.{index}": local(each).detach() for index, each in enumerate(values)}
        tensors |= {f"adam.{name}": each for name, each in self.optimizer.tensors().items()}
        store.write(tensors, {**asdict(self.progress), "step": self.budget.step, "seconds": self.budget.elapsed()})

    def _resumed(self) -> bool:
        """Whether there was a saved state, which the training now has."""
        found = None if self.store is None else self.store.read()
        if self.store is None or found is None:
            return False
        with self.store.reading():
            self._continue(*found)
        return True

    def _continue(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Sets the state to a saved one."""
        self.budget.step, self.budget.before = record.pop("step"), record.pop("seconds")
        evaluations = [Evaluation(**each) for each in record.pop("evaluations")]
        tried = [(rate, at) for rate, at in record.pop("tried")]
        self.progress = Progress(**record, tried=tried, evaluations=evaluations)
        count = range(len(self.student.parameters))
        self.student.restore([tensors[f"now.{index}"] for index in count])
        self.best = [tensors[f"best.{index}"] for index in count] if self.progress.best else self.start
        self.optimizer.load({name.removeprefix("adam."): each for name, each in tensors.items()})


@contextmanager
def training(model: nn.Module) -> Iterator[None]:
    """Eval mode, in which nothing is random and batch norms do not change. cuDNN has gradients of LSTMs, GRUs and RNNs
    in training mode only, so these are in that mode, without dropout."""
    recurrent = [(each, each.dropout) for each in model.modules() if isinstance(each, nn.RNNBase)]
    with evaluating(model):
        try:
            for module, _ in recurrent:
                module.training, module.dropout = True, 0.0
            yield
        finally:
            for module, dropout in recurrent:
                module.dropout = dropout


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"metric returned {value!r}. Return a number, of which a higher one is better.") from None

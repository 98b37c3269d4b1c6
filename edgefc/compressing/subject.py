"""A torch model whose layers can be replaced: the subject of edgefc.choosing."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from edgefc.choosing.subject import Choices, Swap, Unit
from edgefc.compressing.inputs import GivenInputs, Inputs
from edgefc.compressing.measures import Metric, loss_between, metric_of
from edgefc.compressing.prefix import Prefix
from edgefc.compressing.samples import Samples
from edgefc.errors import CheckFailed, UsageError, describe_error
from edgefc.plan.configurations import Configuration
from edgefc.plan.rules import configuration_record
from edgefc.replacing.deciding import Decision, describe
from edgefc.replacing.making import Made, make_fitted, make_new
from edgefc.replacing.measuring import Outputs, bytes_of, numbers_of, outputs_of
from edgefc.replacing.replacing import install, open_attentions
from edgefc.replacing.resuming import hash_of
from edgefc.replacing.surgery import Surgery


class TorchSubject:
    """A torch model whose layers can be replaced. While it exists, the attentions of the model are open.

    Plans are measured on all samples for choosing, single layers on every second batch of them: the losses of layers
    differ by so much that fewer samples give the same plan.

    Implements edgefc.choosing.subject.Subject.
    """

    def __init__(
        self,
        surgery: Surgery,
        layers: Sequence[Mapping[Configuration, Decision]],
        samples: Samples,
        *,
        metric: Metric | None = None,
        seed: int = 0,
        memory: int,
        folder: Path | None = None,
    ) -> None:
        """`layers` has what each layer can become. `folder` keeps the statistics of the inputs."""
        self._surgery, self._batches, self._metric = surgery, samples.choosing, metric
        self._few = self._batches[::2]
        every = [decision for each in layers for decision in each.values()]
        open_attentions(surgery, every)
        self._base = surgery.count
        model = surgery.model
        by_target = {next(iter(each.values())).target: each for each in layers}
        self._inputs: Inputs | GivenInputs = Inputs(model, list(by_target), samples.fitting, memory, folder)
        self._decisions = {target.name: by_target[target] for target in self._inputs.order}
        self.units: Sequence[Unit] = [_unit(each) for each in self._decisions.values()]
        self.other_numbers = numbers_of(model) - sum(unit.numbers for unit in self.units)
        self.other_bytes = bytes_of(model) - sum(unit.bytes for unit in self.units)
        settings = [[unit.name, [configuration_record(each) for each in unit.configurations]] for unit in self.units]
        parts = [list(each) for each in (samples.fitting, self._batches, self._few)]
        self.fingerprint = hash_of([model.state_dict(), parts, settings, seed])
        self._original = outputs_of(model, self._batches)
        self._prefix: Prefix | None = None
        self._made: dict[tuple[str, Configuration], Made] = {}

    def swaps(self, unit: Unit) -> list[Swap]:
        self._surgery.undo(self._base)
        prefix = self._prefix = self._prefix or self._new_prefix()
        prefix.check(unit.name)
        found = []
        for configuration, decision in self._decisions[unit.name].items():
            try:
                statistics = self._inputs.of(decision.target)
                made = make_fitted(decision.target, configuration, statistics, decision.seed, plain=False)
                self._made[unit.name, configuration] = made
                loss = self._loss({unit.name: configuration}, prefix.original, lambda: prefix.run(unit.name))
            except (UsageError, np.linalg.LinAlgError):
                continue  # it cannot be fitted, or the model does not run with it
            if np.isfinite(loss):
                sizes = numbers_of(made.layer), bytes_of(made.layer)
                found.append(Swap(unit.name, configuration, loss, made.error, *sizes))
        return found

    def loss(self, choices: Choices) -> float:
        return self._loss(choices, self._original, lambda: outputs_of(self._surgery.model, self._batches))

    def metric(self, choices: Choices) -> float | None:
        if self._metric is None:
            return None
        with self._placed(choices):
            return metric_of(self._metric, self._surgery.model)

    def pack(self, unit: Unit) -> bytes:
        tensors: dict[str, Tensor] = {}
        for index, configuration in enumerate(self._decisions[unit.name]):
            made = self._made.get((unit.name, configuration))
            state = {} if made is None else made.layer.state_dict()
            tensors |= {f"{index}.{name}": value.detach().cpu().clone() for name, value in state.items()}
        return save_tensors(tensors)

    def unpack(self, unit: Unit, content: bytes) -> None:
        try:
            states: dict[int, dict[str, Tensor]] = {}
            for name, value in load_tensors(content).items():
                at, _, rest = name.partition(".")
                states.setdefault(int(at), {})[rest] = value
            for index, (configuration, decision) in enumerate(self._decisions[unit.name].items()):
                if index in states:
                    layer = make_new(decision.target, configuration, decision.seed)
                    layer.load_state_dict(states[index])
                    self._made[unit.name, configuration] = Made(layer)
        except Exception as error:  # of safetensors, which share no base class
            raise UsageError(
                f"the fits of {unit.name} are damaged: {describe_error(error)}. Remove the folder."
            ) from None

    def part(self, units: Sequence[Unit]) -> "TorchSubject":
        decisions = [decision for unit in units for decision in self._decisions[unit.name].values()]
        other = copy.copy(self)
        other._inputs = GivenInputs({each.target: self._inputs.of(each.target) for each in decisions})
        other._made, other._metric, other._prefix = {}, None, None
        return other

    def made(self, choices: Choices) -> dict[Decision, Made]:
        """The fitted layers of a plan."""
        return {self._decisions[name][to]: self._made[name, to] for name, to in choices.items()}

    def change(self) -> float:
        """The loss of the model as it is now."""
        return loss_between(self._original, outputs_of(self._surgery.model, self._batches))

    def _loss(self, choices: Choices, before: Sequence[Outputs], run: Callable[[], list[Outputs]]) -> float:
        with self._placed(choices):
            try:
                return loss_between(before, run())
            except CheckFailed:
                return float("inf")

    def _new_prefix(self) -> Prefix:
        layers = {name: next(iter(each.values())).target.module for name, each in self._decisions.items()}
        return Prefix(self._surgery.model, self._few, layers)

    @contextmanager
    def _placed(self, choices: Choices) -> Iterator[None]:
        """Within the block, the model has the layers of a plan."""
        self._surgery.undo(self._base)
        try:
            install(self._surgery, self.made(choices))
            yield
        finally:
            self._surgery.undo(self._base)


def _unit(decisions: Mapping[Configuration, Decision]) -> Unit:
    target = next(iter(decisions.values())).target
    parts: list[nn.Module] = [target.module]
    if target.pair is not None:
        parts = [target.module.get_submodule(path) for path in (target.pair.first, target.pair.second)]
    numbers, size = (sum(map(count, parts)) for count in (numbers_of, bytes_of))
    return Unit(target.name, describe(target.module), numbers, size, tuple(decisions))

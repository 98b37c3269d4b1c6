"""Decides what each layer of a model becomes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from edgefc.errors import UsageError
from edgefc.plan.configurations import PRP, Configuration, Keep, Tied
from edgefc.plan.rules import Plan, configuration_text
from edgefc.replacing.finding import BOTTLENECK, CONVOLUTION, LINEAR, PAIR, RECURRENT, TABLE, Target
from edgefc.replacing.making import Made, kinds_of, serves
from edgefc.replacing.measuring import bytes_of, numbers_of
from edgefc.replacing.report import LayerReport

_ROTATION_SEED = 0
"""All rotated layers have one seed, so that layers with one input, such as queries and keys, rotate it alike."""


_PLURAL = {
    LINEAR: "linear layers", CONVOLUTION: "convolutions", TABLE: "embeddings", RECURRENT: "LSTMs",
    PAIR: "feed-forward pairs", BOTTLENECK: "residual bottlenecks",
}  # fmt: skip


@dataclass(eq=False)
class Decision:
    """A layer that a rule names. reason: why it stays; empty if it is replaced."""

    target: Target
    configuration: Configuration
    seed: int
    reason: str = ""

    def report(self, made: Made | None, *, refitted: bool = False) -> LayerReport:
        module = self.target.module
        whole = isinstance(module, nn.Module) and not any(each.is_meta for each in module.parameters())
        before = (numbers_of(module), bytes_of(module)) if whole else (0, 0)
        report = LayerReport(
            name=self.target.name,
            shared=self.target.names[1:],
            before=describe(module),
            to=configuration_text(self.configuration),
            reason=self.reason,
            numbers_before=before[0],
            numbers_after=before[0],
            bytes_before=before[1],
            bytes_after=before[1],
        )
        if made is None:
            return report
        return dataclasses.replace(
            report,
            after=_class(made.layer),
            numbers_after=numbers_of(made.layer),
            bytes_after=bytes_of(made.layer),
            error=made.error,
            error_plain=made.error_plain,
            refitted=refitted,
        )


def decide(targets: Sequence[Target], plan: Plan) -> list[Decision]:
    """Returns the layers that a rule gives another configuration than Keep.

    Raises:
        UsageError: a rule decides nothing, or a layer with several names gets several configurations.
    """
    assigned = plan.assign([candidate for target in targets for candidate in target.candidates()])
    chosen = {target: _configuration(target, assigned) for target in targets}
    decisions = []
    taken: set[nn.Module] = set()
    for target in targets:
        if target.kind not in (PAIR, BOTTLENECK) or not isinstance(chosen[target], Tied):
            continue
        inner = _inner(target)
        others = [each for each in targets if each.module in inner and each is not target]
        if all(isinstance(chosen[each], Tied | None) for each in others):
            problem = next((each.problem for each in others if each.problem), target.problem)
            decisions.append(Decision(target, Tied(), 0, problem or ""))
            taken |= inner
    for index, target in enumerate(targets):
        configuration = chosen[target]
        if configuration is None or isinstance(configuration, Keep) or target.kind in (PAIR, BOTTLENECK):
            continue
        if target.module in taken and isinstance(configuration, Tied):
            continue
        decisions.append(Decision(target, configuration, seed_of(configuration, index), _reason(target, configuration)))
    return decisions


def seed_of(configuration: Configuration, index: int) -> int:
    """The seed of a layer; `index` is that of its target among all of the model."""
    return _ROTATION_SEED if getattr(configuration, "rotate", False) else index


def describe(module: nn.Module) -> str:
    """A layer in a few words, such as "Linear 384 to 1536"."""
    name = type(module).__name__
    for first, second in (
        ("in_features", "out_features"), ("nx", "nf"), ("in_channels", "out_channels"),
        ("num_embeddings", "embedding_dim"), ("input_size", "hidden_size"),
    ):  # fmt: skip
        if isinstance(getattr(module, first, None), int):
            return f"{name} {getattr(module, first)} to {getattr(module, second)}"
    return name


def _configuration(target: Target, assigned: dict[str, Configuration]) -> Configuration | None:
    given = [assigned[name] for name in target.names if name in assigned]
    given = given or [assigned[name] for name in target.aliases if name in assigned]
    if any(other != given[0] for other in given):
        listed = ", ".join(f"{name} becomes {assigned[name]}" for name in target.names if name in assigned)
        raise UsageError(f"one layer has several names, for which the plan differs: {listed}. Give all names one rule.")
    if given and target.kind in (PAIR, BOTTLENECK) and not isinstance(given[0], Tied):
        return None
    return given[0] if given else None


def _inner(target: Target) -> set[nn.Module]:
    """The layers that the new layer replaces."""
    if target.pair is not None:
        return {target.module.get_submodule(path) for path in (target.pair.first, target.pair.second)}
    return {each for each in target.module.modules() if isinstance(each, nn.Conv2d)}


def _reason(target: Target, configuration: Configuration) -> str:
    if target.problem is not None:
        return target.problem
    if serves(configuration, target.kind):
        ignored = isinstance(configuration, PRP) and configuration.rank and target.kind != LINEAR
        return "only PRP of linear layers has a low-rank part. Leave rank out" if ignored else ""
    if target.kind == LINEAR and isinstance(configuration, Tied):
        return "it is not part of a feed-forward pair, which Tied replaces"
    *others, last = [_PLURAL[kind] for kind in kinds_of(configuration)]
    return f"{configuration.kind} replaces {', '.join(others)}{' and ' if others else ''}{last}"


def _class(layer: nn.Module) -> str:
    if isinstance(layer, nn.Sequential):
        return " + ".join(type(part).__name__ for part in layer)
    return type(layer).__name__

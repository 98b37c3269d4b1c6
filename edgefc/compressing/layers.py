"""The layers of a model, each with what it can become."""

from collections.abc import Mapping, Sequence

from torch import nn

from edgefc.compressing.candidates import DEFAULT, TRAINED, candidates_of
from edgefc.errors import UsageError
from edgefc.plan.configurations import Configuration
from edgefc.plan.rules import Plan
from edgefc.replacing.deciding import Decision, decide, seed_of
from edgefc.replacing.finding import BOTTLENECK, PAIR, Target, find
from edgefc.replacing.making import serves
from edgefc.replacing.measuring import bytes_of

_SMALL = 0.005
"""The smallest layers, which have this part of the bytes together, stay: measuring one takes as long as a large one."""

Layer = Mapping[Configuration, Decision]
"""One layer: a decision for each configuration that it can become."""


def layers_of(model: nn.Module, candidates: Sequence[Configuration] | None, *, trained: bool = False) -> list[Layer]:
    """The layers of a model with the candidates that serve them. None: the default ones, with those to be trained if
    `trained`.

    Raises:
        UsageError: no layer can be replaced by a candidate.
    """
    targets = find(model)
    seeds = {target: index for index, target in enumerate(targets)}
    default = DEFAULT + TRAINED * trained
    open_ones = [target for target in targets if target.problem is None and target.kind not in (PAIR, BOTTLENECK)]
    large = set(_large(open_ones))
    found: list[Layer] = []
    for target in (each for each in open_ones if each in large):
        own = candidates_of(target, default) if candidates is None else dict.fromkeys(candidates)
        layer = {to: Decision(target, to, seed_of(to, seeds[target])) for to in own if serves(to, target.kind)}
        found += [layer] if layer else []
    if not found:
        reasons = [f"{target.name}: {target.problem}" for target in targets if target.problem is not None]
        why = f" {reasons[0]}." if reasons else " It has no linear layer, convolution, embedding or LSTM."
        raise UsageError(f"no layer of the model can be compressed.{why}")
    return found


def layers_of_plan(model: nn.Module, plan: Plan, rivals: Sequence[Configuration]) -> list[Layer]:
    """The layers that a plan replaces, each with its configuration first, then with the rivals that serve it.

    Raises:
        UsageError: the plan cannot be carried out.
    """
    targets = find(model)
    seeds = {target: index for index, target in enumerate(targets)}
    decisions = decide(targets, plan)
    refused = next((each for each in decisions if each.reason), None)
    if refused is not None:
        raise UsageError(
            f"{refused.target.name} cannot become {refused.configuration}: {refused.reason}. Change the plan."
        )
    if not decisions:
        raise UsageError("the plan keeps all layers.")
    return [
        {
            each.configuration: each,
            **{
                to: Decision(each.target, to, seed_of(to, seeds[each.target]))
                for to in rivals
                if to != each.configuration and serves(to, each.target.kind)
            },
        }
        for each in decisions
    ]


def _large(targets: Sequence[Target]) -> list[Target]:
    ordered = sorted(targets, key=lambda target: bytes_of(target.module))
    spare = _SMALL * sum(bytes_of(target.module) for target in ordered)
    for at, target in enumerate(ordered):
        spare -= bytes_of(target.module)
        if spare < 0:
            return ordered[at:]
    return ordered

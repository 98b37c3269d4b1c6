"""Uniform plans: one configuration for all layers. Every chosen plan is compared with them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgefc.choosing.subject import Swap, Unit
from edgefc.plan.configurations import Configuration, Half, Int2, Int3, Int4, Int8
from edgefc.plan.rules import configuration_text

_BITS = (Half, Int8, Int4, Int3, Int2)


@dataclass(frozen=True)
class Uniform:
    """A uniform plan. Units that nothing serves stay."""

    name: str
    choices: Mapping[str, Configuration]


def uniform_plans(units: Sequence[Unit], swaps: Mapping[str, Sequence[Swap]]) -> Iterator[Uniform]:
    """Yields the plans for each configuration that some unit can have.

    A unit that it does not serve gets the configuration with the next larger or the next smaller part of its bytes, a
    quantised one in place of a quantised one: these are two plans, if they differ. `swaps` has those of each unit.
    """
    configurations = dict.fromkeys(swap.configuration for unit in units for swap in swaps[unit.name])
    seen: list[Mapping[str, Configuration]] = []
    for configuration in configurations:
        part = _part(configuration, units, swaps)
        for larger in (True, False):
            choices = {}
            for unit in units:
                chosen = _for_unit(configuration, part, unit, swaps[unit.name], larger)
                if chosen is not None:
                    choices[unit.name] = chosen
            if choices not in seen:
                seen.append(choices)
                whole = all(choices.get(unit.name) == configuration for unit in units)
                rest = "" if whole else f", others {'larger' if larger else 'smaller'}"
                yield Uniform(configuration_text(configuration) + rest, choices)


def _part(configuration: Configuration, units: Sequence[Unit], swaps: Mapping[str, Sequence[Swap]]) -> float:
    """The bytes of the units with the configuration over those before."""
    before = {unit.name: unit.bytes for unit in units}
    served = [swap for own in swaps.values() for swap in own if swap.configuration == configuration]
    return sum(swap.bytes for swap in served) / max(1, sum(before[swap.unit] for swap in served))


def _for_unit(
    configuration: Configuration, part: float, unit: Unit, swaps: Sequence[Swap], larger: bool
) -> Configuration | None:
    """None: the unit stays."""
    if any(swap.configuration == configuration for swap in swaps):
        return configuration
    wanted = part * unit.bytes
    alike = [swap for swap in swaps if isinstance(swap.configuration, _BITS) == isinstance(configuration, _BITS)]
    above = [swap for swap in alike or swaps if swap.bytes >= wanted]
    below = [swap for swap in alike or swaps if swap.bytes < wanted]
    near = (above, below) if larger else (below, above)
    if larger and not above:
        return None  # the unit as it is is the next larger one
    found = near[0] or near[1]
    if not found:
        return None
    pick = min if found is above else max
    return pick(found, key=lambda swap: swap.bytes).configuration

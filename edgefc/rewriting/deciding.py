"""Decides what replaces each weight: by the plan, and by the other uses of the stored tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgefc.plan.configurations import Configuration, Half, Int8, Keep, LowRank
from edgefc.plan.rules import Candidate, Plan
from edgefc.rewriting.finding import LINEAR, TABLE, Place, other_users, shared

STORED, FITTED = "stored", "fitted"
"""The stored tensors get another form (storage.py), or the nodes that use them are replaced by a fitted layer."""


INT2_FROM = "1.28"
"""The lowest version of onnxruntime that multiplies 2-bit weights."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What becomes of the places with a stored tensor in common.

    Attributes:
        places          in the order of the file
        configuration   of the plan
        way             STORED or FITTED; None if the places stay
        reason          why they stay, as the end of a sentence
    """

    places: tuple[Place, ...]
    configuration: Configuration
    way: str | None = None
    reason: str = ""


def decide(plan: Plan, places: Sequence[Place]) -> list[Decision]:
    """The decisions for all places that the plan names. Keep gives none.

    Raises:
        UsageError: a rule of the plan decides nothing.
    """
    plan.assign(candidate for place in places for candidate in _candidates(place))
    chosen = {id(place): _chosen(plan, place) for place in places}
    decisions = [_decision(group, [chosen[id(place)] for place in group]) for group in shared(places)]
    return [each for each in decisions if each is not None]


def decide_each(choices: Mapping[int, Configuration], places: Sequence[Place]) -> list[Decision]:
    """The decisions for places with a stored tensor in common, by the index of the first of them."""
    index = {id(place): at for at, place in enumerate(places)}
    groups = {index[id(group[0])]: group for group in shared(places)}
    return [decided(groups[at], to) for at, to in sorted(choices.items(), key=lambda each: each[0])]


def decided(places: Sequence[Place], to: Configuration) -> Decision:
    """The decision for places with a stored tensor in common that all become the same."""
    decision = _decision(places, [to] * len(places))
    assert decision is not None
    return decision


def needs_function(decision: Decision) -> bool:
    """Whether the new nodes can be edgefc:: nodes, which have local functions."""
    to = decision.configuration
    plain = isinstance(to, Half) or (isinstance(to, LowRank) and to.storage != "int8")
    return decision.way == FITTED and not plain


def _candidates(place: Place) -> list[Candidate]:
    return [Candidate(name, place.types, place.size) for name in place.names]


def _chosen(plan: Plan, place: Place) -> Configuration | None:
    """The configuration of the first rule that matches one of the names."""
    candidates = _candidates(place)
    return next((rule.to for rule in plan.rules if any(map(rule.matches, candidates))), None)


def _decision(group: Sequence[Place], configurations: Sequence[Configuration | None]) -> Decision | None:
    """The decision for places with a stored tensor in common."""
    wanted = [each for each in configurations if each is not None and not isinstance(each, Keep)]
    if not wanted:
        return None
    places, configuration = tuple(group), wanted[0]
    for place, other in zip(group, configurations, strict=True):
        if other != configuration:
            what = "keeps" if other is None or isinstance(other, Keep) else f"gives {other.kind}"
            reason = f"it shares its weight with {place.name!r}, which the plan {what}. Give both the same"
            return Decision(places, configuration, reason=reason)
    reason = why_not_fitted(places)
    if isinstance(configuration, Half):
        rows = not reason and places[0].kind == TABLE  # only the requested rows are cast
        return Decision(places, configuration, FITTED if rows else STORED)
    if not reason:
        return Decision(places, configuration, FITTED)
    if isinstance(configuration, Int8):
        return Decision(places, configuration, STORED)
    return Decision(places, configuration, reason=f"{reason}. Give it Half or Int8")


def why_not_fitted(places: Sequence[Place]) -> str:
    """Why the nodes cannot be replaced; "" if they can."""
    kinds = {place.kind for place in places}
    if kinds - {LINEAR, TABLE}:
        names = sorted({place.node.op_type for place in places if place.kind not in (LINEAR, TABLE)})
        return f"its weight is not a matrix that multiplies from the right ({', '.join(names)})"
    if len(kinds) > 1:
        return "its weight is a table and a matrix of a product"
    if len({place.shape for place in places}) > 1 or len({id(place.value) for place in places}) > 1:
        return "several nodes use its weight in different forms"
    users = other_users(places)
    return "" if users is None else f"its weight has another use: {users}"

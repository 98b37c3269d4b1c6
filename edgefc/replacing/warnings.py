"""What a user should know about a replaced model."""

from collections.abc import Iterable, Iterator

from edgefc.plan.configurations import PRP, Bilinear, Circulant, Configuration, EUGen, Int2
from edgefc.plan.rules import configuration_text
from edgefc.replacing.deciding import Decision
from edgefc.replacing.finding import BOTTLENECK, PAIR, TABLE
from edgefc.replacing.making import Made
from edgefc.replacing.work import Work


def warnings_of(work: Work, init: str, *, calibrated: bool) -> Iterator[str]:
    """Yields one sentence for each thing that a user should know."""
    made = work.made
    if init == "fit":
        yield from _untrained(made)
        if not calibrated:
            yield from _uncalibrated(made)
        yield from _beaten(work)
        for decision in work.unseen:
            yield f"{decision.target.name} got no inputs, or only padding, so that it was fitted to its weight alone."
    yield from _slow(made)


def lowest_onnxruntime(configurations: Iterable[Configuration]) -> str:
    """The lowest version of onnxruntime that runs an exported file with these layers."""
    return "1.28" if any(isinstance(each, Int2) for each in configurations) else "1.22"


def _untrained(made: dict[Decision, Made]) -> Iterator[str]:
    tied = "the two matrices are hardly alike"
    kinds = (
        ("TiedFFN", [each for each in made if each.target.kind == PAIR], tied),
        ("TiedBottleneck", [each for each in made if each.target.kind == BOTTLENECK], tied),
        ("PRPEmbedding", [each for each in made if each.target.kind == TABLE and isinstance(each.configuration, PRP)],
         "a scaled random table is hardly like a trained one"),
        ("EUGenLinear", [each for each in made if isinstance(each.configuration, EUGen)],
         "a few random features hardly contain its inputs"),
    )  # fmt: skip
    for name, decisions, why in kinds:
        if decisions:
            yield f"{name} keeps little of the trained {_layers(decisions)}: {why}. Train the model before you use it."


def _uncalibrated(made: dict[Decision, Made]) -> Iterator[str]:
    for kind in (Circulant, Bilinear, PRP):
        decisions = [each for each in made if isinstance(each.configuration, kind) and each.target.kind != TABLE]
        if decisions:
            yield (
                f"{kind.__name__} without calibration data fits the weights of {_layers(decisions)} alone, which loses "
                "most of what they compute. Pass calibration data."
            )


def _beaten(work: Work) -> Iterator[str]:
    for decision, rival in work.rivals.items():
        made = work.made[decision]
        if made.error is not None and rival.error < made.error:
            yield (
                f"{rival.configuration.kind} is better than {configuration_text(decision.configuration)} at its bytes: "
                f"on {decision.target.name} its output error is {rival.error:.3g} with {rival.bytes:,} bytes, against "
                f"{made.error:.3g}."
            )


def _slow(made: dict[Decision, Made]) -> Iterator[str]:
    """From the sizes: a layer that multiplies and adds more than the dense one."""
    slow = []
    for decision, new in made.items():
        count = getattr(new.layer, "multiply_adds", None)
        dense = sum(each.numel() for name, each in decision.target.module.named_parameters() if "bias" not in name)
        if isinstance(decision.configuration, Circulant | PRP | EUGen | Bilinear) and count is not None:
            slow += [decision] if decision.target.kind != TABLE and count() > dense else []
    if slow:
        first = slow[0]
        yield (
            f"{_layers(slow)} compute more multiply-adds as {configuration_text(first.configuration)} than before "
            "(counted, not measured), so that a dense layer is faster. Measure with edgefc profile."
        )


def _layers(decisions: list[Decision]) -> str:
    count = len(decisions) - 1
    more = f" and {count} more layer{'s' * (count > 1)}" if count else ""
    return f"{decisions[0].target.name}{more}"

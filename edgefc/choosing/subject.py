"""What is chosen for: a model whose layers can be replaced. edgefc.compressing has one for torch models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgefc.plan.configurations import Configuration

Choices = Mapping[str, Configuration]
"""What some units become, by name. The others stay as they are."""


@dataclass(frozen=True)
class Unit:
    """One layer that may become something else.

    Attributes:
        before           what it is, such as "Linear 384 to 1536"
        numbers, bytes   that it stores
        configurations   those that serve it, without Keep
    """

    name: str
    before: str
    numbers: int
    bytes: int
    configurations: tuple[Configuration, ...]


@dataclass(frozen=True)
class Swap:
    """The model with one unit replaced.

    Attributes:
        loss             of the whole model's outputs, 0 if unchanged
        error            the relative error of the layer's outputs; None if the fit does not tell
        numbers, bytes   that the new layer stores
    """

    unit: str
    configuration: Configuration
    loss: float
    error: float | None
    numbers: int
    bytes: int


class Subject(Protocol):
    """A model whose layers can be replaced.

    Attributes:
        units                      in the order in which swaps() is cheapest
        other_numbers, other_bytes what no unit stores
        fingerprint                of weights, data and settings: results with another one cannot be used
    """

    units: Sequence[Unit]
    other_numbers: int
    other_bytes: int
    fingerprint: str

    def swaps(self, unit: Unit) -> list[Swap]:
        """Fits the configurations of a unit, keeps the fits, and measures the model with each. Leaves out those that
        cannot be fitted, or whose outputs are not finite."""

    def loss(self, choices: Choices) -> float:
        """Measures the model with all choices. Uses the fits that swaps() or unpack() kept. Infinite if the outputs
        are not finite."""

    def metric(self, choices: Choices) -> float | None:
        """The user's metric of the model with all choices, higher is better; None without one."""

    def pack(self, unit: Unit) -> bytes:
        """The fits of a unit, for another process or a later run."""

    def unpack(self, unit: Unit, content: bytes) -> None:
        """Keeps fits that pack() gave.

        Raises:
            UsageError: the content is damaged.
        """

    def part(self, units: Sequence[Unit]) -> "Subject":
        """A subject that can be pickled, with what swaps() and pack() of these units need."""

"""What layers and their form in a file have in common, and what needs no torch: inspect reads files without it."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgefc.attributes import ACTIVATIONS as ACTIVATIONS
from edgefc.attributes import MAX_ORDER as MAX_ORDER

DOMAIN_VERSION = 1


def left_first(d: Sequence[int], u: Sequence[int]) -> bool:
    """Whether the left product of a bilinear layer first is the cheaper order; right first where both cost the same."""
    return left_first_cost(d, u) < right_first_cost(d, u)


def left_first_cost(d: Sequence[int], u: Sequence[int]) -> int:
    """Multiply-adds of one row and term: u1 d2 (d1 + u2)."""
    return u[0] * d[1] * (d[0] + u[1])


def right_first_cost(d: Sequence[int], u: Sequence[int]) -> int:
    """Multiply-adds of one row and term: u2 d1 (d2 + u1)."""
    return u[1] * d[0] * (d[1] + u[0])


@dataclass(frozen=True)
class Cut:
    """How n inputs and m outputs lie in a Hadamard transform of `length` = high * low, the next power of two.

    rows_in and rows_out are the rows of the (high, low) matrix that inputs and outputs reach into; the others of the
    input are zeros that take part in nothing, the others of the output are never made.
    """

    high: int
    low: int
    rows_in: int
    rows_out: int

    @property
    def length(self) -> int:
        return self.high * self.low

    @property
    def multiply_adds(self) -> int:
        """Of one transform on rows_in rows and one that gives rows_out rows."""
        return (self.rows_in + self.rows_out) * (self.low * self.low + self.low * self.high)


def cut(in_features: int, out_features: int) -> Cut:
    """The cut for these sizes, low = high or 2 * high."""
    digits = (max(in_features, out_features) - 1).bit_length()
    high, low = 1 << digits // 2, 1 << (digits + 1) // 2
    return Cut(high, low, -(-in_features // low), -(-out_features // low))

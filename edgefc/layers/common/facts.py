"""Facts that layers share with the reader of ONNX files. Does not import torch, because inspect() works without it."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgefc.attributes import ACTIVATIONS as ACTIVATIONS
from edgefc.attributes import MAX_ORDER as MAX_ORDER

DOMAIN_VERSION = 1


def left_first(d: Sequence[int], u: Sequence[int]) -> bool:
    """Whether a bilinear layer is cheaper with the left product first. If both orders cost the same, right is first."""
    return left_first_cost(d, u) < right_first_cost(d, u)


def left_first_cost(d: Sequence[int], u: Sequence[int]) -> int:
    """Returns the multiply-adds for one row and term: u1 d2 (d1 + u2)."""
    return u[0] * d[1] * (d[0] + u[1])


def right_first_cost(d: Sequence[int], u: Sequence[int]) -> int:
    """Returns the multiply-adds for one row and term: u2 d1 (d2 + u1)."""
    return u[1] * d[0] * (d[1] + u[0])


@dataclass(frozen=True)
class Cut:
    """The layout of n inputs and m outputs in a Hadamard transform of `length` = high * low, the next power of two.

    The transform operates on a (high, low) matrix. The inputs occupy its first rows_in rows, and the outputs its first
    rows_out rows. The other input rows are zero and are skipped. The other output rows are not computed.
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
        """Multiply-adds of one transform of rows_in rows and one transform that returns rows_out rows."""
        return (self.rows_in + self.rows_out) * (self.low * self.low + self.low * self.high)


def cut(in_features: int, out_features: int) -> Cut:
    """Returns the layout for these sizes. low is high or 2 * high."""
    high, low = hadamard_sides(1 << (max(in_features, out_features) - 1).bit_length())
    return Cut(high, low, -(-in_features // low), -(-out_features // low))


def hadamard_sides(length: int) -> tuple[int, int]:
    """Returns (high, low) of a transform of `length` = high * low, a power of two. low is high or 2 * high."""
    digits = length.bit_length() - 1
    return 1 << digits // 2, 1 << (digits + 1) // 2

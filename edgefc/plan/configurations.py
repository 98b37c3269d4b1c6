"""What a layer can become. Each class is a frozen dataclass; its settings are checked when it is made.

A layer has n inputs and m outputs. `Configuration` is the base class of all of them.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from edgefc.generator import CODEBOOKS
from edgefc.plan.strict import strict

DISTRIBUTIONS = (*CODEBOOKS, "orthogonal", "hadamard")
"""The kinds of the random matrix of a PRP layer, as in edgefc/layers/prp/matrices.py."""

Size = Annotated[int, Field(ge=1, le=2**31 - 1)]
Rank = Annotated[int, Field(ge=0, le=2**31 - 1)]


def _power_of_two(group: int) -> int:
    if group & (group - 1):
        raise ValueError("a group is a power of two")
    return group


def _distribution(name: str) -> str:
    if name not in DISTRIBUTIONS:
        raise ValueError(f"choose one of {', '.join(DISTRIBUTIONS)}")
    return name


Distribution = Annotated[str, AfterValidator(_distribution), Field(json_schema_extra={"enum": [*DISTRIBUTIONS]})]
Group = Annotated[int, Field(ge=16, le=256), AfterValidator(_power_of_two)]
"""The number of successive weights of a row that share a scale: 16, 32, 64, 128 or 256."""
WideGroup = Annotated[int, Field(ge=32, le=256), AfterValidator(_power_of_two)]


class Configuration:
    """Base class of the configurations."""

    @property
    def kind(self) -> str:
        """The name of the class, which is `kind` in a file."""
        return type(self).__name__


@strict
class Circulant(Configuration):
    """CirculantLinear, CirculantConv2d or CirculantLSTM. block: the size of the blocks; None: one block."""

    block: Size | None = None


@strict
class PRP(Configuration):
    """PRPLinear or PRPConv2d: a seeded random matrix with two trained scales, plus a low-rank part of `rank`."""

    distribution: Distribution = "gaussian"
    rank: Rank = 0


@strict
class EUGen(Configuration):
    """EUGenLinear with this number of random features, and without an activation."""

    features: Size = 64


@strict
class Bilinear(Configuration):
    """BilinearLinear, BilinearConv2d, BilinearEmbedding or BilinearLSTM: a sum of `terms` Kronecker products."""

    terms: Size = 1


@strict
class LowRank(Configuration):
    """A product of two matrices, (m, rank) and (rank, n).

    rank     the rank itself
    ratio    the largest rank with at most 1/ratio of the numbers of the dense matrix; 2 if neither is given
    storage  the two matrices in the model's type (None), float16 ("half") or 8 bits ("int8")
    """

    rank: Size | None = None
    ratio: Annotated[float, Field(ge=1, le=1e6, allow_inf_nan=False)] | None = None
    storage: Literal["half", "int8"] | None = None

    def __post_init__(self) -> None:
        if self.rank is not None and self.ratio is not None:
            raise ValueError(f"rank={self.rank} and ratio={self.ratio} exclude each other; give one of them")

    def rank_for(self, n: int, m: int) -> int:
        """The rank for n inputs and m outputs: at least 1, at most min(n, m)."""
        wanted = self.rank if self.rank is not None else int(n * m / ((self.ratio or 2) * (n + m)))
        return max(1, min(wanted, n, m))


@strict
class Tied(Configuration):
    """TiedFFN for a pair of linear layers, TiedBottleneck for a residual bottleneck: one matrix, used twice."""


@strict
class Monarch(Configuration):
    """MonarchLinear: two block-diagonal factors of `blocks` blocks, with a permutation between them."""

    blocks: Size = 4


@strict
class Half(Configuration):
    """The weights in float16."""


@strict
class Int8(Configuration):
    """The weights in 8 bits. group: the number of weights that share a scale."""

    group: Group = 128


@strict
class Int4(Configuration):
    """The weights in 4 bits. rotate: apply a seeded Hadamard rotation to the inputs of linear layers."""

    group: Group = 32
    rotate: bool = True


@strict
class Int3(Configuration):
    """The weights in 3 bits. rotate: apply a seeded Hadamard rotation to the inputs of linear layers."""

    group: WideGroup = 128
    rotate: bool = True


@strict
class Int2(Configuration):
    """The weights in 2 bits. rotate: as in Int4. rank: of a correction of linear layers in float16; 0: none."""

    group: Group = 32
    rotate: bool = True
    rank: Rank = 0


@strict
class Keep(Configuration):
    """The layer stays as it is."""


KINDS: dict[str, type[Configuration]] = {
    kind.__name__: kind
    for kind in (
        Circulant, PRP, EUGen, Bilinear, LowRank, Tied, Monarch, Half, Int8, Int4, Int3, Int2, Keep,
    )
}  # fmt: skip
"""Each configuration, by its name in a file."""

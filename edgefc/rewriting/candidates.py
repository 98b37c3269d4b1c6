"""What the weights of an .onnx file can become, if no plan says it."""

from collections.abc import Iterable, Sequence
from functools import cache

import onnx_ir as ir
import onnxruntime as ort

from edgefc.errors import UsageError
from edgefc.export.registry import operators
from edgefc.fitting.solve import fitted_tables
from edgefc.plan.configurations import Configuration, Half, Int2, Int3, Int4, Int8, LowRank
from edgefc.releases import release
from edgefc.rewriting.deciding import FITTED, INT2_FROM, decided, why_not_fitted
from edgefc.rewriting.finding import TABLE, Place
from edgefc.rewriting.fits import products_of, weight_of
from edgefc.rewriting.reading import OPSETS

CANDIDATES: tuple[Configuration, ...] = (
    Half(), Int8(), Int8(group=32), Int4(), Int4(rotate=False), Int3(), Int2(),
    LowRank(ratio=2, storage="int8"), LowRank(ratio=4, storage="int8"), LowRank(ratio=8, storage="int8"),
)  # fmt: skip

RIVALS: tuple[Configuration, ...] = (Half(), Int8(), Int8(group=32), Int4())
"""What every given plan is compared with."""

_SMALL_PART = 0.01
"""The functions of a configuration take at most this part of the file, or it is no candidate."""

SMALLEST = 1024
"""Weights with fewer numbers stay."""


def served(places: Sequence[Place], configurations: Iterable[Configuration]) -> tuple[Configuration, ...]:
    """The configurations that can replace places with a stored tensor in common, and that onnxruntime can run here."""
    replaceable, two_bits = is_replaceable(places), release(ort.__version__) >= release(INT2_FROM)
    runnable = (each for each in configurations if two_bits or each.kind != "Int2")
    return tuple(each for each in runnable if _serves(places, each, replaceable))


def is_replaceable(places: Sequence[Place]) -> bool:
    """Whether the nodes can be replaced by a fitted layer."""
    if why_not_fitted(places):
        return False
    try:
        return places[0].kind == TABLE or weight_of(products_of(places)).size > 0
    except UsageError:
        return False


def affordable(configurations: Iterable[Configuration], file_bytes: int) -> tuple[Configuration, ...]:
    """Those whose functions take a small part of the file. They are written once for all layers."""
    return tuple(each for each in configurations if _function_bytes(each) <= _SMALL_PART * file_bytes)


def _serves(places: Sequence[Place], to: Configuration, replaceable: bool) -> bool:
    decision = decided(places, to)
    if decision.way != FITTED:
        return decision.way is not None
    return replaceable and (places[0].kind != TABLE or to.kind in fitted_tables())


def _function_bytes(to: Configuration) -> int:
    """The bytes of the large functions of the new nodes."""
    if isinstance(to, Int3):
        return _bytes_of("Int3Linear")
    return _bytes_of("HadamardRotation") if getattr(to, "rotate", False) else 0


@cache
def _bytes_of(operator: str) -> int:
    return len(ir.to_proto(operators()[operator].function(OPSETS[0])).SerializeToString())

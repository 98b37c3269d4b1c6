"""edgefc::EUGenLinear."""

import edgefc
from tests.support.native_ops.op import BOOKS, FUNCTIONS, Op


def make(n: int, m: int, kind: int) -> edgefc.EUGenLinear:
    kinds = {"shared": kind % 2 == 0, "norm": kind % 3 > 0, "one": kind % 5 == 0}
    return edgefc.EUGenLinear(
        n, m, features=(64, 1, 7, 33)[kind % 4], order=1 + kind % 3, activation=FUNCTIONS[kind % len(FUNCTIONS)],
        distribution=BOOKS[kind % len(BOOKS)], seed=2**64 - 1 - kind, **kinds,
    )  # fmt: skip


OP = Op("EUGenLinear", make, nmse=1e-9)

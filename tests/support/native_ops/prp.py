"""edgefc::PRPLinear."""

import edgefc
from tests.support.native_ops.op import BOOKS, Op


def make(n: int, m: int, kind: int) -> edgefc.PRPLinear:
    return edgefc.PRPLinear(n, m, distribution=BOOKS[kind % len(BOOKS)], seed=2**64 - 1 - kind)


OP = Op("PRPLinear", make, infinite="body", int8=True)

"""edgefc::Int3Linear."""

import edgefc
from tests.support.native_ops.op import Op


def make(n: int, m: int, kind: int) -> edgefc.Int3Linear:
    return edgefc.Int3Linear(n, m, group=(128, 32, 64)[kind % 3], seed=None if kind % 2 else 2**64 - 1 - kind)


OP = Op("Int3Linear", make, infinite="matrix", int8=True)

"""edgefc::CirculantLinear."""

import edgefc
from tests.support.native_ops.op import Op


def make(n: int, m: int, kind: int) -> edgefc.CirculantLinear:
    block = (None, 1 + kind % max(n, m), max(n, m))[kind % 3]
    return edgefc.CirculantLinear(n, m, block=block, seed=2**64 - 1 - kind)


OP = Op("CirculantLinear", make, infinite="matrix")

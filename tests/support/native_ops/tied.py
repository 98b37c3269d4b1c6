"""edgefc::TiedFFN."""

import edgefc
from tests.support.native_ops.op import FUNCTIONS, Op


def make(n: int, m: int, kind: int) -> edgefc.TiedFFN:
    return edgefc.TiedFFN(n, m, activation=FUNCTIONS[kind % len(FUNCTIONS)])


OP = Op("TiedFFN", make)

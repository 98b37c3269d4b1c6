"""Compare the circulant layer as matrix products with the dense layer and the DFT operator in one run.

    python tests/bench/circulant.py
    python tests/bench/circulant.py --n 4096 --batch 1,64 --json circulant.json

The whole layer is timed, signs and bias included, from the file that edgefc.export writes. With --tiles, the body is
timed at every tile instead: what the cost model in export/ops/circulant.py was read off.
"""

import sys
from collections.abc import Iterator
from unittest import mock

from side_by_side import arguments, conditions, exported, medians_us, warnings
from torch import nn
from tqdm import tqdm

import edgefc
from edgefc.export.ops import circulant
from edgefc.files import write_text
from edgefc.runtime import profile
from edgefc.tables import print_table


def main() -> None:
    parser = arguments(__doc__, n="384,768,1024,3072,4096", batch="1,64")
    parser.add_argument("--tiles", action="store_true", help="compare tiles instead of bodies")
    args = parser.parse_args()
    rows, records = [], []
    for n in tqdm(args.n, unit="width", disable=None):
        names, record = (tiles if args.tiles else bodies)(n, args)
        records.append(record)
        rows += table_rows(n, names, record, args.batch)
    if args.tiles:
        print_table(("n", "batch", "body", "us", "dense / body"), rows, left=0)
    else:
        columns = ("n", "batch", "dense us", "DFT op us", "ratio", "matmul FFT us", "ratio")
        print_table(columns, [merge(group) for group in zip(*[iter(rows)] * 3, strict=True)], left=0)
    print(conditions(records[0]))
    print(warnings(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


def bodies(n, args):
    """The dense layer, the DFT operator, and the matrix products."""
    layer = edgefc.CirculantLinear(n, n)
    layers = {"dense": nn.Linear(n, n), "dft": layer, "matmul": layer}
    with exported(layers, n, dft={"bodies": {"CirculantLinear": "dft"}}) as paths:
        return list(layers), measure(paths, args)


def tiles(n, args):
    """The dense layer, and the matrix products at every tile size that divides n."""
    layer = edgefc.CirculantLinear(n, n)
    cuts = {f"tile {tile}": (tile, n // tile) for tile in range(8, 129) if n % tile == 0}
    with exported({"dense": nn.Linear(n, n)}, n) as dense, mock.patch.object(circulant, "split") as split:
        split.side_effect = list(cuts.values())
        with exported(dict.fromkeys(cuts, layer), n) as paths:
            return ["dense", *cuts], measure([*dense, *paths], args)


def measure(paths, args):
    return profile(
        paths, batch=args.batch, threads=args.threads, min_time_s=args.time, memory=False, launches=1, native="off"
    )


def table_rows(n, names, record, batches) -> Iterator[tuple[str, ...]]:
    for batch in batches:
        times = medians_us(record, batch)
        for name, time in zip(names, times, strict=True):
            yield f"{n}", f"{batch}", name, f"{time:.1f}", f"{times[0] / time:.2f}x"


def merge(group) -> tuple[str, ...]:
    dense, dft, matmul = group
    return (*dense[:2], dense[3], *dft[3:], *matmul[3:])


if __name__ == "__main__":
    sys.exit(main())

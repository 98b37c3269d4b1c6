"""Compare the EUGen layer, portable and native, with the dense layer: size, load time, memory and latency.

python tests/bench/eugen.py
python tests/bench/eugen.py --n 768 --features 32,64 --order 1,2,3 --separate
"""

import sys

from side_by_side import arguments, conditions, exported, numbers, warnings
from torch import nn
from tqdm import tqdm

import edgefc
from edgefc.files import write_text
from edgefc.runtime import profile
from edgefc.runtime.native import library_path
from edgefc.tables import print_table

COLUMNS = ("n", "layer", "multiply-adds", "file bytes", "load ms", "peak MB")


def main() -> None:
    parser = arguments(__doc__, n="768,4096", batch="1,64")
    parser.add_argument("--features", type=numbers, default="64", help="(default: 64)")
    parser.add_argument("--order", type=numbers, default="1", help="(default: 1)")
    parser.add_argument("--projection", choices=("random", "trained"), default="random", help="(default: random)")
    parser.add_argument("--separate", action="store_true", help="projections of their own for each block")
    parser.add_argument("--no-norm", action="store_true", help="without |x| behind x")
    args = parser.parse_args()
    rows, records = [], []
    for n in tqdm(args.n, unit="width", disable=None):
        layers = {"dense": nn.Linear(n, n)}
        for m in args.features:
            for order in args.order:
                layers[f"m={m}-k={order}"] = edgefc.EUGenLinear(
                    n, n, features=m, order=order, projection=args.projection, shared=not args.separate,
                    norm=not args.no_norm,
                )  # fmt: skip
        with exported(layers, n) as paths:
            for native in ("off", "on") if library_path() else ("off",):
                records.append(
                    profile(paths, batch=args.batch, threads=args.threads, min_time_s=args.time, native=native)
                )
                rows += table_rows(n, layers, records[-1], args.batch)
    timed = [f"{what}, batch {batch}" for batch in args.batch for what in ("us", "dense/layer")]
    print_table((*COLUMNS, *timed), rows, left=2)
    print("peak MB: above what onnxruntime alone needs")
    print(conditions(records[0]))
    print(warnings(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


def table_rows(n, layers, record, batches):
    cells = {(cell.model, cell.batch): cell for cell in record.cells}
    for index, (name, layer) in enumerate(layers.items()):
        cell = cells[index, batches[0]]
        adds = layer.multiply_adds() if index else n * n
        shown = f"{name}, {cell.native_variant}" if index and cell.native_variant else name
        row = [f"{n}", shown, f"{adds:,}", f"{record.models[index].all_bytes:,}", f"{cell.load.median_ns / 1e6:.1f}"]
        row.append(f"{cell.peak_above_baseline_bytes / 1e6:.1f}")
        for batch in batches:
            median, dense = (cells[which, batch].steady.median_ns for which in (index, 0))
            row += [f"{median / 1e3:.1f}", f"{dense / median:.2f}"]
        yield row


if __name__ == "__main__":
    sys.exit(main())

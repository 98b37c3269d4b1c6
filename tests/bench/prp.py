"""Compare both bodies of the PRP layer with the dense layer in one run: size, load time, memory and latency.

python tests/bench/prp.py
python tests/bench/prp.py --n 1024,4096 --distribution rademacher hadamard
"""

import sys

from side_by_side import arguments, conditions, exported, warnings
from torch import nn
from tqdm import tqdm

import edgefc
from edgefc.files import write_text
from edgefc.generator import CODEBOOKS
from edgefc.layers.prp.matrices import DISTRIBUTIONS
from edgefc.runtime import profile
from edgefc.tables import print_table

DEFAULT = ["rademacher", "gaussian", "ternary", "orthogonal", "hadamard"]
COLUMNS = ("n", "distribution", "body", "file bytes", "load ms", "peak MB", "of dense")


def main() -> None:
    parser = arguments(__doc__, n="4096", batch="1,64")
    parser.add_argument("--distribution", choices=DISTRIBUTIONS, nargs="+", default=DEFAULT)
    args = parser.parse_args()
    rows, records = [], []
    for n in args.n:
        for distribution in tqdm(args.distribution, unit="distribution", disable=None):
            records.append(measure(n, distribution, args))
            rows += table_rows(n, distribution, records[-1], args.batch)
    timed = [f"{what}, batch {batch}" for batch in args.batch for what in ("us", "of dense")]
    print_table((*COLUMNS, *timed), rows, left=3)
    print("peak MB: above what onnxruntime alone needs")
    print(conditions(records[0]))
    print(warnings(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


def bodies(distribution):
    """The keyword arguments of export() for each body, by name. Distributions without a codebook have one body."""
    if distribution in CODEBOOKS:
        return {body: {"bodies": {"PRPLinear": body}} for body in ("resident", "streaming")}
    return {"stored" if distribution == "orthogonal" else "transform": {}}


def measure(n, distribution, args):
    layer, options = edgefc.PRPLinear(n, n, distribution=distribution), bodies(distribution)
    with exported({"dense": nn.Linear(n, n), **dict.fromkeys(options, layer)}, n, **options) as paths:
        return profile(paths, batch=args.batch, threads=args.threads, min_time_s=args.time, native="off")


def table_rows(n, distribution, record, batches):
    cells = {(cell.model, cell.batch): cell for cell in record.cells}
    for index, body in enumerate(("dense", *bodies(distribution))):
        cell, dense = cells[index, batches[0]], cells[0, batches[0]]
        peak, dense_peak = cell.peak_above_baseline_bytes, dense.peak_above_baseline_bytes
        row = [f"{n}", distribution, body, f"{record.models[index].all_bytes:,}", f"{cell.load.median_ns / 1e6:.1f}"]
        row += [f"{peak / 1e6:.1f}", f"{peak / dense_peak:.2f}"]
        for batch in batches:
            median, other = (cells[which, batch].steady.median_ns for which in (index, 0))
            row += [f"{median / 1e3:.0f}", f"{median / other:.2f}"]
        yield row


if __name__ == "__main__":
    sys.exit(main())

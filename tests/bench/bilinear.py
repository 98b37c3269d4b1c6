"""Compare the bilinear layer with the dense layer in one run: latency, multiply-adds and file size.

python tests/bench/bilinear.py
python tests/bench/bilinear.py --n 4096 --batch 1,64 --terms 1 4
"""

import sys

from side_by_side import arguments, conditions, exported, medians_us, warnings
from torch import nn
from tqdm import tqdm

import edgefc
from edgefc.files import write_text
from edgefc.runtime import profile
from edgefc.tables import print_table

COLUMNS = ("n", "terms", "batch", "dense us", "bilinear us", "dense / bilinear", "multiply-adds", "bytes")


def main() -> None:
    parser = arguments(__doc__, n="768,4096", batch="1,64")
    parser.add_argument("--terms", type=int, nargs="+", default=[1], help="(default: 1)")
    args = parser.parse_args()
    rows, records = [], []
    for n in tqdm(args.n, unit="width", disable=None):
        for terms in args.terms:
            layer = edgefc.BilinearLinear(n, n, terms=terms)
            with exported({"dense": nn.Linear(n, n), "bilinear": layer}, n) as paths:
                record = profile(
                    paths, batch=args.batch, threads=args.threads, min_time_s=args.time, memory=False, launches=1
                )
            records.append(record)
            fewer = n * n / layer.multiply_adds()
            sizes = [model.all_bytes for model in record.models]
            for batch in args.batch:
                dense, bilinear = medians_us(record, batch)
                rows.append(
                    (f"{n}", f"{terms}", f"{batch}", f"{dense:.1f}", f"{bilinear:.1f}", f"{dense / bilinear:.1f}x")
                )
                rows[-1] += (f"{fewer:.1f}x fewer", f"{sizes[0]:,} / {sizes[1]:,}")
    print_table(COLUMNS, rows, left=0)
    print(conditions(records[0]))
    print(warnings(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


if __name__ == "__main__":
    sys.exit(main())

"""Compare structured LSTMs with torch's, as ONNX's LSTM operator, in one run: latency, multiply-adds and file size.

python tests/bench/lstm.py
python tests/bench/lstm.py --n 64,1024 --steps 100
"""

import sys

from side_by_side import arguments, conditions, exported, medians_us, warnings
from torch import nn
from tqdm import tqdm

import edgefc
from edgefc.files import write_text
from edgefc.runtime import profile
from edgefc.tables import print_table

COLUMNS = ("n", "batch", "LSTM", "us", "dense / this", "multiply-adds a step", "bytes")


def main() -> None:
    parser = arguments(__doc__, n="64,256,1024", batch="1,16")
    parser.add_argument("--steps", type=int, default=32, help="steps of each sequence (default: 32)")
    args = parser.parse_args()
    rows, records = [], []
    for n in tqdm(args.n, unit="width", disable=None):
        layers = {
            "dense": nn.LSTM(n, n, batch_first=True),
            "bilinear": edgefc.BilinearLSTM(n, n, batch_first=True),
            "circulant": edgefc.CirculantLSTM(n, n, batch_first=True),
            "circulant, block 16": edgefc.CirculantLSTM(n, n, batch_first=True, block=16),
        }
        with exported(layers, (args.steps, n)) as paths:
            record = profile(
                paths, batch=args.batch, threads=args.threads, min_time_s=args.time, memory=False, launches=1
            )
        records.append(record)
        work = [8 * n * n] + [layer.multiply_adds() for name, layer in layers.items() if name != "dense"]
        for batch in args.batch:
            medians = medians_us(record, batch)
            for name, us, count, model in zip(layers, medians, work, record.models, strict=True):
                ratio = f"{medians[0] / us:.1f}x"
                rows.append((f"{n}", f"{batch}", name, f"{us:.0f}", ratio, f"{count:,}", f"{model.all_bytes:,}"))
    print_table(COLUMNS, rows, left=0)
    print(f"{args.steps} steps; {conditions(records[0])}")
    print(warnings(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


if __name__ == "__main__":
    sys.exit(main())

"""Compare native kernels with alternatives in one run: dense, int8 with dynamic activations, int4 weights.

    python tests/bench/native.py
    python tests/bench/native.py --n 4096 --batch 1,16 --distribution rademacher --time 3

int8 and int4 are those of edgefc bench, which compares every layer. This script compares only the distributions of PRP.
"rademacher int8" and so on are PRPLinear with int8 activations.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from side_by_side import arguments, conditions, medians_us, warnings
from tqdm import tqdm

import edgefc
from edgefc.bench import models
from edgefc.export import export
from edgefc.files import write_text
from edgefc.generator import CODEBOOKS
from edgefc.runtime import Model, profile
from edgefc.tables import print_table

DEFAULT = ["rademacher", "gaussian", "ternary"]


def main() -> None:
    parser = arguments(__doc__, n="1024,4096", batch="1,16,64")
    parser.add_argument("--distribution", choices=list(CODEBOOKS), nargs="+", default=DEFAULT)
    args = parser.parse_args()
    rows, records = [], []
    for n in tqdm(args.n, unit="width", disable=None):
        record = measure(n, args)
        records.append(record)
        for batch in args.batch:
            dense, *others = medians_us(record, batch)
            ratios = (f"{other:.1f} ({dense / other:.2f}x)" for other in others)
            rows.append([f"{n}", f"{batch}", f"{dense:.1f}", *ratios])
    names = [f"{name}{end}" for name in args.distribution for end in ("", " int8")]
    print_table(("n", "batch", "dense us", "int8", "int4", *names, "circulant"), rows, left=0)
    print(conditions(records[0]))
    print(f"native kernels: {records[0].cells[0].native_variant}")
    print(warnings(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


def measure(n, args):
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.onnx" for name in ("dense", "int8", "int4")]
        models.dense(n, n, paths[0])
        models.quantise_int8(paths[0], paths[1])
        models.quantise_blocks(paths[0], paths[2], bits=4)
        measured = [Model(path) for path in paths]
        layers = {name: edgefc.PRPLinear(n, n, distribution=name) for name in args.distribution}
        for name, layer in {**layers, "circulant": edgefc.CirculantLinear(n, n)}.items():
            path = Path(folder) / f"{name}.onnx"
            export(layer, torch.randn(2, n), path, verify=False)
            measured += [Model(path), Model(path, activation_dtype="int8")] if name in layers else [Model(path)]
        return profile(
            measured,
            batch=args.batch,
            threads=args.threads,
            min_time_s=args.time,
            memory=False,
            launches=1,
            native="on",
        )


if __name__ == "__main__":
    sys.exit(main())

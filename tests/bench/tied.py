"""Compare TiedFFN, portable and native, with the untied pair of linear layers in both presets: memory and latency.

    python tests/bench/tied.py
    python tests/bench/tied.py --n 2048 --time 0.2 --preset memory

n is d_model; d_hidden is 4 n, as in transformers. Weights are the bytes that the file stores. Peak is the peak memory
of the process while it loads the model and runs it once; held is the memory after that. Both are beyond the memory of
onnxruntime itself. If the pair is in memory once, held is 1.0 of its weights. The native kernel, if there is one, is
measured in a separate run with the same pair.
"""

import sys
from statistics import median_low

from side_by_side import arguments, conditions, exported, warnings
from tqdm import tqdm

import edgefc
from edgefc.files import write_text
from edgefc.runtime import profile
from edgefc.runtime.native import library_path
from edgefc.tables import print_table

NAMES = ("untied", "tied")
COLUMNS = (
    "n",
    "preset",
    "batch",
    "layer",
    "weights MB",
    "load ms",
    "peak MB",
    "/ weights",
    "held MB",
    "us",
    "of untied",
)


def main() -> None:
    parser = arguments(__doc__, n="768,2048", batch="1,64")
    parser.add_argument("--preset", choices=("memory", "latency"), nargs="+", default=["memory", "latency"])
    args = parser.parse_args()
    rows, records = [], []
    for n in tqdm(args.n, unit="width", disable=None):
        layer = edgefc.TiedFFN(n, 4 * n)
        weights = [sum(p.numel() * p.element_size() for p in m.parameters()) for m in (layer.dense(), layer)]
        with exported(dict(zip(NAMES, (layer.dense(), layer), strict=True)), n) as paths:
            for preset in args.preset:
                for native in ("off", "on") if library_path() else ("off",):
                    records.append(
                        profile(
                            paths, batch=args.batch, threads=args.threads, preset=preset, min_time_s=args.time,
                            native=native,
                        )
                    )  # fmt: skip
                    rows += table_rows(n, preset, weights, records[-1])
    print_table(COLUMNS, rows, left=4)
    print(conditions(records[0]))
    print(warnings(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


def table_rows(n, preset, weights, record):
    untied = {cell.batch: cell.steady.median_ns for cell in record.cells if cell.model == 0}
    without = median_low([bytes_of(memory.ran) for memory in record.baselines[0].memory])
    for cell in record.cells:
        size, peak = weights[cell.model], cell.peak_above_baseline_bytes
        name = NAMES[cell.model]
        if cell.model and cell.native_variant:
            name = f"{name}, {cell.native_variant}"
        row = [f"{n}", preset, f"{cell.batch}", name, f"{size / 1e6:.1f}"]
        row += [f"{cell.load.median_ns / 1e6:.1f}", f"{peak / 1e6:.1f}", f"{peak / size:.2f}"]
        row += [f"{(bytes_of(cell.memory.ran) - without) / 1e6:.1f}"]
        yield [*row, f"{cell.steady.median_ns / 1e3:.0f}", f"{cell.steady.median_ns / untied[cell.batch]:.2f}"]


def bytes_of(stage):
    return stage.anonymous_bytes + stage.file_bytes


if __name__ == "__main__":
    sys.exit(main())

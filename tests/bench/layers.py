"""Compare the portable latency of every layer of the catalogue with the dense layer that it replaces, one run each.

    python tests/bench/layers.py
    python tests/bench/layers.py --only Bilinear --n 768,4096 --batch 1,64 --json layers.json

Layers with rows as input are measured at each n. Layers for images, sequences and tables are measured at the size of
the catalogue, because their cost depends on more than one size: 8 x 8 positions for images, 3 steps for an LSTM, 5
tokens for attention.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from side_by_side import arguments, conditions, medians_us, warnings
from tqdm import tqdm

from edgefc.catalogue import Called, Entry, entries
from edgefc.export import export
from edgefc.files import write_text
from edgefc.runtime import Record, profile
from edgefc.tables import print_table

DENSE_LIMIT_BYTES = 2**30
"""Larger dense layers are left out, together with their structured layers: they do not fit on small machines."""


def main() -> None:
    parser = arguments(__doc__, n="768,4096", batch="1,64")
    parser.add_argument("--only", default="", help="layers whose name holds this (default: all)")
    args = parser.parse_args()
    cases = [case for case in _cases(args.n) if args.only.lower() in case[0].name.lower()]
    rows, records = [], []
    for entry, n in tqdm(cases, unit="layer", disable=None):
        record = _measured(entry, n, args)
        records.append(record)
        rows += _rows(entry, n, record, args.batch)
    print_table(("layer", "n", "batch", "dense us", "layer us", "dense / layer"), rows, left=1)
    print(conditions(records[0]))
    print(warnings(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


def _cases(widths: list[int]) -> Iterator[tuple[Entry, int]]:
    for entry in entries():
        for n in widths if entry.example(4).ndim == 2 and entry.example(4).is_floating_point() else [entry.width]:
            with torch.device("meta"):
                size = 4 * sum(parameter.numel() for parameter in entry.dense(n).parameters())
            if size <= DENSE_LIMIT_BYTES:
                yield entry, n


def _measured(entry: Entry, n: int, args) -> Record:
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        paths = []
        for name, layer in {"dense": entry.dense(n), "layer": entry.make(n)}.items():
            paths.append(Path(folder) / f"{name}.onnx")
            export(Called(entry, layer), entry.example(n), paths[-1], verify=False)
        return profile(
            paths, batch=args.batch, threads=args.threads, min_time_s=args.time, memory=False, launches=1, native="off"
        )


def _rows(entry: Entry, n: int, record: Record, batches: list[int]) -> Iterator[tuple[str, ...]]:
    for batch in batches:
        dense, layer = medians_us(record, batch)
        yield entry.name, f"{n}", f"{batch}", f"{dense:.1f}", f"{layer:.1f}", f"{dense / layer:.2f}x"


if __name__ == "__main__":
    sys.exit(main())

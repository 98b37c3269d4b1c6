"""Compare the circulant convolution with the dense one, at several block lengths, in one run.

    python tests/bench/circulant_conv.py
    python tests/bench/circulant_conv.py --n 256 --image 14 --kernel 1 --json circulant_conv.json

n to n channels, padded to keep the size of the image. The whole layer is timed, signs and bias included, from the file
that edgefc.export writes.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from side_by_side import arguments, conditions, medians_us, numbers, warnings
from torch import nn
from tqdm import tqdm

import edgefc
from edgefc.export import export
from edgefc.files import write_text
from edgefc.runtime import profile
from edgefc.tables import print_table


def main() -> None:
    parser = arguments(__doc__, n="64,256", batch="1,16")
    parser.add_argument("--image", type=int, default=14, help="height and width (default: 14)")
    parser.add_argument("--kernel", type=int, default=3, help="height and width of the kernel (default: 3)")
    parser.add_argument("--block", type=numbers, default="8,16,32,64", help="block lengths (default: 8,16,32,64)")
    args = parser.parse_args()
    rows, records = [], []
    for n in tqdm(args.n, unit="width", disable=None):
        record = measure(n, args)
        records.append(record)
        for batch in args.batch:
            dense, *times = medians_us(record, batch)
            cells = [cell for time in times for cell in (f"{time:.1f}", f"{dense / time:.2f}x")]
            rows.append((f"{n}", f"{batch}", f"{dense:.1f}", *cells))
    columns = [column for block in args.block for column in (f"block {block} us", "ratio")]
    print_table(("n", "batch", "dense us", *columns), rows, left=0)
    print(conditions(records[0]))
    print(warnings(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


def measure(n, args):
    """The dense convolution, and the circulant one with each block length."""
    layers = [nn.Conv2d(n, n, args.kernel, padding="same")]
    layers += [edgefc.CirculantConv2d(n, n, args.kernel, padding="same", block=block) for block in args.block]
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.onnx" for index in range(len(layers))]
        for layer, path in zip(layers, paths, strict=True):
            export(layer, torch.randn(2, n, args.image, args.image), path)
        return profile(paths, batch=args.batch, threads=args.threads, min_time_s=args.time, memory=False, launches=1)


if __name__ == "__main__":
    sys.exit(main())

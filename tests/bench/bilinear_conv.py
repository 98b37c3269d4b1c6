"""Compare both forms of the bilinear convolution with torch's in one run. The lowering's choice is based on this.

python tests/bench/bilinear_conv.py
python tests/bench/bilinear_conv.py --n 128,256 --image 14 --kernel 1
"""

import sys
from contextlib import ExitStack
from unittest import mock

from side_by_side import arguments, conditions, exported, medians_us, numbers, warnings
from torch import nn
from tqdm import tqdm

import edgefc
from edgefc.export.bodies.bilinear_conv import FACTORED, PADS
from edgefc.export.lowerings import bilinear_conv
from edgefc.files import write_text
from edgefc.runtime import profile
from edgefc.tables import print_table

COLUMNS = ("channels", "image", "batch", "dense us", "expanded us", "factored us", "dense / factored", "chosen")


def main() -> None:
    parser = arguments(__doc__, n="64,128,256", batch="1,8")
    parser.add_argument("--image", type=numbers, default=[14, 32], help="heights, as wide as high (default: 14,32)")
    parser.add_argument("--kernel", type=int, default=3, help="(default: 3)")
    args = parser.parse_args()
    rows, records = [], []
    for n in tqdm(args.n, unit="width", disable=None):
        for size in args.image:
            record, chosen = measure(n, size, args)
            records.append(record)
            for batch in args.batch:
                dense, expanded, factored = medians_us(record, batch)
                times = (f"{dense:.1f}", f"{expanded:.1f}", f"{factored:.1f}", f"{dense / factored:.2f}x")
                rows.append((f"{n}", f"{size} x {size}", f"{batch}", *times, chosen))
    print_table(COLUMNS, rows, left=0)
    print(conditions(records[0]))
    print(warnings(records))
    if args.json:
        write_text(args.json, "[" + ",\n".join(record.to_json() for record in records) + "]\n")


def measure(n, size, args):
    """The dense, expanded and factored forms, and the form that the lowering would choose."""
    layer = edgefc.BilinearConv2d(n, n, args.kernel, padding=args.kernel // 2)
    forms, chosen, prepare = {"expanded": PADS, "factored": FACTORED}, [], bilinear_conv.prepare
    with ExitStack() as stack:
        image = (n, size, size)
        paths = stack.enter_context(exported({"dense": nn.Conv2d(n, n, args.kernel, padding=args.kernel // 2)}, image))
        for name, form in forms.items():

            def decide(attributes, form=form):
                chosen.append(prepare(attributes)["form"])
                return {"form": form}

            with mock.patch.object(bilinear_conv, "prepare", decide):
                paths = [*paths, *stack.enter_context(exported({name: layer}, image))]
        record = profile(paths, batch=args.batch, threads=args.threads, min_time_s=args.time, memory=False, launches=1)
    return record, next(name for name, form in forms.items() if form == chosen[0])


if __name__ == "__main__":
    sys.exit(main())

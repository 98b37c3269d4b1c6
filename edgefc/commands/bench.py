"""edgefc bench [options]

Which layer is the fastest here? Dense, quantised, low-rank and structured layers beside each other.

    edgefc bench
    edgefc bench --n 768 --m 3072 --batch 1,16 --layers circulant,"prp rademacher",int4 --plot map.svg
    edgefc bench --n 4096 --batch 1 --time 2 --json bench.json

For every size and batch all layers take turns in one run, so that what the machine does meanwhile hits all alike:
torch's linear layer in float32, the same with int8 and with int4 weights as onnxruntime quantises them (int8 dynamic
in a range of 7 bits, which is right on processors with and without VNNI), two thin
matrices with as many numbers as the largest structured layer, and every structured layer, by its portable body and by
the native kernel where there is one ("int8 input": with activations of 8 bits, edgefc.runtime.Session says with which
error). TiedFFN, which replaces two layers, stands beside those two, n to 4 n and back.

Before anything is timed, every output is compared with a float64 product. A layer whose normalised mean squared error
is above 1e-6 in float32, 1e-3 with 8-bit numbers or 3e-2 with 4-bit weights is left out, with that reason.

The table has a part for each size and batch, the fastest first:

    error         the normalised mean squared error of the output: for the quantised layers against the dense layer, for
                  low rank and structured layers, whose weights are random, against their own matrix in float64
    over dense    the time of the dense layer over this one's, with a 95 % interval; above 1 is faster
    GB/s          the bytes that the layer must move (weights stored, input, output) over its time, and as a part of
                  what this machine reads from memory; above 100 % the weights came from a cache
    GFLOP/s       two operations for each multiply-add of the layer's formula, and as a part of what this machine
                  multiplies and adds in registers; a layer that needs few of them shows little here and is fast,
                  and above 100 % it works on smaller numbers, or looks sums up instead of adding
    stored        bytes of weights in the file
    held          bytes held once the file is loaded and has run at the first batch size, above what a model that does
                  nothing holds
    load          one load in a fresh process

A layer at neither limit has room for a better kernel. A star marks unreliable figures. What was left out is told with
its reason below the table, and the winner of each size and batch stands last.

--plot draws the same as a map: a row for each layer, a column for each size and batch, blue where the layer is faster
than dense, orange where it is slower, the fastest framed. Read it down a column to choose for one use, and along a row
to see where a layer begins to pay.

These are speed and bytes; what a layer costs in accuracy, training shows (edgefc recipe). Without options it takes two
or three minutes. When stopped, what was finished is shown, and is in the file of --json.
"""

import argparse
from typing import Any

from edgefc.options import count, counts, seconds
from edgefc.outputs import add_json, check_outputs
from edgefc.screen import err

TASK, SCHEMAS, EXTRA = "measure", ("bench",), "torch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=counts, default=(1024, 4096), metavar="N[,N]", help="inputs (default: 1024,4096)")
    parser.add_argument("--m", type=counts, metavar="M[,M]", help="outputs, one or as many as --n (default: as --n)")
    parser.add_argument("--batch", type=counts, default=(1, 64), metavar="N[,N]", help="rows (default: 1,64)")
    parser.add_argument(
        "--layers", type=_names, metavar="NAME[,NAME]", help="parts of names, such as circulant,int4 (default: all)"
    )
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="threads per run (default: 1)")
    parser.add_argument(
        "--time", type=seconds, default=0.2, metavar="SECONDS", help="time spent timing each row (default: 0.2)"
    )
    add_json(parser, "the record, after each size and batch,")
    parser.add_argument("--plot", metavar="PATH", help="draw the map here, .svg or .png")


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import EdgefcError, needs_extra

    with needs_extra(EXTRA, "edgefc bench"):
        from edgefc.bench.measure import bench
    if args.plot is not None:
        with needs_extra("recipes", "edgefc bench --plot"):
            from edgefc.bench import picture
        picture.check_format(args.plot)
    check_outputs([args.plot, args.json], force=args.force)
    from edgefc.bench.record import BenchRecord
    from edgefc.bench.table import show
    from edgefc.runtime.profiling.record_file import RecordFile

    file = RecordFile[BenchRecord](args.json)
    try:
        record = bench(
            args.n, args.batch, m=args.m, layers=args.layers, threads=args.threads, time_s=args.time, keep=file.keep
        )
    except (KeyboardInterrupt, EdgefcError):
        if file.newest is not None:
            show(file.newest)
            where = f"; they are in {file.path}" if file.kept else "; --json keeps them" if file.path is None else ""
            err(f"{len(file.newest.rows)} rows were finished{where}")
        raise
    show(record)
    try:
        file.write(record)
    finally:
        if args.plot is not None:
            picture.draw(record, args.plot)
    return 0


def schema(name: str) -> dict[str, Any]:
    from edgefc.bench.record import BenchRecord
    from edgefc.commands.schema import schema_of

    return schema_of(BenchRecord)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))

"""edgefc bench [options]

Compare the speed of dense, quantised, low-rank and structured layers on this machine.

    edgefc bench
    edgefc bench --n 768 --m 3072 --batch 1,16 --layers circulant,"prp rademacher",int4 --plot map.svg
    edgefc bench --n 4096 --batch 1 --time 2 --json bench.json

For each size and batch, all layers take turns in one process, so that other load on the machine affects all of them
equally. These layers are compared:

    dense         torch.nn.Linear in float32
    quantised     the dense layer with int8 and int4 weights, quantised by onnxruntime; int8 is dynamic and uses a range
                  of 7 bits, which is correct on processors with and without VNNI
    low rank      two thin matrices with as many numbers as the largest structured layer
    structured    every structured layer, with its portable body and, if available, its native kernel; "int8 input"
                  means 8-bit activations, whose error is documented in edgefc.runtime.Session

TiedFFN replaces two layers. It is compared with these two layers, n to 4 n and back.

Before timing, every output is compared with a float64 product. A layer is left out if its normalised mean squared error
is above 1e-6 in float32, 1e-3 with 8-bit numbers or 3e-2 with 4-bit weights.

The table has one part for each size and batch, with the fastest layer first:

    error         normalised mean squared error of the output: of quantised layers against the dense layer; of low-rank
                  and structured layers, whose weights are random, against their own matrix in float64
    over dense    time of the dense layer / time of this layer, with a 95 % interval; above 1 is faster
    GB/s          bytes that the layer must move (stored weights, input, output) / time, also in percent of the
                  memory bandwidth of this machine; above 100 % the weights were read from a cache
    GFLOP/s       two operations for each multiply-add of the layer's formula / time, also in percent of the rate of
                  multiply-adds in registers; a layer that needs few operations can be fast with a low value; above
                  100 % the layer uses smaller number types, or looks up sums instead of computing them
    stored        bytes of weights in the file
    held          bytes of memory after the file was loaded and run at the first batch size, minus those of a model that
                  does nothing
    load          time of one load in a fresh process

A layer that reaches neither limit could have a faster kernel. A star marks unreliable figures. The lines below the
table list the layers that were left out, with reasons, and then the fastest layer for each size and batch.

--plot draws a map with one row for each layer and one column for each size and batch. Cells are blue where the layer is
faster than dense and orange where it is slower. The fastest layer of each column is framed.

This command measures speed and bytes. Use edgefc recipe to see the effect of a layer on accuracy. Without options it
takes two or three minutes. If it is interrupted, it shows the finished results and keeps them in the file of --json.
"""

import argparse
from typing import Any

from edgefc.options import count, counts, seconds
from edgefc.outputs import add_json, check_outputs
from edgefc.screen import err

TASK, SCHEMAS, EXTRA = "measure", ("bench",), "torch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--n", type=counts, default=(1024, 4096), metavar="N[,N]", help="numbers of inputs (default: 1024,4096)"
    )
    parser.add_argument(
        "--m", type=counts, metavar="M[,M]",
        help="numbers of outputs: one value, or one for each value of --n (default: the values of --n)",
    )  # fmt: skip
    parser.add_argument("--batch", type=counts, default=(1, 64), metavar="N[,N]", help="batch sizes (default: 1,64)")
    parser.add_argument(
        "--layers", type=_names, metavar="NAME[,NAME]",
        help="measure layers whose names contain one of these, such as circulant,int4 (default: all)",
    )  # fmt: skip
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="threads per run (default: 1)")
    parser.add_argument(
        "--time", type=seconds, default=0.2, metavar="SECONDS", help="time spent timing each row (default: 0.2)"
    )
    add_json(parser, "the results, after each size and batch,")
    parser.add_argument("--plot", metavar="PATH", help="write the map to this file, .svg or .png")


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

"""edgefc profile MODEL [MODEL ...] [options]

Measure load time, latency and memory of one or more .onnx files on this machine.

    edgefc profile dense.onnx circulant.onnx --batch 1,64 --threads 1,2 --json record.json

Several models take turns in one process, so that what the machine does meanwhile hits all alike;
the ratio column compares each with the first. Comma lists are swept: every model runs at every
batch size and thread count. Inputs are drawn from the model's signature, or come from an .npz
file with one array per input (numpy.savez). Load time and memory are measured in fresh processes.

Memory is the peak above what onnxruntime alone needs, so what the model adds. A star marks a row
whose numbers are in doubt; the reasons stand below the table. --json writes the whole record,
with every timing kept; edgefc.runtime.Record.read reads it.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help="an .onnx file; ratios compare with the first")
    parser.add_argument("--batch", type=_counts, metavar="N[,N]", help="size of the open first dimension (default: 1)")
    parser.add_argument("--threads", type=_counts, default=(1,), metavar="N[,N]", help="threads per run (default: 1)")
    parser.add_argument(
        "--preset", default="latency", metavar="NAME",
        help="latency: onnxruntime's defaults; memory: one copy of each weight; battery: no spinning threads",
    )  # fmt: skip
    parser.add_argument(
        "--native", default="auto", metavar="MODE",
        help="kernels of edgefc's own for its layers: auto (where there are any), on, or off",
    )  # fmt: skip
    parser.add_argument("--inputs", metavar="FILE.npz", help="arrays to run with, by input name; the batch is theirs")
    parser.add_argument(
        "--time", type=float, default=1.0, metavar="SECONDS", help="time spent timing each row (default: 1)"
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip the memory measurement")
    parser.add_argument("--json", metavar="PATH", help="write the record here")


def run(args: argparse.Namespace) -> int:
    from edgefc.files import check_writable
    from edgefc.runtime.profiler import profile
    from edgefc.runtime.table import show

    if args.json is not None:
        check_writable(args.json, *args.models, *([args.inputs] if args.inputs else []))
    record = profile(
        args.models, batch=args.batch, threads=args.threads, preset=args.preset, inputs=args.inputs,
        min_time_s=args.time, memory=args.memory, native=args.native,
    )  # fmt: skip
    if args.json is not None:
        record.write(args.json)
    show(record)
    return 0


def _counts(text: str) -> tuple[int, ...]:
    """'1,64' as numbers; argparse shows the sentence."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of counts. Give whole numbers from 1, such as 1,64.")
    return numbers

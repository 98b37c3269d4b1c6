"""edgefc profile MODEL [MODEL ...] [options]

Measure load time, latency and memory of one or more .onnx files, on this machine or on others.

    edgefc profile dense.onnx circulant.onnx --batch 1,64 --threads 1,2 --json record.json

Several models take turns in one process, so that what the machine does meanwhile hits all alike.
The column "speed vs first" compares each with the first: its time over theirs, so above 1x is faster.
Models whose inputs have other shapes are not compared. Comma lists are swept: every model runs at every
batch size and thread count. Load time and memory are measured in fresh processes.

    edgefc profile bert.onnx --shape input_ids=1x128 --range input_ids=0:30521

Inputs come from an .npz file with one array per input (numpy.savez: --inputs), or are drawn. Drawn inputs
have 1 row (--batch) and 128 elements along other open axes, unless --shape says otherwise; axes of one name
have one size. Their values are standard normal floats, integers 0 and 1, ones for a mask, 0, 1, 2, ... for
positions and 0 for token types, unless --range says otherwise.

    edgefc profile dense.onnx circulant.onnx --device local,kitchen --json record.json

--device takes names that edgefc devices lists, and local for this machine. Several are measured at
the same time; one that fails or is lost does not stop the others, and what it had finished is kept.
Models are compared on one device, never across devices.

Memory is the peak above what onnxruntime alone needs, so what the model adds. A star marks a row
whose numbers are unreliable; the reasons stand below the table. --json writes a report: one record for
each device, with every timing, and one sentence for each device that failed. edgefc.runtime.Report.read
reads it, and edgefc.runtime.Record.read reads the record of a single device.
"""

import argparse
import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from edgefc.options import count, counts, number, real, seconds, shown
from edgefc.outputs import add_json, check_outputs
from edgefc.screen import err, reported

if TYPE_CHECKING:
    from edgefc.runtime.profiling.record import Report

TASK, SCHEMAS, EXTRA = "measure", ("profile",), "measure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="an .onnx file; the others are compared with the first"
    )
    parser.add_argument(
        "--device", type=_names, default=("local",), metavar="NAME[,NAME]", help="where to measure (default: local)"
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser, *, nested: bool = False) -> None:
    """What is measured and how, wherever it is."""
    parser.add_argument("--batch", type=counts, metavar="N[,N]", help="size of the open first dimension (default: 1)")
    parser.add_argument("--threads", type=counts, default=(1,), metavar="N[,N]", help="threads per run (default: 1)")
    parser.add_argument(
        "--preset", default="latency", metavar="NAME",
        help="latency: onnxruntime's defaults; memory: one copy of each weight; battery: no spinning threads",
    )  # fmt: skip
    parser.add_argument(
        "--native", default="auto", metavar="MODE",
        help="kernels of edgefc's own for its layers: auto (where there are any), on, or off",
    )  # fmt: skip
    parser.add_argument(
        "--activation-dtype", "--activations", default="float32", metavar="TYPE",
        help="float32, or int8: what the native kernel of PRPLinear rounds its inputs to (--activations: its old name)",
    )  # fmt: skip
    add_inputs(parser)
    parser.add_argument(
        "--time", type=seconds, default=1.0, metavar="SECONDS", help="time spent timing each row (default: 1)"
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip the memory measurement")
    add_json(parser, "the report", nested=nested)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """What models are fed with."""
    parser.add_argument("--inputs", metavar="FILE.npz", help="arrays to run with, by input name; the batch is theirs")
    parser.add_argument(
        "--shape", dest="shapes", type=shape, action="append", default=[], metavar="NAME=1x128",
        help="shape of a drawn input; ? leaves an axis at its default (may be repeated)",
    )  # fmt: skip
    parser.add_argument(
        "--range", dest="ranges", type=values, action="append", default=[], metavar="NAME=0:30521",
        help="lowest and highest value of a drawn input, both included (may be repeated)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import needs_extra

    with needs_extra(EXTRA, "edgefc profile"):
        importlib.import_module("edgefc.runtime.profiling.profiler")
    check_outputs([args.json], force=args.force, inputs=[*args.models, args.inputs])
    options = options_of(args)
    return _one(args, options) if len(args.device) == 1 else _several(args, options)


def schema(name: str) -> dict[str, Any]:
    from edgefc.commands.schema import schema_of
    from edgefc.runtime import Report

    return schema_of(Report)


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of add_options as those of profile()."""
    return {
        "batch": args.batch, "threads": args.threads, "preset": args.preset, **inputs_of(args),
        "min_time_s": args.time, "memory": args.memory, "native": args.native,
        "activation_dtype": args.activation_dtype,
    }  # fmt: skip


def inputs_of(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of add_inputs as those of profile()."""
    return {"inputs": args.inputs, "shapes": _once("--shape", args.shapes), "ranges": _once("--range", args.ranges)}


def _once(option: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    from edgefc.errors import UsageError

    found = dict(pairs)
    if len(found) < len(pairs):
        raise UsageError(f"{option} names an input twice. Give each input once.")
    return found


def _one(args: argparse.Namespace, options: dict[str, Any]) -> int:
    """What was finished is shown and written, also when the device is lost or Ctrl-C is pressed."""
    from edgefc.errors import EdgefcError
    from edgefc.runtime.profiling.profiler import profile
    from edgefc.runtime.profiling.record import Failure, Report
    from edgefc.runtime.profiling.record_file import RecordFile
    from edgefc.runtime.profiling.table import show

    (device,), file = args.device, RecordFile[Report](args.json)
    try:
        record = profile(args.models, device=device, keep=lambda part: file.keep(Report.from_records(part)), **options)
    except (EdgefcError, KeyboardInterrupt) as error:
        if file.newest is not None:
            said = str(error) or "it was interrupted"
            part = file.newest.records[0].model_copy(update={"unfinished": said})
            failures = [Failure(device=device, sentence=said)] if isinstance(error, EdgefcError) else []
            show(part)
            with reported("edgefc profile"):
                file.write(Report.from_records(part, failures=failures))
        raise
    show(record)
    file.write(Report.from_records(record))
    return 0


def _several(args: argparse.Namespace, options: dict[str, Any]) -> int:
    from edgefc.devices.many import Interrupted, profile_many
    from edgefc.errors import DeviceError

    try:
        report = profile_many(args.models, args.device, **options)
    except Interrupted as error:
        _show(error.report)
        if args.json is not None and error.report.records:
            with reported("edgefc profile"):
                error.report.write(args.json)
        raise
    _show(report)
    if args.json is not None:
        with reported("edgefc profile") if report.failures else nullcontext():
            report.write(args.json)
    return DeviceError.exit_code if report.failures else 0


def _show(report: "Report") -> None:
    from edgefc.runtime.profiling.table import show

    if report.records:
        show(*report.records)
    for failure in report.failures:
        err(f"edgefc profile: {failure.sentence}")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{shown(text)} is no list of devices. Give names, such as local,kitchen.")
    return names


def shape(text: str) -> tuple[str, tuple[int | None, ...]]:
    """'input_ids=1x128' as a name and sizes; argparse shows the sentence."""
    name, equals, sizes = text.rpartition("=")
    try:
        found = tuple(None if size == "?" else count(size) for size in sizes.split("x"))
    except argparse.ArgumentTypeError:
        found = ()
    if not equals or not name or not found:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is no shape of an input. Give its name and one size per axis, such as input_ids=1x128."
        )
    return name, found


def values(text: str) -> tuple[str, tuple[float, float]]:
    """'input_ids=0:30521' as a name, the lowest and the highest value; argparse shows the sentence."""
    name, equals, ends = text.rpartition("=")
    try:
        low, high = map(_number, ends.split(":"))
    except ValueError:
        low, high = 1, 0
    if not equals or not name or low > high:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is no range of values. Give an input's name, the lowest and the highest value, such as "
            "input_ids=0:30521."
        )
    return name, (low, high)


def _number(text: str) -> float:
    """Whole numbers stay exact."""
    exact = number(text)
    if exact is not None:
        return exact
    found = real(text)
    if found is None:
        raise ValueError(text)
    return found

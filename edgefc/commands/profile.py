"""edgefc profile MODEL [MODEL ...] [options]

Measure load time, latency and memory of one or more .onnx files, on this machine or on other devices.

    edgefc profile dense.onnx circulant.onnx --batch 1,64 --threads 1,2 --json record.json

Models: several models take turns in one process, so that other load on the machine affects all of them equally. The
column "speed vs first" is the time of the first model / the time of this model: above 1x is faster. Models whose inputs
have different shapes are not compared. If options have several values, every model runs at every batch size and thread
count. Load time and memory are measured in fresh processes.

    edgefc profile bert.onnx --shape input_ids=1x128 --range input_ids=0:30521

Inputs: pass an .npz file with one array per input (numpy.savez) as --inputs. Otherwise inputs are random. By default
random inputs have 1 row (--batch) and 128 elements along other dynamic axes, and axes with the same name have the same
size; --shape sets other shapes. By default the values are standard normal floats, integers 0 and 1, ones for a mask,
0, 1, 2, ... for positions and 0 for token types; --range sets other values.

    edgefc profile dense.onnx circulant.onnx --device local,kitchen --json record.json

Devices: --device accepts the names that edgefc devices lists, and local for this machine. Several devices are measured
at the same time. If one fails or its connection is lost, the others continue, and its finished measurements are kept.
Models are compared on the same device only.

Results: memory is the peak minus the memory that onnxruntime needs without a model. A star marks a row with unreliable
numbers; the reasons are listed below the table. --json writes a report with one record for each device, which has every
timing, and one sentence for each device that failed. Read it with edgefc.runtime.Report.read.
edgefc.runtime.Record.read reads the record of a single device.
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
        "models", nargs="+", metavar="MODEL", help="an .onnx file; the first is the baseline for the others"
    )
    parser.add_argument(
        "--device", type=_names, default=("local",), metavar="NAME[,NAME]", help="where to measure (default: local)"
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser, *, nested: bool = False) -> None:
    """Add the options for what is measured and how. They apply to every device."""
    parser.add_argument("--batch", type=counts, metavar="N[,N]", help="size of the open first dimension (default: 1)")
    parser.add_argument("--threads", type=counts, default=(1,), metavar="N[,N]", help="threads per run (default: 1)")
    parser.add_argument(
        "--preset", default="latency", metavar="NAME",
        help="latency (default): onnxruntime's defaults; memory: one copy of each weight; battery: no spinning threads",
    )  # fmt: skip
    parser.add_argument(
        "--native", default="auto", metavar="MODE",
        help="native kernels of edgefc: auto (default, if available), on (required) or off",
    )  # fmt: skip
    parser.add_argument(
        "--activation-dtype", "--activations", default="float32", metavar="TYPE",
        help="float32 (default), or int8: the native kernel of PRPLinear rounds its inputs to 8 bits "
             "(--activations is the deprecated name)",
    )  # fmt: skip
    add_inputs(parser)
    parser.add_argument(
        "--time", type=seconds, default=1.0, metavar="SECONDS", help="time spent timing each row (default: 1)"
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip the memory measurement")
    add_json(parser, "the report", nested=nested)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the options for the inputs of models."""
    parser.add_argument("--inputs", metavar="FILE.npz", help="arrays by input name; they also set the batch size")
    parser.add_argument(
        "--shape", dest="shapes", type=shape, action="append", default=[], metavar="NAME=1x128",
        help="shape of a random input; ? leaves an axis at its default (may be repeated)",
    )  # fmt: skip
    parser.add_argument(
        "--range", dest="ranges", type=values, action="append", default=[], metavar="NAME=0:30521",
        help="lowest and highest value of a random input, both included (may be repeated)",
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
    """The keyword arguments of profile() for the options of add_options()."""
    return {
        "batch": args.batch, "threads": args.threads, "preset": args.preset, **inputs_of(args),
        "min_time_s": args.time, "memory": args.memory, "native": args.native,
        "activation_dtype": args.activation_dtype,
    }  # fmt: skip


def inputs_of(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of profile() for the options of add_inputs()."""
    return {"inputs": args.inputs, "shapes": _once("--shape", args.shapes), "ranges": _once("--range", args.ranges)}


def _once(option: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    from edgefc.errors import UsageError

    by_name = dict(pairs)
    if len(by_name) < len(pairs):
        raise UsageError(f"{option} names an input twice. Give each input once.")
    return by_name


def _one(args: argparse.Namespace, options: dict[str, Any]) -> int:
    """Profile on one device. If the device is lost or the run is interrupted, show and write the finished results."""
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
            reason = str(error) or "it was interrupted"
            part = file.newest.records[0].model_copy(update={"unfinished": reason})
            failures = [Failure(device=device, sentence=reason)] if isinstance(error, EdgefcError) else []
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
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a list of devices. Give names, such as local,kitchen.")
    return names


def shape(text: str) -> tuple[str, tuple[int | None, ...]]:
    """Parse 'input_ids=1x128' into a name and sizes. argparse shows the error message."""
    name, equals, sizes = text.rpartition("=")
    try:
        axes = tuple(None if size == "?" else count(size) for size in sizes.split("x"))
    except argparse.ArgumentTypeError:
        axes = ()
    if not equals or not name or not axes:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not NAME=SHAPE. Give an input and one size per axis, such as input_ids=1x128."
        )
    return name, axes


def values(text: str) -> tuple[str, tuple[float, float]]:
    """Parse 'input_ids=0:30521' into a name, the lowest and the highest value. argparse shows the error message."""
    name, equals, ends = text.rpartition("=")
    try:
        low, high = map(_number, ends.split(":"))
    except ValueError:
        low, high = 1, 0
    if not equals or not name or low > high:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not NAME=LOW:HIGH. Give an input, its lowest and its highest value, such as "
            "input_ids=0:30521."
        )
    return name, (low, high)


def _number(text: str) -> float:
    """Parse a number. Integers stay exact."""
    exact = number(text)
    if exact is not None:
        return exact
    value = real(text)
    if value is None:
        raise ValueError(text)
    return value

"""edgefc estimate MODEL --device KEY [options]

Predict the latency and memory of an .onnx file on a device, without the device.

    edgefc estimate model.onnx --device pi5
    edgefc estimate model.onnx --device pi5 --batch 64 --threads 4 --json estimate.json
    edgefc estimate bert.onnx --device pi5 --shape input_ids=1x128 --all

The model is run once on this machine to count its operations and the bytes that it moves. The rates of the device come
from its profile (edgefc devices lists profiles). For --device host they are measured.

The result is an estimate, not a measurement. The band shows the error of such estimates on the machine that they were
fitted on. No other device was checked. The estimate is for the portable bodies of layers, not for native kernels.

The table has one row for each torch layer, with the slowest first. Files that edgefc did not write are grouped by the
scopes in the names of their nodes. "read" is the number of bytes of weights that one run reads. For an embedding these
are the rows that it looks up. "held" is the number of bytes of weights in memory. A shared weight is counted at the
first layer that uses it.
"""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from edgefc.commands.profile import add_inputs, inputs_of
from edgefc.options import count
from edgefc.outputs import add_json, check_outputs
from edgefc.screen import out

if TYPE_CHECKING:
    from edgefc.devices.estimating.estimate import Calibration, Estimate

TASK, SCHEMAS, EXTRA = "measure", ("estimate",), "measure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an .onnx file")
    parser.add_argument(
        "--device", required=True, metavar="KEY", help="a profile or one of your devices; edgefc devices lists both"
    )
    parser.add_argument("--batch", type=count, metavar="N", help="size of the open first dimension (default: 1)")
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="threads per run (default: 1)")
    add_inputs(parser)
    parser.add_argument("--all", action="store_true", help="print every layer (default: the 20 slowest)")
    add_json(parser, "the estimate")


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import needs_extra
    from edgefc.files import write_text

    with needs_extra(EXTRA, "edgefc estimate"):
        from edgefc.devices.by_name import estimate
        from edgefc.devices.estimating.estimate import Calibration
    check_outputs([args.json], force=args.force, inputs=[args.model, args.inputs])
    calibration, feeds = Calibration.read(), inputs_of(args)
    result = estimate(args.model, args.device, batch=args.batch, threads=args.threads, calibration=calibration, **feeds)
    _show(result, calibration, every=args.all)
    if args.json is not None:
        content = {"estimate": dataclasses.asdict(result), "calibration": calibration.model_dump()}
        write_text(args.json, json.dumps(content, indent=2) + "\n")
    return 0


def schema(name: str) -> dict[str, Any]:
    from edgefc.commands.schema import object_of, schema_of
    from edgefc.devices.estimating.estimate import Calibration, Estimate

    return schema_of(object_of(estimate=Estimate, calibration=Calibration))


def _show(result: "Estimate", calibration: "Calibration", *, every: bool) -> None:
    from edgefc.runtime.profiling.table import bytes_text, time_text
    from edgefc.tables import first_rows, print_table

    def time(seconds: float) -> str:
        return time_text(seconds * 1e9)

    threads = "1 thread" if result.threads == 1 else f"{result.threads} threads"
    out(f"ESTIMATE, not measured: {result.file} on {result.device}, batch {result.batch}, {threads}, portable bodies")
    out(f"latency {time(result.seconds)} (band {time(result.low_seconds)} to {time(result.high_seconds)})")
    room = {None: "", True: "", False: ", MORE THAN THE DEVICE HAS"}[result.fits]
    out(f"memory above onnxruntime's own {bytes_text(result.memory_bytes)}{room}")
    out()
    rows = [
        (each.layer or "(the model itself)", time(each.seconds), f"{100 * each.seconds / result.seconds:.0f} %",
         f"{each.flop:,}", bytes_text(each.weight_bytes), bytes_text(each.held_bytes), each.bound)
        for each in sorted(result.layers, key=lambda each: -each.seconds)
    ]  # fmt: skip
    shown, more = first_rows(rows, every)
    print_table(("layer", "time", "share", "operations", "read", "held", "mostly bound by"), shown)
    out(*([more] if more else []), "")
    off, held = calibration.latency, calibration.memory
    out(f"The band: of {off.cells} cells on {calibration.machine}, 80 % of the estimates were {off.p10:.2f} to "
        f"{off.p90:.2f} times the measured latency (all: {off.least:.2f} to {off.most:.2f}), and of {held.cells}, "
        f"80 % {held.p10:.2f} to {held.p90:.2f} times the measured memory.")  # fmt: skip
    if result.extrapolated:
        out("Estimates were not checked on this device. This one is extrapolated, so its error may exceed the band.")
    if result.threads > 1:
        out("Estimates for several threads were not checked on any device. They assume that the work divides evenly.")

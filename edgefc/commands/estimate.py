"""edgefc estimate MODEL --device KEY [options]

Predict latency and memory of an .onnx file on a device that is not at hand.

    edgefc estimate model.onnx --device pi5
    edgefc estimate model.onnx --device pi5 --batch 64 --threads 4 --json estimate.json
    edgefc estimate bert.onnx --device pi5 --shape input_ids=1x128 --all

The model is run once on this machine to count what it computes and moves, step by step; the device's rates come from
its profile (edgefc devices lists them), or are measured for --device host. What is printed is an estimate, never a
measurement: the band is how far such estimates were off on the machine that they were fitted on, and no other device
was checked. Layers run by their portable bodies; native kernels are not estimated.

The table has one row for each torch layer, slowest first. Files that edgefc did not write are grouped by the scopes in
the names of their nodes. "read" are the bytes of weights that one run reads: of an embedding the rows that it looks up.
"held" are the weights in memory, each counted at the first layer that has it.
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
    parser.add_argument("--device", required=True, metavar="KEY", help="a profile or a device of yours: edgefc devices")
    parser.add_argument("--batch", type=count, metavar="N", help="size of the open first dimension (default: 1)")
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="threads per run (default: 1)")
    add_inputs(parser)
    parser.add_argument("--all", action="store_true", help="print every layer (default: the 20 slowest)")
    add_json(parser, "the same")


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import needs_extra
    from edgefc.files import write_text

    with needs_extra(EXTRA, "edgefc estimate"):
        from edgefc.devices.by_name import estimate
        from edgefc.devices.estimating.estimate import Calibration
    check_outputs([args.json], force=args.force, inputs=[args.model, args.inputs])
    calibration, asked = Calibration.read(), inputs_of(args)
    found = estimate(args.model, args.device, batch=args.batch, threads=args.threads, calibration=calibration, **asked)
    _show(found, calibration, every=args.all)
    if args.json is not None:
        content = {"estimate": dataclasses.asdict(found), "calibration": calibration.model_dump()}
        write_text(args.json, json.dumps(content, indent=2) + "\n")
    return 0


def schema(name: str) -> dict[str, Any]:
    from edgefc.commands.schema import object_of, schema_of
    from edgefc.devices.estimating.estimate import Calibration, Estimate

    return schema_of(object_of(estimate=Estimate, calibration=Calibration))


def _show(found: "Estimate", calibration: "Calibration", *, every: bool) -> None:
    from edgefc.runtime.profiling.table import bytes_text, time_text
    from edgefc.tables import first_rows, print_table

    def time(seconds: float) -> str:
        return time_text(seconds * 1e9)

    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    out(f"ESTIMATE, not measured: {found.file} on {found.device}, batch {found.batch}, {threads}, portable bodies")
    out(f"latency {time(found.seconds)} (band {time(found.low_seconds)} to {time(found.high_seconds)})")
    room = {None: "", True: "", False: ", MORE THAN THE DEVICE HAS"}[found.fits]
    out(f"memory above onnxruntime's own {bytes_text(found.memory_bytes)}{room}")
    out()
    rows = [
        (each.layer or "(the model itself)", time(each.seconds), f"{100 * each.seconds / found.seconds:.0f} %",
         f"{each.flop:,}", bytes_text(each.weight_bytes), bytes_text(each.held_bytes), each.bound)
        for each in sorted(found.layers, key=lambda each: -each.seconds)
    ]  # fmt: skip
    shown, more = first_rows(rows, every)
    print_table(("layer", "time", "share", "operations", "read", "held", "mostly bound by"), shown)
    out(*([more] if more else []), "")
    off, held = calibration.latency, calibration.memory
    out(f"The band: of {off.cells} cells on {calibration.machine}, 80 % of the estimates were {off.p10:.2f} to "
        f"{off.p90:.2f} times the measured latency (all: {off.least:.2f} to {off.most:.2f}), and of {held.cells}, "
        f"80 % {held.p10:.2f} to {held.p90:.2f} times the measured memory.")  # fmt: skip
    if found.extrapolated:
        out("No estimate was checked on this device: it is extrapolated, and may be off by more than the band says.")
    if found.threads > 1:
        out("More than one thread was not checked anywhere: the work is taken to divide evenly.")

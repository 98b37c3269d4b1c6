"""edgefc compress SOURCE|MODEL.onnx --budget BUDGET --calibration DATA.npz -o OUTPUT [--weights FILE] [options]

Find the best model within a budget: choose what each layer becomes, and replace the layers.

    edgefc compress train.py:make_model --weights model.safetensors --calibration data.npz --budget bytes=0.25 -o small
    edgefc export train.py:make_model --weights small -o small.onnx
    edgefc compress model.onnx --calibration data.npz --budget bytes=0.25 -o small.onnx

SOURCE, --weights, --calibration and the output are those of edgefc replace. Budgets:

    bytes=0.25           a quarter of the bytes of the weights; from 1 on, bytes; also 6MB
    numbers=0.1          a tenth of the numbers that the model stores
    max-drop=0.01        the smallest model whose metric (--metric) is at most .01 below that of the original
    latency=2ms@DEVICE   of one run on a device, for .onnx files; @here is this machine
    latency=0.5@DEVICE   half of the time that the original takes there

Each layer is replaced by each candidate in turn: float16, 8 to 2 bits, low ranks in 8 bits. The change of the model's
outputs is the loss: 1 - mean cosine of the vectors along the last axis. The plan with the least sum of losses within
the budget is measured, with plans near it and with the uniform plans: all layers Half, Int8, Int4 and so on. The best
of them by measurement is written. --plan measures a given plan instead.

The calibration samples are divided: a tenth is held out for the figures at the end, about 64 are for choosing, and the
fits use the rest. 100 to 1,000 typical samples are enough.

--metric names a function from the model to a number, higher is better. It then decides between the measured plans.
--minutes trains the model afterwards. --work keeps all results in a folder, so that the same command goes on after an
interruption. Another budget can use the same folder.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefc.errors import UsageError, needs_extra
from edgefc.outputs import add_json, check_outputs
from edgefc.screen import out

if TYPE_CHECKING:
    from edgefc.choosing.report import CompressReport, LayerResult, PlanResult

TASK, SCHEMAS, EXTRA = "make", ("compress",), "measure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="package.module:factory, file.py:factory or model.onnx")
    parser.add_argument("-o", "--output", type=Path, metavar="OUTPUT", required=True,
                        help="the folder to write, or the .onnx file")  # fmt: skip
    parser.add_argument("--budget", metavar="BUDGET", help="such as bytes=0.25, numbers=0.1 or max-drop=0.01")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="a plan instead of a budget, .toml or .json")
    parser.add_argument("--weights", type=Path, metavar="FILE", help=".safetensors, or a state dict saved by torch")
    parser.add_argument("--calibration", type=Path, metavar="DATA.npz", required=True,
                        help="typical inputs of the model")  # fmt: skip
    parser.add_argument("--metric", metavar="FILE.py:FUNCTION", help="a function from the model to a number")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="N", help="train for this time (default: 0)")
    parser.add_argument("--work", type=Path, metavar="FOLDER",
                        help="keep all results here, to go on after an interruption")  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw quality against size, .svg or .png")
    parser.add_argument("--all", action="store_true", help="print every row of the tables")
    add_json(parser, "the report")


def run(args: argparse.Namespace) -> int:
    if (args.plan is None) == (args.budget is None):
        given = "neither --plan nor --budget" if args.plan is None else "--plan and --budget"
        raise UsageError(f"compress got {given}. Give one of them, such as --budget bytes=0.25.")
    if args.budget is not None:
        from edgefc.choosing.budget import budget_of

        budget_of(args.budget)
    if args.plot is not None:
        with needs_extra("recipes", "edgefc compress --plot"):
            from edgefc.compressing import picture
        picture.check_format(args.plot)
    if args.source.endswith(".onnx"):
        with needs_extra("onnx", "edgefc compress MODEL.onnx"):
            report = _run_file(args)
    else:
        with needs_extra("torch", "edgefc compress SOURCE"):
            report = _run_model(args)
    show(report, every=args.all)
    if args.json is not None:
        from edgefc.files import write_text

        write_text(args.json, json.dumps(report.record(), indent=2) + "\n")
    if args.plot is not None:
        picture.draw(report, args.plot)
    return 0


def schema(name: str) -> dict[str, Any]:
    from edgefc.choosing.report import CompressReport
    from edgefc.commands.schema import schema_of, with_null

    return dict(with_null(schema_of(CompressReport)))


def _run_model(args: argparse.Namespace) -> "CompressReport":
    from edgefc.compressing.compressing import compress
    from edgefc.export.model.source import load_function, load_source
    from edgefc.replacing.calibration import read_batches
    from edgefc.replacing.saving import PLAN, WEIGHTS, save

    if args.output.suffix == ".onnx":
        raise UsageError(f"-o {args.output}: the output for a torch model is a folder, which edgefc export reads.")
    outputs = [args.output / PLAN, args.output / WEIGHTS, args.json, args.plot]
    check_outputs(outputs, force=args.force, inputs=[args.plan, args.weights, args.calibration])
    metric = None if args.metric is None else load_function(args.metric)
    model, _ = load_source(args.source, args.weights)
    report = compress(
        model,
        args.plan,
        budget=args.budget,
        calibration=read_batches(args.calibration, model),
        metric=metric,
        minutes=args.minutes,
        folder=args.work,
    )
    if not report.plan["rules"]:
        raise UsageError(
            f"no smaller model is within {report.budget}: every layer stays. Nothing was written. Give another budget."
        )
    save(model, args.output)
    return report


def _run_file(args: argparse.Namespace) -> "CompressReport":
    from edgefc.rewriting.compressing import compress_file

    for option in ("weights", "metric", "minutes"):
        if getattr(args, option):
            raise UsageError(f"--{option} needs a torch model. Leave it out for an .onnx file.")
    outputs = [args.output, args.json, args.plot]
    check_outputs(outputs, force=args.force, inputs=[args.source, args.plan, args.calibration])
    return compress_file(
        args.source, args.output, plan=args.plan, budget=args.budget, calibration=args.calibration, folder=args.work
    )


def show(report: "CompressReport", *, every: bool = False) -> None:
    """Print the report: the layers, the plans that were compared, the outputs and the steps."""
    from edgefc.tables import first_rows, print_table

    rows, more = first_rows([_layer(each) for each in report.layers], every)
    columns = ["layer", "was", "becomes", "bytes", "then", "predicted loss", "measured", "output error"]
    print_table(columns, rows, left=3)
    out(*([more] if more else []), "")
    with_metric = report.before.metric is not None
    plans = [*report.stages, *sorted(report.uniform, key=lambda each: -each.cost)]
    columns = ["plan", report.what, "of it", "predicted loss", "loss", *(["metric"] if with_metric else []), "budget"]
    print_table(columns, [_plan(each, report) for each in plans], left=1)
    out("", report.sentence())
    for each in report.outputs:
        where = "held-out samples" if each.held_out else "samples that were used for the fits"
        cosine = "" if each.cosine is None else f", mean cosine {each.cosine:.5f}"
        name = f"output {each.name}" if each.name else "output"
        out(f"{name}: relative error {each.error:.3g}{cosine}, on {where}")
    if report.latency_before is not None and report.latency_after is not None:
        times = report.latency_before, report.latency_after, report.stages[-2].cost
        before, after, predicted = (f"{each / 1e3:.3g} ms" for each in times)
        out(f"latency on {report.device}, one thread: {before} -> {after} ({predicted} was predicted)")
    for step in (each for each in report.steps if each.seconds >= 0.05):
        memory = f", peak memory so far {step.peak_bytes / 1e6:,.0f} MB" if step.peak_bytes else ""
        out(f"{step.name}: {step.seconds:.1f} s{memory}")


def _layer(layer: "LayerResult") -> list[str]:
    return [
        layer.name, layer.before, layer.to, f"{layer.bytes_before:,}", f"{layer.bytes_after:,}",
        _number(layer.predicted), _number(layer.measured), _number(layer.error),
    ]  # fmt: skip


def _plan(plan: "PlanResult", report: "CompressReport") -> list[str]:
    metric = [] if report.before.metric is None else [_number(plan.metric)]
    return [
        plan.name, f"{plan.cost:,.0f}", f"{plan.cost / (report.before.cost or 1):.3f}",
        _number(plan.predicted), _number(plan.loss), *metric, "within" if plan.within else "above",
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"

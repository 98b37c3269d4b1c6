"""edgefc replace SOURCE|MODEL.onnx --plan PLAN -o OUTPUT [--calibration DATA.npz] [--weights FILE]

Replace the layers of a trained model by smaller ones, and fit these to what the trained layers did.

    edgefc replace train.py:make_model --weights trained.safetensors --plan plan.toml --calibration data.npz -o small
    edgefc export train.py:make_model --weights small -o small.onnx
    edgefc replace model.onnx --plan plan.toml --calibration data.npz -o small.onnx

SOURCE names a function without arguments that returns the model, or (model, example inputs). The output is then a
folder with the plan and the weights, which --weights of edgefc export and edgefc verify take, and edgefc.load(). For an
.onnx file the output is an .onnx file, and torch is not needed.

A plan is a .toml or .json file. The first rule whose pattern matches the name of a layer decides. In a pattern, *
stands for any characters. type is the class of the layer, or the operator in an .onnx file. min_size is the number of
its weights. Layers that no rule matches stay.

    [[rules]]
    match = "embeddings.*"
    to = { kind = "Int4", rotate = false }

    [[rules]]
    match = "encoder.*"
    type = "Linear"
    to = "Int4"

edgefc schema plan prints the JSON Schema of plans, with all kinds and settings.

--calibration is a .npz file with one array for each input of the model, by name: samples along the first axis. The fits
then minimise the error of the outputs for such inputs. The last samples are held out: the outputs before and after are
compared on them. Positions where attention_mask is 0 are left out. 100 to 1,000 typical samples are enough.
For an .onnx file whose inputs have a state, give arrays with one more axis: whole feeds, in order.

With --sequential, linear layers that become at least 4 times smaller are then fitted again, in the order in which they
run, for the inputs that they get in the replaced model. This reads the calibration data up to 24 times, and needs about
1,000 samples. The model keeps the fits with the smaller error on the held-out samples.

--dry-run prints what the plan does, without fits. It writes nothing.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefc.errors import UsageError, needs_extra
from edgefc.outputs import add_json, check_outputs
from edgefc.screen import out

if TYPE_CHECKING:
    from edgefc.replacing.report import LayerReport, ReplaceReport

TASK, SCHEMAS, EXTRA = "make", ("replace", "replace onnx", "plan"), "measure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="package.module:factory, file.py:factory or model.onnx")
    parser.add_argument("-o", "--output", type=Path, metavar="OUTPUT",
                        help="the folder to write, or the .onnx file")  # fmt: skip
    parser.add_argument("--plan", type=Path, required=True, metavar="FILE", help="the plan, .toml or .json")
    parser.add_argument("--weights", type=Path, metavar="FILE", help=".safetensors, or a state dict saved by torch")
    parser.add_argument("--calibration", type=Path, metavar="DATA.npz", help="typical inputs of the model")
    parser.add_argument("--statistics", type=Path, metavar="FOLDER",
                        help="keep the statistics of the inputs here, to go on after an interruption")  # fmt: skip
    parser.add_argument("--sequential", action="store_true",
                        help="fit layers again, for the inputs that they get in the replaced model")  # fmt: skip
    parser.add_argument("--new", action="store_true", help="initial values instead of fits, for a model to be trained")
    parser.add_argument("--dry-run", action="store_true", help="print what the plan does, and write nothing")
    parser.add_argument("--all", action="store_true", help="print every row of the table")
    add_json(parser, "the report")


def run(args: argparse.Namespace) -> int:
    if args.output is None and not args.dry_run:
        raise UsageError("no output. Give -o FOLDER, or -o FILE.onnx for an .onnx file.")
    if args.new and args.calibration is not None:
        raise UsageError("--new reads no calibration data. Leave out --new or --calibration.")
    if args.source.endswith(".onnx"):
        return _run_file(args)
    with needs_extra("torch", "edgefc replace SOURCE"):
        return _run_model(args)


def schema(name: str) -> dict[str, Any]:
    from edgefc.commands.schema import schema_of, with_null
    from edgefc.replacing.report import ReplaceReport

    if name == "plan":
        from edgefc.plan.schema import plan_schema

        return plan_schema()
    if name == "replace onnx":
        from edgefc.rewriting.report import FileReport

        return dict(with_null(schema_of(FileReport, weights_before=int, weights_after=int)))
    return dict(with_null(schema_of(ReplaceReport)))


def _run_model(args: argparse.Namespace) -> int:
    from edgefc.export.model.source import load_source
    from edgefc.plan.reading import plan_of
    from edgefc.replacing.calibration import read_batches
    from edgefc.replacing.replacing import preview, replace
    from edgefc.replacing.saving import PLAN, WEIGHTS, save

    if args.output is not None and args.output.suffix == ".onnx":
        raise UsageError(f"-o {args.output}: the output for a torch model is a folder, which edgefc export reads.")
    outputs = [] if args.dry_run else [args.output / PLAN, args.output / WEIGHTS]
    check_outputs([*outputs, args.json], force=args.force, inputs=[args.plan, args.weights, args.calibration])
    plan = plan_of(args.plan)
    model, _ = load_source(args.source, args.weights)
    if args.dry_run:
        report = preview(model, plan)
    else:
        batches = None if args.calibration is None else read_batches(args.calibration, model)
        report = replace(
            model,
            plan,
            init="new" if args.new else "fit",
            calibration=batches,
            statistics=args.statistics,
            sequential=args.sequential,
        )
        save(model, args.output)
    show(report, every=args.all)
    _write(args.json, report.record())
    return 0


def _run_file(args: argparse.Namespace) -> int:
    from edgefc.rewriting import replace_file
    from edgefc.rewriting.showing import show as show_file

    for option in ("new", "weights", "dry_run", "statistics", "sequential"):
        if getattr(args, option):
            raise UsageError(f"--{option.replace('_', '-')} needs a torch model. Leave it out for an .onnx file.")
    check_outputs([args.output, args.json], force=args.force, inputs=[args.source, args.plan, args.calibration])
    report = replace_file(args.source, args.plan, args.output, calibration=args.calibration)
    show_file(report, every=args.all)
    _write(args.json, report.record())
    return 0


def show(report: "ReplaceReport", *, every: bool = False) -> None:
    """Print the report: a table of the layers, the layers that stay, the outputs and the warnings."""
    from edgefc.tables import first_rows, print_table

    fitted = any(layer.error is not None for layer in report.replaced)
    columns = ["layer", "was", "becomes", "numbers", "then", "bytes", "then", *(["output error"] if fitted else [])]
    rows, more = first_rows([_row(layer, fitted) for layer in report.replaced], every)
    print_table(columns, rows, left=3)
    out(*([more] if more else []))
    out("", f"model: {report.numbers_before:,} numbers -> {report.numbers_after:,}; "
        f"{report.bytes_before:,} bytes of weights -> {report.bytes_after:,} ({_ratio(report)})")  # fmt: skip
    kept = [f"stays: {layer.name}: {layer.reason}" for layer in report.kept]
    shown, more = first_rows([[line] for line in kept], every)
    out(*(row[0] for row in shown), *([more] if more else []))
    for output in report.outputs:
        where = "held-out samples" if output.held_out else "the calibration data, all of which were used for the fits"
        cosine = "" if output.cosine is None else f", mean cosine {output.cosine:.5f}"
        out(
            f"output {output.name}: relative error {output.error:.3g}{cosine}, on {where}".replace(
                "output :", "output:"
            )
        )
    for step in (each for each in report.steps if each.seconds >= 0.05):
        memory = f", peak memory so far {step.peak_bytes / 1e6:,.0f} MB" if step.peak_bytes else ""
        out(f"{step.name}: {step.seconds:.1f} s{memory}")
    out(*(f"warning: {text}" for text in report.warnings))


def _row(layer: "LayerReport", fitted: bool) -> Sequence[str]:
    error = "-" if layer.error is None else f"{layer.error:.3g}"
    if layer.refitted:
        error += " (refitted)"
    if layer.error is not None and layer.error_plain is not None:
        error += f" (plain {layer.error_plain:.3g})"
    return [
        layer.name, layer.before, layer.to, f"{layer.numbers_before:,}", f"{layer.numbers_after:,}",
        f"{layer.bytes_before:,}", f"{layer.bytes_after:,}", *([error] if fitted else []),
    ]  # fmt: skip


def _ratio(report: "ReplaceReport") -> str:
    return f"{report.bytes_before / report.bytes_after:.2f}x" if report.bytes_after else "-"


def _write(path: Path | None, record: dict[str, Any]) -> None:
    from edgefc.files import write_text

    if path is not None:
        write_text(path, json.dumps(record, indent=2) + "\n")

"""verify(): does an .onnx file compute what the torch model computes? If not, from which layer on?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgefc.errors import CheckFailed, ExportError, UsageError
from edgefc.export.adapter import Adapter
from edgefc.export.axes import Plan
from edgefc.export.divergence import first_layer_off
from edgefc.export.examples import Args, example_inputs
from edgefc.export.measures import Comparison, float_bound, measure
from edgefc.export.preparing import adapt
from edgefc.export.running import feeds_of, open_session, run_session, torch_outputs
from edgefc.export.tracing import eval_mode
from edgefc.export.variants import plan_of_file, variants


@dataclass(frozen=True)
class VerifyReport:
    """Every comparison made; `parts_at` names the first layer whose output is off, when one is."""

    outputs: tuple[Comparison, ...]
    parts_at: str | None = None

    @property
    def holds(self) -> bool:
        return all(output.holds for output in self.outputs)

    @property
    def worst(self) -> Comparison:
        return max(self.outputs, key=lambda output: output.nmse / output.bound if output.bound else output.nmse)

    def sentence(self) -> str:
        """What was compared and how far apart it was, for people."""
        worst = self.worst
        rows = sorted({output.rows for output in self.outputs})
        return (
            f"torch and onnxruntime agree at {', '.join(map(str, rows))} rows: worst output {worst.name!r}, normalised "
            f"mean squared error {worst.nmse:.1e}, bound {worst.bound:.0e}"
        )

    def raise_if_failed(self, file: str) -> None:
        """CheckFailed, with the worst output and the layer where torch and onnxruntime part ways."""
        if self.holds:
            return
        worst = self.worst
        where = f"they part ways at layer {self.parts_at!r}" if self.parts_at else "no layer between could be compared"
        raise CheckFailed(
            f"{file} does not compute what the torch model computes: output {worst.name!r} has a normalised mean "
            f"squared error of {worst.nmse:.1e} at {worst.rows} rows, over the bound of {worst.bound:.0e}; {where}."
        )


def verify(path: str | Path, model: nn.Module, args: Args) -> VerifyReport:
    """Run the file and the model on the same inputs, and on other batch sizes where the file allows it.

    Raises:
        UsageError: no such file, or inputs that the file does not take.
        ModelError: a file that onnxruntime cannot load.
    """
    positional, keyword = example_inputs(args)
    session = open_session(Path(path))
    cached = any(entry.name.startswith("past_key_values.") for entry in session.get_inputs())
    with eval_mode(model), torch.no_grad():
        try:
            adapter, _, _ = adapt(model, positional, keyword, cache=cached)
        except ExportError as error:
            raise UsageError(str(error)) from error
        return compare(Path(path), adapter, plan_of_file(session, adapter.inputs))


def compare(file: Path, adapter: Adapter, plan: Plan) -> VerifyReport:
    """verify() of a model whose inputs are sorted already, at the examples' sizes and at others along open axes."""
    session, bound = open_session(file), float_bound(file)
    model, args = adapter, adapter.inputs.tensors
    kwargs: dict[str, Any] = {}
    with eval_mode(model), torch.no_grad():
        batches = [(args, kwargs), *((tensors, kwargs) for tensors in variants(adapter, plan))]
    outputs: list[Comparison] = []
    with eval_mode(model), torch.no_grad():
        for some_args, some_kwargs in batches:
            feeds = {name: array.copy() for name, array in feeds_of(session, adapter.inputs.names, some_args).items()}
            expected = torch_outputs(model, some_args, some_kwargs)
            actual = run_session(session, file, feeds)
            names = [output.name for output in session.get_outputs()]
            if len(names) != len(expected):
                raise UsageError(f"{file.name} has {len(names)} outputs and the model {len(expected)}: not one model.")
            rows = next(iter(feeds.values())).shape[0] if next(iter(feeds.values())).ndim else 1
            outputs += [measure(*triple, rows, bound) for triple in zip(names, actual, expected, strict=True)]
        report = VerifyReport(tuple(outputs))
        if report.holds:
            return report
        return VerifyReport(report.outputs, first_layer_off(file, model, args, kwargs, bound))

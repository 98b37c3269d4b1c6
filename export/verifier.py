"""verify(): does an .onnx file compute what the torch model computes? If not, from which layer on?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from edgefc.errors import CheckFailed, UsageError
from edgefc.export.divergence import first_layer_off
from edgefc.export.examples import Args, check_common_batch, example_inputs, with_rows
from edgefc.export.measures import Comparison, float_bound, measure
from edgefc.export.running import feeds_of, open_session, run_session, torch_outputs
from edgefc.export.state import as_given


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
    return compare(Path(path), model, positional, keyword)


def compare(
    file: Path, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, dynamic_batch: bool | None = None
) -> VerifyReport:
    """verify() on arguments that are sorted already; dynamic_batch=None asks the file."""
    session, bound = open_session(file), float_bound(file)
    if dynamic_batch is None:
        dynamic_batch = all(not isinstance(i.shape[0], int) for i in session.get_inputs() if i.shape)
    batches = [(args, kwargs)]
    if dynamic_batch:
        rows = check_common_batch(args, kwargs)
        batches += [with_rows(args, kwargs, other) for other in (1, 3) if other != rows]
    outputs: list[Comparison] = []
    with as_given(model) as given:
        for some_args, some_kwargs in batches:
            feeds = {name: array.copy() for name, array in feeds_of(session, some_args, some_kwargs).items()}
            with given.run():
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

"""verify(): does an .onnx file compute what the torch model computes? If not, from which layer on?"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc.errors import CheckFailed, ExportError, UsageError, shortened
from edgefc.export.model.state import Given, as_given
from edgefc.export.tracing import axes
from edgefc.export.tracing.adapter import Adapter
from edgefc.export.tracing.axes import Plan
from edgefc.export.tracing.examples import Args, example_inputs
from edgefc.export.tracing.preparing import adapt, refresh
from edgefc.export.verifying.divergence import first_layer_off
from edgefc.export.verifying.drawn import drawn_inputs
from edgefc.export.verifying.judges import SHARE, Judge, judge
from edgefc.export.verifying.measures import NMSE_BOUND, NMSE_BOUND_DFT, Comparison, float_bound, nmse
from edgefc.export.verifying.rounding import magnified_rounding
from edgefc.export.verifying.running import feeds_of, open_session, run_session, torch_outputs
from edgefc.export.verifying.variants import plan_of_file, variants
from edgefc.files import writing
from edgefc.progress import elapsed

_ROUNDING_RUNS = (4, 8, 16)
"""Runs of torch with magnified rounding after which the outputs that are not settled are looked at again."""

_DFT_FACTOR = 100.0
"""onnxruntime's DFT operator errs so many times more than rounding, off powers of two."""


@dataclass(frozen=True)
class VerifyReport:
    """Every comparison that was made, and what they do not show.

    Attributes:
        outputs: one Comparison for each output on each set of inputs.
        parts_at: the first layer whose output differs, where one was found.
        constant: outputs that were the same for the example and for drawn inputs, bit for bit.
        not_varied: why no drawn inputs were tried; None where they were.
        not_searched: why the first layer that differs was not searched for; None where it was, or where none differs.
    """

    outputs: tuple[Comparison, ...]
    parts_at: str | None = None
    constant: tuple[str, ...] = ()
    not_varied: str | None = None
    not_searched: str | None = None

    @property
    def holds(self) -> bool:
        """Every output passed on all inputs, and there was at least one."""
        return bool(self.outputs) and all(output.holds for output in self.outputs)

    @property
    def worst(self) -> Comparison:
        """The comparison that is furthest from what it is allowed."""
        return max(self.outputs, key=lambda output: (not output.holds, output.excess))

    @property
    def shapes(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """The shapes of the inputs, set by set."""
        return tuple(dict.fromkeys(output.inputs for output in self.outputs))

    def sentence(self) -> str:
        """The verdict, what was compared and how far apart it was, for people."""
        if not self.outputs:
            return "torch and onnxruntime were not compared: the file has no outputs"
        worst = self.worst
        if not self.holds:
            verdict = "do not agree" if worst.differs else "were not compared"
            return f"torch and onnxruntime {verdict}: {self._failure()}"
        said = f"normalised mean squared error {worst.nmse:.1e}, bound {worst.bound:.0e}"
        if worst.nmse > worst.bound:
            said += ", over it by no more than rounding"
        if not worst.bound:
            said = f"{worst.differing:,} of {worst.size:,} entries differ"
        agree = f"torch and onnxruntime agree at {self._places()}: worst output {_quoted(worst.name)}, {said}"
        return "; ".join((agree, *self.remarks()))

    def remarks(self) -> list[str]:
        """What the comparison does not show, and where it was not exact, one clause each."""
        said = []
        for name in dict.fromkeys(output.name for output in self.outputs):
            of_name = [output for output in self.outputs if output.name == name]
            differing = max(of_name, key=lambda output: output.differing)
            missing = max(of_name, key=lambda output: output.not_finite)
            noise = max(of_name, key=lambda output: output.noise_columns)
            if differing.differing and differing is not self.worst:
                said.append(f"{differing.differing:,} of {differing.size:,} entries of {_quoted(name)} differ")
            if missing.not_finite:
                said.append(
                    f"{missing.not_finite:,} of {missing.size:,} entries of {_quoted(name)} are NaN or infinite in both"
                )
            if noise.noise_columns:
                said.append(
                    f"{noise.noise_columns:,} of {noise.shape[-1]:,} columns of {_quoted(name)} "
                    "are rounding errors only"
                )
        said += [f"output {_quoted(name)} did not change with the input" for name in self.constant]
        return said + ([f"no other inputs were tried: {self.not_varied}"] if self.not_varied else [])

    def record(self) -> dict[str, Any]:
        """The report as JSON can hold it: numbers that are not finite are null."""
        outputs = [{**dataclasses.asdict(output), "holds": output.holds} for output in self.outputs]
        record: dict[str, Any] = _finite_or_none(
            {**dataclasses.asdict(self), "outputs": outputs, "holds": self.holds, "sentence": self.sentence()}
        )
        return record

    def raise_if_failed(self, file: str) -> None:
        """Raise CheckFailed with the worst output and the first layer that differs, unless the report holds."""
        if self.holds:
            return
        if not self.outputs:
            raise CheckFailed(f"{file} cannot be verified: it has no outputs.")
        if self.worst.differs:
            found = f"is {_quoted(self.parts_at)}" if self.parts_at else "was not found: no layer could be compared"
            where = f"was not searched for: {self.not_searched}" if self.not_searched else found
            raise CheckFailed(
                f"{file} does not compute what the torch model computes: {self._failure()}; "
                f"the first layer that differs {where}."
            )
        raise CheckFailed(
            f"{file} cannot be verified: {self._failure()}. If the model is meant to give this, pass "
            "allow_nonfinite=True (--allow-nonfinite)."
        )

    def _failure(self) -> str:
        worst = self.worst
        inputs = "drawn inputs" if worst.drawn else "inputs"
        shapes = ", ".join(map(str, worst.inputs[:4])) + (", ..." if len(worst.inputs) > 4 else "")
        return f"output {_quoted(worst.name)} {worst.failure}, on {inputs} of shapes {shapes}"

    def _places(self) -> str:
        """The batch sizes where nothing else changes, or the shapes."""
        first = [tuple(shape[:1] for shape in shapes) for shapes in self.shapes]
        rest = {tuple(shape[1:] for shape in shapes) for shapes in self.shapes}
        if len(rest) == 1 and all(len({size for size in sizes if size}) == 1 for sizes in first):
            return f"{', '.join(map(str, sorted({output.rows for output in self.outputs})))} rows"
        sets = [" and ".join("x".join(map(str, shape)) or "scalar" for shape in shapes) for shapes in self.shapes]
        return f"inputs of shapes {', '.join(sets)}"


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verify(path: str | Path, model: nn.Module, args: Args, *, allow_nonfinite: bool = False) -> VerifyReport:
    """Run the file and the model on the same inputs, on drawn ones, and at other sizes of the file's open axes.

    See edgefc.export.verifying.judges for what passes.

    Args:
        path: the .onnx file.
        model: the torch model; it is run in eval mode, and put back into its mode.
        args: example inputs: a tensor, a sequence of positional ones, or a mapping of keyword ones.
        allow_nonfinite: accept outputs of which most are NaN or infinite, if they are the same in both.

    Raises:
        UsageError: no such file, inputs that the file does not take, or a model that raises on them.
        ModelError: a file that onnxruntime cannot load.
        CheckFailed: the torch model gives other outputs each time it runs.
    """
    positional, keyword = example_inputs(args)
    refresh(model)
    session = open_session(Path(path))
    cached = any(entry.name.startswith("past_key_values.") for entry in session.get_inputs())
    with elapsed(f"verifying {Path(path).name}"), as_given(model) as given:
        try:
            adapter, _, _ = adapt(given, model, positional, keyword, cache=cached)
        except ExportError as error:
            raise UsageError(str(error)) from error
        plan = plan_of_file(session, adapter.inputs)
        return compare(Path(path), given, adapter, plan, allow_nonfinite=allow_nonfinite)


def compare(file: Path, given: Given, adapter: Adapter, plan: Plan, *, allow_nonfinite: bool = False) -> VerifyReport:
    """verify() of a model whose inputs are named: on the examples, at other sizes of the plan's axes, on drawn inputs.

    Every run of the model starts from the state in `given`.
    """
    run, inputs = _Run(file, given, adapter, allow_nonfinite), adapter.inputs.tensors
    feeds_of(run.session, adapter.inputs.names, inputs)  # raises where the file takes other inputs
    axes.sizes_of(plan, adapter.inputs.names, inputs)  # raises where inputs differ in axes that have one size
    example = torch_outputs(given, adapter, inputs)
    run.check_repeats(example, torch_outputs(given, adapter, inputs))
    drawn, not_varied = _drawn(given, adapter, example)
    moved, constant = _moved(run.names, example, drawn[1] if drawn else None)
    comparisons = run.on(inputs, moved, expected=example)
    for variant in variants(given, adapter, plan):
        comparisons += run.on(variant, moved)
    if drawn:
        comparisons += run.on(drawn[0], moved, expected=drawn[1], drawn=True)
    report = VerifyReport(tuple(comparisons), None, constant, not_varied)
    if report.holds or not report.outputs or not report.worst.differs:
        return report
    shown = drawn[0] if drawn and report.worst.drawn else inputs
    try:
        with writing("temporary files"):
            parts_at, not_searched = first_layer_off(file, given, adapter, shown, run.bound), None
    except UsageError as error:  # the verdict is more than the place
        parts_at, not_searched = None, str(error).rstrip(".")
    return dataclasses.replace(report, parts_at=parts_at, not_searched=not_searched)


class _Run:
    """The file in onnxruntime beside the torch model."""

    def __init__(self, file: Path, given: Given, adapter: Adapter, allow_nonfinite: bool) -> None:
        self.session, self.bound = open_session(file), float_bound(file)
        self.names: list[str] = [output.name for output in self.session.get_outputs()]
        self._file, self._given, self._adapter, self._allow_nonfinite = file, given, adapter, allow_nonfinite

    def check_repeats(self, first: list[NDArray[Any]], second: list[NDArray[Any]]) -> None:
        """Raise UsageError where file and model have not as many outputs; CheckFailed where torch gives others."""
        if len(self.names) != len(first):
            raise UsageError(
                f"{self._file.name} has {len(self.names)} outputs and the model {len(first)}: not one model."
            )
        for index, one in enumerate(first):
            if len(second) != len(first) or _differs(second[index], one, self.bound):
                raise CheckFailed(
                    f"{type(self._adapter.model).__name__} itself is random: two runs of torch on the same inputs "
                    f"differ in output {self.names[index]!r}, so that no file can be compared with it. Make forward "
                    "deterministic (look for dropout that stays on in eval mode, torch.rand, or state kept between "
                    "calls), or export without the check (verify=False, --no-verify)."
                )

    def on(
        self,
        inputs: Sequence[Tensor],
        moved: list[float],
        *,
        expected: list[NDArray[Any]] | None = None,
        drawn: bool = False,
    ) -> list[Comparison]:
        """Compare every output on these inputs."""
        feeds = {
            name: array.copy() for name, array in feeds_of(self.session, self._adapter.inputs.names, inputs).items()
        }
        shapes = tuple(array.shape for array in feeds.values())
        rows = next((shape[0] for shape in shapes if shape), 1)
        expected = torch_outputs(self._given, self._adapter, inputs) if expected is None else expected
        actual = run_session(self.session, self._file, feeds)
        judges = [
            judge(
                Comparison(name, rows, shapes, drawn, wanted.shape, 0.0, 0.0, self.bound),
                got,
                wanted,
                allow_nonfinite=self._allow_nonfinite,
                moved=far,
            )
            for name, got, wanted, far in zip(self.names, actual, expected, moved, strict=True)
        ]
        self._show_rounding(judges, inputs)
        return [each.comparison() for each in judges]

    def _show_rounding(self, judges: list[Judge], inputs: Sequence[Tensor]) -> None:
        """Show judges that are not settled what magnified rounding does to torch's outputs."""
        factor = _DFT_FACTOR if self.bound == NMSE_BOUND_DFT else 1.0
        for seed in range(_ROUNDING_RUNS[-1]):
            if seed in (0, *_ROUNDING_RUNS) and all(each.settled for each in judges):
                return
            try:
                with magnified_rounding(seed, factor):
                    sample = torch_outputs(self._given, self._adapter, inputs)
            except UsageError:  # the errors led the model to inputs that one of its operations refuses
                continue
            for each, values in zip(judges, sample, strict=False):
                each.observe(values)


def _differs(one: NDArray[Any], other: NDArray[Any], bound: float) -> bool:
    if one.shape != other.shape:
        return True
    if one.dtype.kind == "f":
        return nmse(one, other) > max(bound, NMSE_BOUND)
    return int((one != other).sum()) > SHARE * one.size


def _drawn(
    given: Given, adapter: Adapter, example: list[NDArray[Any]]
) -> tuple[tuple[tuple[Tensor, ...], list[NDArray[Any]]] | None, str | None]:
    """Drawn inputs and the outputs of torch for them, or the reason why no inputs were drawn."""
    inputs = drawn_inputs(adapter.inputs.tensors)
    if inputs is None:
        return None, "they are only masks and constant integers"
    try:
        outputs = torch_outputs(given, adapter, inputs)
    except UsageError:
        return None, "the torch model does not run on drawn inputs"
    if len(outputs) != len(example) or any(_less_finite(*pair) for pair in zip(outputs, example, strict=True)):
        return None, "the torch model gives NaN, infinities or other outputs on drawn inputs"
    return (inputs, outputs), None


def _less_finite(drawn: NDArray[Any], example: NDArray[Any]) -> bool:
    return not np.isfinite(drawn).all() and bool(np.isfinite(example).all())


def _moved(
    names: list[str], example: list[NDArray[Any]], drawn: list[NDArray[Any]] | None
) -> tuple[list[float], tuple[str, ...]]:
    """The mean square of what drawn inputs change in each output; and the outputs that they do not change."""
    if drawn is None:
        return [0.0] * len(example), ()
    moved, constant = [], []
    for name, one, other in zip(names, example, drawn, strict=True):
        same_shape = one.shape == other.shape and one.size > 0
        if same_shape and np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            constant.append(name)
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.square(one.astype(np.float64) - other.astype(np.float64)) if same_shape else np.zeros(1)
        moved.append(float(gap[np.isfinite(gap)].sum() / max(gap.size, 1)))
    return moved, tuple(constant)


def _quoted(name: str) -> str:
    """As sentences quote it: names have any length."""
    return repr(shortened(name, 80))

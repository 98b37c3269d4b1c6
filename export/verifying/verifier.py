"""verify(): checks that an .onnx file computes the same as the torch model, or finds the first layer that differs."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc.errors import CheckFailed, ExportError, ModelError, UsageError, shortened
from edgefc.export.model.state import Given, as_given
from edgefc.export.tracing import axes
from edgefc.export.tracing.adapter import Adapter
from edgefc.export.tracing.axes import Plan
from edgefc.export.tracing.examples import Args, example_inputs
from edgefc.export.tracing.preparing import adapt, refresh
from edgefc.export.verifying.divergence import first_layer_off
from edgefc.export.verifying.drawn import drawn_inputs
from edgefc.export.verifying.int8 import change as int8_change
from edgefc.export.verifying.int8 import without_int8
from edgefc.export.verifying.judges import SHARE, Judge, judge
from edgefc.export.verifying.measures import (
    NMSE_BOUND,
    NMSE_BOUND_DFT,
    NMSE_BOUND_INT8,
    Comparison,
    float_bound,
    nmse,
)
from edgefc.export.verifying.rounding import magnified_rounding
from edgefc.export.verifying.running import feeds_of, open_session, run_session, torch_outputs
from edgefc.export.verifying.variants import plan_of_file, variants
from edgefc.files import writing
from edgefc.progress import elapsed

_ROUNDING_RUNS = (4, 8, 16)
"""Numbers of torch runs with magnified rounding after which the judges are checked for being settled."""

_DFT_FACTOR = 100.0
"""The error of onnxruntime's DFT operator relative to rounding, for lengths that are not powers of two."""


@dataclass(frozen=True)
class VerifyReport:
    """All comparisons of verify(), and their limitations.

    Attributes:
        outputs: one Comparison for each output on each set of inputs.
        parts_at: the first layer whose output differs, or None.
        constant: outputs that were bit-identical for the example and for random inputs.
        not_varied: why no random inputs were tested, or None if they were.
        not_searched: why the first layer that differs was not searched for, or None if it was or all outputs agree.
        int8: for a file that rounds the inputs of quantised layers to int8: the largest normalised mean squared error
            that this causes in an output. The other comparisons are without this rounding. None for other files.
    """

    outputs: tuple[Comparison, ...]
    parts_at: str | None = None
    constant: tuple[str, ...] = ()
    not_varied: str | None = None
    not_searched: str | None = None
    int8: float | None = None

    @property
    def holds(self) -> bool:
        """Whether there is at least one output, and all outputs passed on all inputs."""
        return bool(self.outputs) and all(output.holds for output in self.outputs) and not self._coarse

    @property
    def _coarse(self) -> bool:
        """Whether rounding inputs to int8 changes an output too much."""
        return self.int8 is not None and self.int8 > NMSE_BOUND_INT8

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest excess, failed ones first."""
        return max(self.outputs, key=lambda output: (not output.holds, output.excess))

    @property
    def shapes(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """The shapes of the inputs, for each set of inputs."""
        return tuple(dict.fromkeys(output.inputs for output in self.outputs))

    def sentence(self) -> str:
        """Returns the result as a sentence: what was compared, and the largest difference."""
        if not self.outputs:
            return "torch and onnxruntime were not compared: the file has no outputs"
        if self._coarse:
            return f"torch and onnxruntime do not agree: {self._int8_clause()}"
        worst = self.worst
        if not self.holds:
            verdict = "do not agree" if worst.differs else "were not compared"
            return f"torch and onnxruntime {verdict}: {self._failure()}"
        measure = f"normalised mean squared error {worst.nmse:.1e}, bound {worst.bound:.0e}"
        if worst.nmse > worst.bound:
            measure += ", exceeded by no more than rounding errors"
        if not worst.bound:
            measure = f"{worst.differing:,} of {worst.size:,} entries differ"
        agree = f"torch and onnxruntime agree at {self._places()}: worst output {_quoted(worst.name)}, {measure}"
        return "; ".join((agree, *self.remarks()))

    def remarks(self) -> list[str]:
        """Returns the limitations of the comparison and its inexact parts, one clause each."""
        clauses = []
        for name in dict.fromkeys(output.name for output in self.outputs):
            of_name = [output for output in self.outputs if output.name == name]
            differing = max(of_name, key=lambda output: output.differing)
            missing = max(of_name, key=lambda output: output.not_finite)
            noise = max(of_name, key=lambda output: output.noise_columns)
            if differing.differing and differing is not self.worst:
                clauses.append(f"{differing.differing:,} of {differing.size:,} entries of {_quoted(name)} differ")
            if missing.not_finite:
                clauses.append(
                    f"{missing.not_finite:,} of {missing.size:,} entries of {_quoted(name)} are NaN or infinite in both"
                )
            if noise.noise_columns:
                clauses.append(
                    f"{noise.noise_columns:,} of {noise.shape[-1]:,} columns of {_quoted(name)} "
                    "are rounding errors only"
                )
        clauses += [f"output {_quoted(name)} did not change with the input" for name in self.constant]
        clauses += [] if self.int8 is None else [self._int8_clause()]
        return clauses + ([f"no other inputs were tested: {self.not_varied}"] if self.not_varied else [])

    def record(self) -> dict[str, Any]:
        """Returns the report for JSON. Numbers that are not finite become null."""
        outputs = [{**dataclasses.asdict(output), "holds": output.holds} for output in self.outputs]
        record: dict[str, Any] = _finite_or_none(
            {**dataclasses.asdict(self), "outputs": outputs, "holds": self.holds, "sentence": self.sentence()}
        )
        return record

    def raise_if_failed(self, file: str) -> None:
        """Raises CheckFailed with the worst output and the first layer that differs, if the check failed."""
        if self.holds:
            return
        if not self.outputs:
            raise CheckFailed(f"{file} cannot be verified: it has no outputs.")
        if self._coarse:
            raise CheckFailed(
                f"{file} does not compute what the torch model computes: {self._int8_clause()}. Export it with "
                'bodies={"QuantizedLinear": "dequantized"} (--body QuantizedLinear=dequantized).'
            )
        if self.worst.differs:
            layer = f"is {_quoted(self.parts_at)}" if self.parts_at else "is unknown: no layer could be compared"
            where = f"was not searched for: {self.not_searched}" if self.not_searched else layer
            raise CheckFailed(
                f"{file} does not compute what the torch model computes: {self._failure()}; "
                f"the first layer that differs {where}."
            )
        raise CheckFailed(
            f"{file} cannot be verified: {self._failure()}. If these outputs are intended, pass "
            "allow_nonfinite=True (--allow-nonfinite)."
        )

    def _int8_clause(self) -> str:
        return (
            "rounding the inputs of quantised layers to int8 causes a normalised mean squared error of "
            f"{self.int8:.1e}, bound {NMSE_BOUND_INT8:.0e}"
        )

    def _failure(self) -> str:
        worst = self.worst
        inputs = "random inputs" if worst.drawn else "inputs"
        shapes = ", ".join(map(str, worst.inputs[:4])) + (", ..." if len(worst.inputs) > 4 else "")
        return f"output {_quoted(worst.name)} {worst.failure}, on {inputs} of shapes {shapes}"

    def _places(self) -> str:
        """Returns the batch sizes if only the batch changes, otherwise the shapes."""
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
    """Runs the file and the model on the example inputs, on random inputs, and at other sizes of the dynamic axes.

    edgefc.export.verifying.judges defines the criteria.

    Args:
        path: the .onnx file.
        model: the torch model. It is run in eval mode, and its mode is restored.
        args: example inputs: a tensor, a sequence of positional arguments, or a mapping of keyword arguments.
        allow_nonfinite: accept outputs that are mostly NaN or infinite if they are equal in both.

    Raises:
        UsageError: the file does not exist, its inputs do not match, or the model raises an exception.
        ModelError: onnxruntime cannot load the file.
        CheckFailed: the torch model is random: two runs give different outputs.
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
    """verify() for an adapted model: compares on the examples, at other sizes of the plan's axes, and on random inputs.

    Every run of the model starts from the state in `given`.
    """
    with without_int8(file) as exact:
        try:
            report = _compare(exact, given, adapter, plan, allow_nonfinite=allow_nonfinite)
        except ModelError:  # onnxruntime 1.22 multiplies 8 bits only with rounded inputs
            if exact == file:
                raise
            return _compare(file, given, adapter, plan, allow_nonfinite=allow_nonfinite)
        if exact == file or not report.holds:
            return report
        caused = int8_change(file, exact, adapter.inputs.names, adapter.inputs.tensors)
        return dataclasses.replace(report, int8=caused)


def _compare(file: Path, given: Given, adapter: Adapter, plan: Plan, *, allow_nonfinite: bool) -> VerifyReport:
    run, inputs = _Run(file, given, adapter, allow_nonfinite), adapter.inputs.tensors
    feeds_of(run.session, adapter.inputs.names, inputs)  # raises if the file has other inputs
    axes.sizes_of(plan, adapter.inputs.names, inputs)  # raises if axes of the same name have different sizes
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
    except UsageError as error:  # report the failed check even if the search is not possible
        parts_at, not_searched = None, str(error).rstrip(".")
    return dataclasses.replace(report, parts_at=parts_at, not_searched=not_searched)


class _Run:
    """Runs and compares the file in onnxruntime and the torch model."""

    def __init__(self, file: Path, given: Given, adapter: Adapter, allow_nonfinite: bool) -> None:
        self.session, self.bound = open_session(file), float_bound(file)
        self.names: list[str] = [output.name for output in self.session.get_outputs()]
        self._file, self._given, self._adapter, self._allow_nonfinite = file, given, adapter, allow_nonfinite

    def check_repeats(self, first: list[NDArray[Any]], second: list[NDArray[Any]]) -> None:
        """Checks the number of outputs, and that two runs of torch agree.

        Raises:
            UsageError: file and model have different numbers of outputs.
            CheckFailed: the two runs of torch differ.
        """
        if len(self.names) != len(first):
            raise UsageError(
                f"{self._file.name} has {len(self.names)} outputs, but the model has {len(first)}. "
                "Pass the model that was exported."
            )
        for index, one in enumerate(first):
            if len(second) != len(first) or _differs(second[index], one, self.bound):
                raise CheckFailed(
                    f"{type(self._adapter.model).__name__} is random: two runs of torch on the same inputs "
                    f"differ in output {self.names[index]!r}, so no file can be compared with it. Make forward "
                    "deterministic (look for dropout that is active in eval mode, torch.rand, or state kept between "
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
        """Compares every output on these inputs."""
        feeds = {
            name: array.copy() for name, array in feeds_of(self.session, self._adapter.inputs.names, inputs).items()
        }
        shapes = tuple(array.shape for array in feeds.values())
        rows = next((shape[0] for shape in shapes if shape), 1)
        expected = torch_outputs(self._given, self._adapter, inputs) if expected is None else expected
        actual = run_session(self.session, self._file, feeds)
        judges = [
            judge(
                Comparison(name, rows, shapes, drawn, by_torch.shape, 0.0, 0.0, self.bound),
                by_onnxruntime,
                by_torch,
                allow_nonfinite=self._allow_nonfinite,
                moved=change,
            )
            for name, by_onnxruntime, by_torch, change in zip(self.names, actual, expected, moved, strict=True)
        ]
        self._show_rounding(judges, inputs)
        return [each.comparison() for each in judges]

    def _show_rounding(self, judges: list[Judge], inputs: Sequence[Tensor]) -> None:
        """Runs torch with magnified rounding, and passes the outputs to the judges until all are settled."""
        factor = _DFT_FACTOR if self.bound == NMSE_BOUND_DFT else 1.0
        for seed in range(_ROUNDING_RUNS[-1]):
            if seed in (0, *_ROUNDING_RUNS) and all(each.settled for each in judges):
                return
            try:
                with magnified_rounding(seed, factor):
                    sample = torch_outputs(self._given, self._adapter, inputs)
            except UsageError:  # with the errors, an operation of the model got invalid inputs
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
    """Returns random inputs and torch's outputs for them, or the reason why no inputs could be drawn."""
    inputs = drawn_inputs(adapter.inputs.tensors)
    if inputs is None:
        return None, "they are only masks and constant integers"
    try:
        outputs = torch_outputs(given, adapter, inputs)
    except UsageError:
        return None, "the torch model does not run on random inputs"
    if len(outputs) != len(example) or any(_less_finite(*pair) for pair in zip(outputs, example, strict=True)):
        return None, "the torch model returns NaN, infinities or other outputs on random inputs"
    return (inputs, outputs), None


def _less_finite(drawn: NDArray[Any], example: NDArray[Any]) -> bool:
    return not np.isfinite(drawn).all() and bool(np.isfinite(example).all())


def _moved(
    names: list[str], example: list[NDArray[Any]], drawn: list[NDArray[Any]] | None
) -> tuple[list[float], tuple[str, ...]]:
    """Returns the mean square of the change of each output for random inputs, and the names of unchanged outputs."""
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
    """Quotes and shortens a name for messages, since names can have any length."""
    return repr(shortened(name, 80))

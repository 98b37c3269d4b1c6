"""replace_file(): an .onnx file with the layers that a plan names replaced by fitted or smaller ones."""

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgefc.errors import EdgefcError, ExportError, ModelError, UsageError, first_line
from edgefc.export.saving.write import Written, publish, write
from edgefc.files import check_writable, place_of, staging
from edgefc.plan.configurations import Configuration
from edgefc.plan.reading import plan_of
from edgefc.progress import steps
from edgefc.releases import release
from edgefc.rewriting.comparing import OutputChange, compare
from edgefc.rewriting.constants import tensor_of
from edgefc.rewriting.deciding import INT2_FROM, Decision, decide, decide_each, needs_function
from edgefc.rewriting.editing import Editor
from edgefc.rewriting.feeds import Calibration, Given, calibration_of
from edgefc.rewriting.finding import Place, find
from edgefc.rewriting.fits import New, Prepared, fitted, put, takes_moments, tensors_of
from edgefc.rewriting.functions import Functions
from edgefc.rewriting.moments import Statistics, collect
from edgefc.rewriting.reading import OPSETS, file_bytes, opset_of, read
from edgefc.rewriting.report import FileReport, LayerChange, Step
from edgefc.rewriting.site import Stores
from edgefc.runtime.session import Session

EXTERNAL_FROM_BYTES = 1 << 30
"""Weights of this total are written to an external data file."""

Decide = Callable[[Sequence[Place]], list[Decision]]


def replace_file(
    source: str | os.PathLike[str],
    plan: Any,
    output: str | os.PathLike[str],
    *,
    calibration: Given | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> FileReport:
    """Writes a copy of an .onnx file in which the weights that a plan names take fewer bytes or less time.

    Needs onnx and onnxruntime, not torch. The source is checked as edgefc.modelfile describes; run an untrusted model
    in its own process, because it can run forever. Nothing is written if anything fails.

    Args:
        source: the .onnx file.
        plan: a Plan, or what edgefc.plan.plan_of() accepts. A rule matches the name of a layer, of a node or of a
            stored tensor. Its type is an operator (MatMul, Gemm, Conv, Gather, LSTM, ...) or a kind: linear, table,
            convolution, recurrent, matrix.
        output: the .onnx file to write. It must not be the source.
        calibration: a .npz file, or arrays by the name of the input, with samples along the first axis; or whole feeds
            along one more axis, or a sequence of feeds, for models with a state. The last fifth is not used for the
            fit; the outputs of both models are compared on it. Without calibration the weights alone are fitted, and
            the outputs are not compared.
        seed: of rotations and seeded matrices.
        threads: of onnxruntime; by default the number of CPUs, at most 16.

    Returns:
        FileReport: every weight that the plan names, the change of every output, and sizes and times.

    Raises:
        UsageError: an argument or a file cannot be used, a rule decides nothing, or no weight can be replaced.
        ModelError: the source is not valid, does not run, or cannot be converted to an opset that the plan needs.
        CheckFailed: an output of the new model has another shape, or NaN where there was none.
    """
    path, target = Path(source), Path(output)
    if target.suffix != ".onnx":
        raise UsageError(f"cannot write {output}: the name of a model must end in .onnx.")
    check_writable(target, path)
    decided = functools.partial(decide, plan_of(plan))
    return _Work(path, target, decided, calibration, threads or usable_threads(), seed=seed).run()


def replace_fitted(
    source: Path, choices: Mapping[int, Configuration], output: Path, prepared: Prepared, *,
    calibration: Calibration | None, threads: int,
) -> FileReport:  # fmt: skip
    """Writes a copy of an .onnx file as replace_file() does, with fits that are there already.

    Args:
        choices: what the places with a tensor in common become, by the index of the first of them.
    """
    decided = functools.partial(decide_each, choices)
    return _Work(source, output, decided, calibration, threads, prepared).run()


def usable_threads() -> int:
    return min(os.cpu_count() or 1, 16)


class _Work:
    def __init__(
        self, source: Path, target: Path, decide: Decide, calibration: Given | Calibration | None, threads: int,
        prepared: Prepared | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self._source, self._target, self._decide = source, target, decide
        self._given, self._seed, self._threads = calibration, seed, threads
        self._prepared = prepared
        self._steps: list[Step] = []

    def run(self) -> FileReport:
        with self._timed("reading"):
            self._read()
            old = None if self._given is None else self._session(self._source)
            data = None if old is None or self._given is None else _divided(self._given, old)
        with self._timed("observing"):
            self._statistics = self._observed(data)
        with self._timed("fitting"):
            layers = tuple(self._layer(each) for each in steps(self._decisions, "fitting layers"))
        if not any(layer.replaced for layer in layers):
            raise UsageError(
                f"no weight of {self._source} was replaced: {layers[0].name!r} stays, because {layers[0].reason}."
                if layers
                else f"no weight of {self._source} was replaced: the plan keeps all of them."
            )
        RemoveUnusedNodesPass()(self._model)
        return self._written(layers, old, data)

    def _read(self) -> None:
        """Reads the model, again with a later opset if the decisions need functions."""
        self._functions = self._prepared is not None and self._prepared.functions
        while True:
            self._model = read(self._source, functions=self._functions)
            self._places = find(self._model)
            self._decisions = self._decide(self._places)
            if self._functions or not any(map(needs_function, self._decisions)):
                break
            self._functions = True
            if opset_of(self._model) >= OPSETS[0]:
                self._model.ir_version = max(self._model.ir_version, 8)
                break
        _check_runtime(self._decisions)
        self._edit = Editor(self._model)
        self._stores = Stores(self._edit, Functions(self._model))

    def _observed(self, data: Calibration | None) -> Statistics:
        """The statistics of all weights that are fitted."""
        if self._prepared is not None:
            return self._prepared.statistics
        index = {id(place): at for at, place in enumerate(self._places)}
        places = [place for each in self._decisions if takes_moments(each) for place in each.places]
        wanted = [index[id(place)] for place in places]
        if data is None or not wanted:
            return Statistics()
        return collect(self._source, wanted, data.fitting, functions=self._functions, threads=self._threads)

    def _layer(self, decision: Decision) -> LayerChange:
        if decision.way is None:
            return _change(decision, reason=decision.reason)
        index = {id(place): at for at, place in enumerate(self._places)}
        at = [index[id(place)] for place in decision.places]
        before = tensors_of(decision.places)
        known = set(map(id, self._initializers()))
        try:
            new = self._new(decision, at)
            put(decision, new, self._edit, self._stores)
        except (UsageError, ModelError) as failed:
            return _change(decision, reason=_reason(failed))
        added = [value for value in self._initializers() if id(value) not in known and not _is_bias(value)]
        return _change(
            decision,
            sizes=(sum(root.bytes for root in before), sum(tensor_of(value).nbytes for value in added)),
            error=new.error,
            samples=new.samples,
            note=next((self._statistics.missing[each] for each in at if each in self._statistics.missing), ""),
        )

    def _new(self, decision: Decision, at: Sequence[int]) -> New:
        if self._prepared is not None:
            return self._prepared.fits[at[0]][decision.configuration]
        return fitted(decision, at, self._statistics, self._seed)

    def _initializers(self) -> list[ir.Value]:
        return [value for graph in self._model.graphs() for value in graph.initializers.values()]

    def _session(self, path: Path) -> Session:
        return Session(path, threads=self._threads, native="off")

    def _written(self, layers: tuple[LayerChange, ...], old: Session | None, data: Calibration | None) -> FileReport:
        before, opset = file_bytes(self._source), opset_of(self._model)
        lowest = _lowest({each.configuration for each in layers if each.replaced}, self._model)
        place = place_of(self._target)
        with staging(place) as folder:
            with self._timed("writing"):
                written = self._saved(folder, place)
            with self._timed("comparing"):
                new = self._session(written.graph)
                outputs: tuple[OutputChange, ...] = ()
                if old is not None and data is not None:
                    outputs = compare(old, new, data)
            after = sum(file.stat().st_size for file in (written.graph, written.data) if file is not None)
            notes = publish(written, place)
        return FileReport(
            source=self._source, path=self._target, layers=layers, outputs=outputs, file_before=before,
            file_after=after, opset=opset, lowest_onnxruntime=lowest, notes=notes,
            steps=tuple(self._steps),
        )  # fmt: skip

    def _saved(self, folder: Path, place: Any) -> Written:
        try:
            return write(self._model, folder, place, external_from_bytes=EXTERNAL_FROM_BYTES)
        except ExportError as error:
            raise ModelError(f"{self._source} cannot be rewritten: {first_line(error)}") from None

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._steps.append(Step(name, time.perf_counter() - started))


def _is_bias(value: ir.Value) -> bool:
    return (value.name or "").endswith(".bias")


def _reason(error: EdgefcError) -> str:
    return str(error).rstrip(".")


def _lowest(configurations: Iterable[str], model: ir.Model) -> str:
    """The lowest version of onnxruntime for the nodes that were added."""
    if "Int2" in configurations:
        return INT2_FROM
    return "1.22" if "com.microsoft" in model.graph.opset_imports else ""


def _divided(given: Given | Calibration, session: Session) -> Calibration:
    return given if isinstance(given, Calibration) else calibration_of(given, session.inputs)


def _check_runtime(decisions: Iterable[Decision]) -> None:
    """
    Raises:
        UsageError: the installed onnxruntime cannot run the result, so that it cannot be compared.
    """
    if release(ort.__version__) < release(INT2_FROM) and any(
        each.way and each.configuration.kind == "Int2" for each in decisions
    ):
        raise UsageError(
            f"Int2 needs onnxruntime {INT2_FROM}, and {ort.__version__} is installed. Use Int4, or install it."
        )


def _change(
    decision: Decision,
    *,
    reason: str = "",
    sizes: tuple[int, int] | None = None,
    error: float | None = None,
    samples: int = 0,
    note: str = "",
) -> LayerChange:
    first = decision.places[0]
    stored = sum(root.bytes for root in tensors_of(decision.places)) if sizes is None else sizes[0]
    return LayerChange(
        name=first.name,
        names=tuple(place.name for place in decision.places),
        op=first.node.op_type,
        shape=first.shape,
        configuration=decision.configuration.kind,
        replaced=sizes is not None,
        reason=reason,
        numbers=first.size,
        bytes_before=stored,
        bytes_after=stored if sizes is None else sizes[1],
        output_error=error,
        samples=samples,
        note=note,
    )

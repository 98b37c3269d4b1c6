"""Session: runs an .onnx file on the CPU, checks the feeds, and reports failures in one sentence."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from edgefc.errors import ModelError, UsageError, renamed
from edgefc.modelfile.admission import admit
from edgefc.modelfile.attributes import check_attributes
from edgefc.runtime import failures
from edgefc.runtime import native as kernels
from edgefc.runtime.operators import ends_when_empty, versions_of
from edgefc.runtime.presets import CPU_ONLY, session_options, settings
from edgefc.runtime.signature import Array, TensorInfo, check_feeds, listed, near, tensor_info_of

_NO_INT8 = (
    "activation_dtype='int8' requires native kernels, which are not available for this model. "
    "Use activation_dtype='float32', or pass native='on' to see the reason."
)


class Session:
    """A model in the CPU execution provider of onnxruntime.

        session = Session("model.onnx", preset="memory")
        y = session.run({"x": x})["y"]

    Attributes:
        inputs, outputs   TensorInfo: name, dtype, shape
        settings          the options that the preset and the thread count set, by onnxruntime's names
        native            the loaded variant of the native kernels ("avx512", ...), or None for the portable bodies

    With native="auto" the native kernels are loaded if they are installed and support the types of the model. For each
    operator, onnxruntime uses either the kernel library or the file, for all nodes. Therefore one float64 layer makes
    all layers run the portable bodies in the file. The kernels implement version 1 of the domain edgefc. If the edgefc
    nodes of a file have another version, the file's own functions run, with a warning. If it has no functions for them,
    it cannot be loaded.

    With activation_dtype="int8" the native PRPLinear rounds its inputs u, after in_scale, to 255 multiples of the step
    max|u| / 127, with one step per row. Other layers do not change. This saves time with AVX-512 if codes have 1 bit.
    activations is the old name of this argument. The normalised mean squared error of the outputs against float64 for
    Gaussian inputs is 3.4e-5 at n = 64, 5.3e-5 at 384, 6.5e-5 at 1024, 7.4e-5 at 4096, 8.8e-5 at 16384. A row with NaN
    or infinity gives NaN.

    Raises:
        UsageError: the file, the preset, the thread count, the native kernels or int8 activations cannot be used;
            native="on" or activation_dtype="int8" for a file with another version of the domain edgefc.
        ModelError: onnxruntime cannot load the file, or edgefc.modelfile rejects it, for example because an edgefc node
            has an invalid attribute.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, preset: str = "latency", threads: int = 1, native: str = "auto",
        activation_dtype: str = "float32", activations: str | None = None,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self.settings = settings(preset, threads)
        activation_dtype = renamed("activations", activations, "activation_dtype", activation_dtype)
        kernels.check_activation_dtype(activation_dtype)
        chosen = kernels.choose(native)
        if activation_dtype == "int8":
            if chosen is None:
                raise UsageError(_NO_INT8)
            self.settings["edgefc.activations"] = activation_dtype
        admit(self.path)
        others = check_nodes(self.path)
        if others and (native == "on" or activation_dtype == "int8"):
            asked = "native is 'on'" if native == "on" else "activation_dtype is 'int8'"
            raise UsageError(f"{asked}, but {self.path} {others}. Use the default of both.")
        passed_over, chosen = chosen is not None and bool(others), None if others else chosen
        try:
            try:
                self._session = self._load(chosen)
            except Exception as error:
                if chosen is None or native == "on" or not failures.is_of_another_type(error):
                    raise
                if activation_dtype == "int8":
                    raise UsageError(_NO_INT8) from None
                chosen = None
                self._session = self._load(chosen)
        except UsageError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise failures.load_error(self.path, error, others) from None
        if passed_over:
            warnings.warn(f"{self.path} {others}. The functions in the file run instead.", stacklevel=2)
        self.native = None if chosen is None else chosen[1]
        _give_back()
        try:
            self.inputs: tuple[TensorInfo, ...] = tuple(map(tensor_info_of, self._session.get_inputs()))
            self.outputs: tuple[TensorInfo, ...] = tuple(map(tensor_info_of, self._session.get_outputs()))
        except UnicodeDecodeError:  # possible for an .ort file, which admit() does not read
            raise ModelError(f"cannot load {self.path}: the name of an input or output is not UTF-8.") from None
        self._ends: str | None = None  # the operator that ends the process on an empty input, or ""; determined lazily
        self._quiet = ort.RunOptions()
        self._quiet.log_severity_level = session_options({}).log_severity_level

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """The named outputs, or all of them, for one array per input.

        Arrays may have any byte order, memory layout or subclass; tensors of torch, lists and numbers are taken too.

        Raises:
            UsageError: the feeds do not fit the inputs, or one has no elements and the model has an operator for which
                onnxruntime ends the process then.
            ModelError: onnxruntime fails. Some of its operators refuse an input without elements.
        """
        names = self._wanted(outputs)
        values = self.bound(feeds, names)()
        return dict(zip(names, values))

    def bound(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> Callable[[], list[Array]]:
        """Checks the feeds once and returns a function without arguments that runs the model, for timing.

        Raises the same errors as run().
        """
        checked, names = check_feeds(feeds, self.inputs), self._wanted(outputs)
        run, quiet = self._session.run, self._quiet
        empty = _empty(checked)
        if empty is not None:
            self._check_empty(empty)

        def call() -> list[Array]:
            try:
                values: list[Array] = run(names, checked, quiet)
            except Exception as error:
                raise failures.run_error(self.path, error, empty) from None
            return values

        return call

    def _check_empty(self, empty: str) -> None:
        if self._ends is None:
            domain = None if self.native is None else kernels.DOMAIN
            self._ends = ends_when_empty(self.path, domain) or ""
        if self._ends:
            raise UsageError(
                f"cannot run {self.path}: input {empty}, which has no elements, and the model has {self._ends}, for "
                "which onnxruntime would end the process. Pass at least one element along every axis."
            )

    def _load(self, chosen: tuple[str, str] | None) -> Any:
        options = session_options(self.settings)
        if chosen is not None:
            options.register_custom_ops_library(chosen[0])
        return ort.InferenceSession(os.fspath(self.path), options, **CPU_ONLY)

    def _wanted(self, outputs: Sequence[str] | None) -> list[str]:
        known = [port.name for port in self.outputs]
        if outputs is None:
            return known
        if isinstance(outputs, str):
            raise UsageError(f"outputs is the string {outputs!r}. Give a list of names: [{outputs!r}].")
        for name in outputs:
            if name not in known:
                hint = f"{near(name, known)}. Its outputs: {listed(self.outputs)}."
                raise UsageError(f"the model has no output {name!r}{hint}")
        return list(outputs)


def _empty(feeds: Mapping[str, Array]) -> str | None:
    """Returns the first input without elements, and its shape."""
    for name, value in feeds.items():
        if not value.size:
            return f"{name!r} has the shape {list(value.shape)}"
    return None


def check_nodes(path: Path) -> str | None:
    """Checks the attributes of edgefc nodes. If they have another version, returns the result of other_versions().

    Raises:
        ModelError: a node has an invalid attribute.
    """
    others = other_versions(path)
    if others is None:
        check_attributes(path, kernels.DOMAIN, kernels.VERSION)
    return others


def other_versions(path: Path) -> str | None:
    """Describes edgefc nodes whose domain version is not that of the kernels. Returns None if there are none."""
    others = sorted(versions_of(path, kernels.DOMAIN) - {kernels.VERSION})
    if not others:
        return None
    shown = " and ".join("none" if version == 0 else str(version) for version in others)
    return (
        f"has nodes of the domain {kernels.DOMAIN} whose version is {shown}, but the native kernels implement version "
        f"{kernels.VERSION}"
    )


_SETTINGS = ("preset", "native", "threads", "activation_dtype")


def open_session(model: Mapping[str, Any], question: Mapping[str, Any]) -> Session:
    """As a probe is asked to: settings are the model's own where it has them, else those of the whole question."""
    asked = {**question, **model}
    return Session(model["path"], **{name: asked[name] for name in _SETTINGS if name in asked})


def _give_back() -> None:
    """Returns memory that was freed after loading to the system. glibc keeps it, often more than the model's size."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

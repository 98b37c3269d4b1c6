"""Session: runs an .onnx file on the CPU, checks the feeds, and reports failures in one sentence."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import onnxruntime as ort

from edgefc.errors import ModelError, UsageError, renamed, shortened, superseded
from edgefc.modelfile.admission import admit
from edgefc.modelfile.attributes import check_attributes
from edgefc.releases import check_release
from edgefc.runtime import failures
from edgefc.runtime import native as kernels
from edgefc.runtime.operators import ends_when_empty, versions_of
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.presets import CPU_ONLY, session_options
from edgefc.runtime.signature import Array, TensorInfo, check_feeds, listed, near, tensor_info_of

_NO_INT8 = (
    "activation_dtype='int8' requires native kernels, which are not available for this model. "
    "Use activation_dtype='float32', or pass native='on' to see the reason."
)
_CALLS = "Call run(feeds), which returns a dict, or run(output_names, feeds), which returns a list."
_NOT_GIVEN: Any = object()


class Session:
    """A model in the CPU execution provider of onnxruntime.

        session = Session("model.onnx", preset="memory")
        y = session.run({"x": x})["y"]
        [y] = session.run(["y"], {"x": x})   # same order as onnxruntime's InferenceSession

    Attributes:
        inputs, outputs   TensorInfo: name, dtype, shape
        settings          the settings of the preset and the thread count, by onnxruntime's names
        native_variant    the variant of the native kernels that was loaded ("avx512", ...), or None without kernels

    With native="auto" the native kernels are loaded if they are installed and support the types of the model. For each
    operator, onnxruntime uses either the kernel library or the file, for all nodes. Therefore one float64 layer makes
    all layers run the portable bodies in the file. The kernels implement version 1 of the domain edgefc. If the edgefc
    nodes of a file have another version, the file's own functions run, with a warning. If it has no functions for them,
    it cannot be loaded.

    With activation_dtype="int8" the native PRPLinear rounds its inputs u, after in_scale, to 255 multiples of the step
    max|u| / 127, with one step per row. This saves time with AVX-512 if codes have 1 bit. The native Int3Linear rounds
    its inputs, after the rotation, in the same way with one step per group, and saves time everywhere. Other layers do
    not change. activations is the old name of this argument. The normalised mean squared error of the outputs of
    PRPLinear against float64 for Gaussian inputs is 3.4e-5 at n = 64, 5.3e-5 at 384, 6.5e-5 at 1024, 7.4e-5 at 4096,
    8.8e-5 at 16384. That of Int3Linear is 4.4e-5 with groups of 128, at every n. A row with NaN or infinity gives NaN.

    Raises:
        UsageError: the file, the preset, the thread count, the native kernels or int8 activations cannot be used;
            native="on" or activation_dtype="int8" for a file with another version of the domain edgefc; an
            onnxruntime that computes wrong numbers (edgefc/releases.py).
        ModelError: onnxruntime cannot load the file, or edgefc.modelfile rejects it, for example because an edgefc node
            has an invalid attribute.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, preset: str = "latency", threads: int = 1, native: str = "auto",
        activation_dtype: str = "float32", activations: str | None = None,
    ) -> None:  # fmt: skip
        activation_dtype = renamed("activations", activations, "activation_dtype", activation_dtype)
        options = SessionOptions(preset, native, threads, activation_dtype)
        self.path, self.settings = Path(path), options.settings
        check_release(ort.__version__)
        chosen = kernels.choose(native)
        if options.rounds_activations and chosen is None:
            raise UsageError(_NO_INT8)
        admit(self.path)
        others = check_nodes(self.path)
        if others and (native == "on" or options.rounds_activations):
            asked = "native is 'on'" if native == "on" else "activation_dtype is 'int8'"
            raise UsageError(f"{asked}, but {self.path} {others}. Use the defaults of native and activation_dtype.")
        passed_over, chosen = chosen is not None and bool(others), None if others else chosen
        try:
            try:
                self._session = self._load(chosen)
            except Exception as error:
                if chosen is None or native == "on" or not failures.is_of_another_type(error):
                    raise
                if options.rounds_activations:
                    raise UsageError(_NO_INT8) from None
                chosen = None
                self._session = self._load(chosen)
        except UsageError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise failures.load_error(self.path, error, others) from None
        if passed_over:
            warnings.warn(f"{self.path} {others}. The functions in the file run instead.", stacklevel=2)
        self.native_variant = None if chosen is None else chosen[1]
        _give_back()
        try:
            self.inputs: tuple[TensorInfo, ...] = tuple(map(tensor_info_of, self._session.get_inputs()))
            self.outputs: tuple[TensorInfo, ...] = tuple(map(tensor_info_of, self._session.get_outputs()))
        except UnicodeDecodeError:  # possible for an .ort file, which admit() does not read
            raise ModelError(f"cannot load {self.path}: the name of an input or output is not UTF-8.") from None
        self._ends: str | None = None  # the operator that ends the process on an empty input, or ""; determined lazily
        self._quiet = ort.RunOptions()
        self._quiet.log_severity_level = session_options({}).log_severity_level

    @property
    def native(self) -> str | None:
        """Deprecated: use native_variant. The next release removes this name."""
        superseded("Session.native", "Session.native_variant", stacklevel=3)
        return self.native_variant

    @overload
    def run(self, feeds: Mapping[str, Any], /) -> dict[str, Array]: ...
    @overload
    def run(self, *, feeds: Mapping[str, Any]) -> dict[str, Array]: ...
    @overload
    def run(self, feeds: Mapping[str, Any], /, *, outputs: Sequence[str]) -> dict[str, Array]: ...
    @overload
    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Array]: ...

    def run(
        self, output_names: Any = _NOT_GIVEN, feeds: Any = None, *, outputs: Sequence[str] | None = None
    ) -> dict[str, Array] | list[Array]:
        """Compute the outputs for one array per input.

            session.run(feeds)                  a dict: every output by its name
            session.run(output_names, feeds)    a list: the named outputs in that order, or all of them for None

        Args:
            output_names: names of outputs; None or an empty list for all of them.
            feeds: one array per input, by name. Accepts arrays of any byte order, layout or subclass, torch tensors,
                lists and numbers.
            outputs: deprecated; use `output_names`. The next release removes it.

        Raises:
            UsageError: the arguments are in the wrong order, the feeds do not match the inputs, or a feed has no
                elements and the model has an operator for which onnxruntime would then end the process.
            ModelError: onnxruntime fails. Some of its operators do not support an input without elements.
        """
        by_name = output_names is _NOT_GIVEN or (isinstance(output_names, Mapping) and feeds is None)
        if not by_name:
            _check_order(output_names, feeds)
            return self.bound(feeds, output_names)()
        given = feeds if output_names is _NOT_GIVEN else output_names
        if given is None:
            raise UsageError(f"run() got no feeds. {_CALLS}")
        if outputs is not None:
            superseded("run(feeds, outputs=names)", "run(names, feeds), which returns a list", stacklevel=3)
        names = self._wanted(outputs)
        return dict(zip(names, self.bound(given, names)()))

    def bound(self, feeds: Mapping[str, Any], output_names: Sequence[str] | None = None) -> Callable[[], list[Array]]:
        """Check the feeds once and return a function without arguments that runs the model, for timing.

        Raises the same errors as run().
        """
        checked, names = check_feeds(feeds, self.inputs), self._wanted(output_names)
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
            domain = None if self.native_variant is None else kernels.DOMAIN
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

    def _wanted(self, output_names: Sequence[str] | None) -> list[str]:
        known = [info.name for info in self.outputs]
        if output_names is None or len(output_names) == 0:
            return known
        if isinstance(output_names, str):
            raise UsageError(f"output_names must be a list of names, got the string {output_names!r}.")
        for name in output_names:
            if name not in known:
                hint = f"{near(name, known)}. Its outputs: {listed(self.outputs)}."
                raise UsageError(f"the model has no output {name!r}{hint}")
        return list(output_names)


def _check_order(output_names: Any, feeds: Any) -> None:
    """
    Raises:
        UsageError: the arguments are not output names and feeds, in that order.
    """
    if isinstance(output_names, Mapping):
        what = "feeds twice" if isinstance(feeds, Mapping) else "the feeds first and output names second"
        raise UsageError(f"run() got {what}. {_CALLS}")
    named = output_names is None or isinstance(output_names, str) or _are_names(output_names)
    if feeds is None:
        what = "no feeds" if named else f"one argument of type {type(output_names).__name__}"
        raise UsageError(f"run() got {what}. {_CALLS}")
    if not named:
        raise UsageError(f"output_names must be a list of names or None, got {shortened(repr(output_names), 60)}.")


def _are_names(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given)


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


def _give_back() -> None:
    """Returns memory that was freed after loading to the system. glibc keeps it, often more than the model's size."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

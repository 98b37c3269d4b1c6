"""Session: an .onnx file ready to run on the CPU, with feeds checked and failures told in one sentence."""

import ctypes
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from edgefc.errors import UsageError
from edgefc.runtime import failures
from edgefc.runtime.presets import session_options, settings
from edgefc.runtime.signature import Array, Port, check_feeds, empty_outputs, listed, near, port_of


class Session:
    """One model in onnxruntime's CPU provider.

        session = Session("model.onnx", preset="memory")
        y = session.run({"x": x})["y"]

    Attributes:
        inputs, outputs   Ports: name, dtype, shape
        settings          what the preset and the thread count set, by onnxruntime's names

    Raises:
        UsageError: the file, the preset or the thread count cannot be used.
        ModelError: the file is no model that onnxruntime loads.
    """

    def __init__(self, path: str | os.PathLike[str], *, preset: str = "latency", threads: int = 1) -> None:
        self.path = Path(path)
        self.settings = settings(preset, threads)
        failures.check_file(self.path)
        try:
            self._session = ort.InferenceSession(
                os.fspath(self.path), session_options(self.settings), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise failures.load_error(self.path, error) from None
        _give_back()
        self.inputs: tuple[Port, ...] = tuple(map(port_of, self._session.get_inputs()))
        self.outputs: tuple[Port, ...] = tuple(map(port_of, self._session.get_outputs()))
        self._quiet = ort.RunOptions()
        self._quiet.log_severity_level = session_options({}).log_severity_level

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """The named outputs, or all of them, for one array per input. A batch of zero rows is answered too."""
        names = self._wanted(outputs)
        values = self.bound(feeds, names)()
        return dict(zip(names, values, strict=False))

    def bound(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> Callable[[], list[Array]]:
        """A run with feeds that were checked once: a function without arguments, for timing."""
        checked, names = check_feeds(feeds, self.inputs), self._wanted(outputs)
        run, quiet = self._session.run, self._quiet
        if not all(value.size for value in checked.values()):
            nothing = empty_outputs(
                checked, self.inputs, [port for name in names for port in self.outputs if port.name == name]
            )
            if nothing is not None:
                return lambda: nothing

        def call() -> list[Array]:
            try:
                values: list[Array] = run(names, checked, quiet)
            except Exception as error:
                raise failures.run_error(self.path, error) from None
            return values

        return call

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


def _give_back() -> None:
    """Return what loading needed and freed to the system: glibc keeps it, often more than the model itself."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

"""Clock: a device, and the median time of a run of each file on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edgefc import __version__
from edgefc.devices.connect import connect
from edgefc.errors import DeviceError
from edgefc.latency import kept
from edgefc.runtime.inputs import Ranges
from edgefc.runtime.probes import child
from edgefc.runtime.probes.contracts import Question
from edgefc.runtime.profiling.parts import Device, Environment
from edgefc.runtime.profiling.profiler import profile
from edgefc.runtime.profiling.request import Inputs
from edgefc.runtime.profiling.runner import Runner
from edgefc.temporary import folder

HERE = ("here", "local")
"""Names of this machine."""


@dataclass(frozen=True)
class Effort:
    """How long each file is timed, as in profile()."""

    min_time_s: float
    processes: int
    rounds: int


@dataclass(frozen=True)
class Timed:
    """A model whose time may be known.

    Attributes:
        facts   what its time depends on, besides the device and the versions: JSON values
        write   writes its file
    """

    facts: Mapping[str, object]
    write: Callable[[Path], None]


LAYER = Effort(0.3, 2, 2)
MODEL = Effort(2.0, 3, 4)


class Clock:
    """One device, which stays connected until the end of the block.

        with Clock("pi") as clock:
            times = clock.measure([Path("a.onnx"), Path("b.onnx")])

    Args:
        device   as `edgefc devices list` names it; "here" or "local" is this machine
        threads  of onnxruntime

    Raises:
        UsageError: there is no such device.
        DeviceError: it cannot be reached.
    """

    def __init__(self, device: str, threads: int = 1) -> None:
        self.name, self._threads = device, threads
        self._runner: Runner = connect("local" if device in HERE else device)
        try:
            self._environment = self._runner.environment()
        except BaseException:
            self._runner.close()
            raise

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._runner.close()

    @property
    def emulated(self) -> bool:
        """Whether the device is emulated, so that its times are not those of real hardware."""
        return bool(self._environment.emulated)

    def times(self, wanted: Sequence[Timed], ranges: Ranges | None = None) -> list[float]:
        """The median time of a run of each model, in microseconds, without that of a model that does nothing.

        Models that have no known time are measured together: they run in turn, so that the times can be compared.

        Args:
            ranges: of the random inputs of all models, as for edgefc.runtime.profile().

        Raises:
            ModelError: the device cannot run a model.
            DeviceError: the connection is lost.
        """
        facts = [self._facts(each.facts, ranges) for each in wanted]
        times = [kept.known(each) for each in facts]
        waiting = [at for at, time in enumerate(times) if time is None]
        if waiting:
            with folder("edgefc-time-") as place:
                paths = [place / f"{at}.onnx" for at in waiting]
                for at, path in zip(waiting, paths, strict=True):
                    wanted[at].write(path)
                measured = self.measure(paths, ranges=ranges, effort=LAYER)
            for at, time in zip(waiting, measured, strict=True):
                times[at] = time
                kept.keep(facts[at], time)
        return [time for time in times if time is not None]

    def measure(
        self, files: Sequence[Path], *, inputs: Inputs = None, ranges: Ranges | None = None, effort: Effort = MODEL
    ) -> list[float]:
        """As times(), of files. They are always measured.

        Args:
            inputs, ranges: of all files, as for edgefc.runtime.profile().

        Raises:
            ModelError, DeviceError: as times().
        """
        record = profile(
            [str(path) for path in files], device=_Open(self._runner), inputs=inputs, ranges=ranges,
            threads=self._threads, launches=1, memory=False, progress=False, **vars(effort),
        )  # fmt: skip
        if record.unfinished is not None:
            raise DeviceError(f"{self.name}: {record.unfinished}.")
        nothing = record.baselines[0].steady.median_ns
        return [max(0.0, cell.steady.median_ns - nothing) / 1e3 for cell in record.cells]

    def _facts(self, own: Mapping[str, object], ranges: Ranges | None) -> dict[str, object]:
        """What a time depends on."""
        here = self._environment
        return {
            "device": self._runner.name, "machine": here.machine, "board": here.board, "cpu": here.cpu,
            "features": sorted(here.features or ()), "emulated": bool(here.emulated), "onnxruntime": here.onnxruntime,
            "edgefc": __version__, "threads": self._threads,
            "ranges": sorted([name, *pair] for name, pair in (ranges or {}).items()), **own,
        }  # fmt: skip


class _Open:
    """A runner that profile() does not close."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self.name = runner, runner.name

    def environment(self) -> Environment:
        return self._runner.environment()

    def device(self) -> Device:
        return self._runner.device()

    def place(self, path: str) -> str:
        return self._runner.place(path)

    def ask(self, question: Question[Any], *, about: str, limit_s: float = child.LIMIT_S) -> Any:
        return self._runner.ask(question, about=about, limit_s=limit_s)

    def close(self) -> None:
        pass

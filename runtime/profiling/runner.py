"""Where the probes of profile() run: on this machine (Local), or on a device (edgefc.devices).

A runner is asked the same questions wherever it stands, so one measuring code gives one kind of record. Questions and
answers are those of probes/contracts.py; a runner of a device has checked the answers.
"""

from types import TracebackType
from typing import Protocol, TypeVar

from edgefc.runtime.probes import child, heat, machine
from edgefc.runtime.probes.contracts import Question
from edgefc.runtime.profiling.parts import Device, Environment, Heat

A = TypeVar("A")


class Runner(Protocol):
    """One machine for the length of one profile call; close() gives back all that it took there.

    Attributes:
        name   the device's, as records and the progress bar have it

    Raises:
        DeviceError: from every method, when the device is absent, lost, busy, or returns an invalid answer.
        ModelError, UsageError: from ask(), as the probe itself would say on this machine.
    """

    name: str

    def environment(self) -> Environment:
        """Of that machine; `date` by this one's clock."""
        ...

    def device(self) -> Device:
        """Asked for last, when all is measured."""
        ...

    def place(self, path: str) -> str:
        """Make a file of this machine, and weights beside a model, readable there; the path that probes are given."""
        ...

    def ask(self, question: Question[A], *, about: str, limit_s: float = child.LIMIT_S) -> A:
        """The answer of trial, load, memory or steady. `about` names the model in sentences."""
        ...

    def close(self) -> None:
        """May come from another thread while one waits in ask(), which then raises."""
        ...


class Local:
    """This machine: probes are child processes, files stay where they are."""

    name = "local"

    def __init__(self) -> None:
        self.before = heat.state()
        self._children = child.Children()

    def environment(self) -> Environment:
        return Environment(**machine.environment())

    def device(self) -> Device:
        return Device(
            name=self.name, transport="local", emulated=bool(self.environment().emulated), profile=None,
            before=Heat.of(self.before), after=Heat.of(heat.state()), waited_s=0.0, download_bytes=None, notes=(),
        )  # fmt: skip

    def place(self, path: str) -> str:
        return path

    def ask(self, question: Question[A], *, about: str, limit_s: float = child.LIMIT_S) -> A:
        return self._children.ask(question, about=about, limit_s=limit_s)

    def close(self) -> None:
        self._children.end_all()


class Opened:
    """`with Opened(runner): ...` closes it at the end, whatever happens."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def __enter__(self) -> Runner:
        return self.runner

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runner.close()

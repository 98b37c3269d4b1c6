"""Where the probes of profile() run: on this machine (Local), or on a device (edgefc.devices).

All runners answer the same questions, so profile() makes the same kind of record for every device. The types of
questions and answers are in probes/contracts.py. A runner of a device checks the answers.
"""

from types import TracebackType
from typing import Protocol, TypeVar

from edgefc.runtime.probes import child, heat, machine
from edgefc.runtime.probes.contracts import Question
from edgefc.runtime.profiling.parts import Device, Environment, Heat

A = TypeVar("A")


class Runner(Protocol):
    """One machine during one call of profile(). close() releases everything that the runner used there.

    Attributes:
        name   the name of the device in records and in the progress bar

    Raises:
        DeviceError: from every method: the device cannot be reached, the connection was lost, the device is busy, or an
            answer is invalid.
        ModelError, UsageError: from ask(): the error of the probe, with the same message as on this machine.
    """

    name: str

    def environment(self) -> Environment:
        """Facts about that machine. `date` is by the clock of this machine."""
        ...

    def device(self) -> Device:
        """The device. It is called after all measurements."""
        ...

    def place(self, path: str) -> str:
        """Make a file of this machine, with the weights of a model, available there. Return its path for the probes."""
        ...

    def ask(self, question: Question[A], *, about: str, limit_s: float = child.LIMIT_S) -> A:
        """The answer to a question. `about` names the model in messages."""
        ...

    def close(self) -> None:
        """Close the runner. It may be called while another thread waits in ask(), which then raises."""
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
    """`with Opened(runner): ...` closes the runner at the end, also after an error."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def __enter__(self) -> Runner:
        return self.runner

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runner.close()

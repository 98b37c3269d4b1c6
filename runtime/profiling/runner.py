"""Where the probes of profile() run: on this machine (Local), or on a device (edgefc.devices).

A runner is asked the same questions wherever it stands, so one measuring code gives one kind of record.
"""

from types import TracebackType
from typing import Any, Protocol

from edgefc.runtime.probes import child, heat, machine


class Runner(Protocol):
    """One machine for the length of one profile call; close() gives back all that it took there.

    Attributes:
        name   the device's, as records and the progress bar have it

    Raises:
        DeviceError: from every method, when the device is absent, lost, busy, or answers what cannot be.
        ModelError, UsageError: from ask(), as the probe itself would say on this machine.
    """

    name: str

    def environment(self) -> dict[str, Any]:
        """The fields of parts.Environment, of that machine; `date` by this one's clock."""
        ...

    def device(self) -> dict[str, Any]:
        """The fields of parts.Device; asked for last, when all is measured."""
        ...

    def place(self, path: str) -> str:
        """Make a file of this machine, and weights beside a model, readable there; the path that probes are given."""
        ...

    def ask(self, probe: str, question: dict[str, Any], *, about: str, limit_s: float = child.LIMIT_S) -> Any:
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

    def environment(self) -> dict[str, Any]:
        return machine.environment()

    def device(self) -> dict[str, Any]:
        return {
            "name": self.name, "transport": "local", "emulated": bool(self.environment()["emulated"]), "profile": None,
            "before": self.before, "after": heat.state(), "waited_s": 0.0, "download_bytes": None, "notes": [],
        }  # fmt: skip

    def place(self, path: str) -> str:
        return path

    def ask(self, probe: str, question: dict[str, Any], *, about: str, limit_s: float = child.LIMIT_S) -> Any:
        return self._children.ask(probe, question, about=about, limit_s=limit_s)

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

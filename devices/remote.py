"""Remote: the probes of profile() on a board, by the agent there."""

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgefc.devices import answers
from edgefc.devices.agent import COOLING_S
from edgefc.devices.host import BEYOND_S, Board
from edgefc.devices.transports.base import Transport
from edgefc.errors import EdgefcError
from edgefc.runtime.child import LIMIT_S
from edgefc.runtime.external import weight_files
from edgefc.runtime.parts import Environment

_CLOCK_S = 3600.0  # clocks further apart are told of
_DAY_S = 86400.0


class Remote:
    """A Runner (edgefc.runtime.runner) over a transport. One job at a time: a second edgefc is refused meanwhile."""

    def __init__(self, transport: Transport, *, profile: str | None = None) -> None:
        self.board, self.profile = Board(transport), profile
        self._names: dict[str, str] = {}  # paths there: paths here
        try:
            hello = self._checked("hello", {}, self.board.hello, 0.0)
            self._clock_off_s = hello["clock_s"] - time.time()
            self.board.call("claim")
            self.before = self._heat()
        except BaseException:
            self.close()
            raise

    def environment(self) -> dict[str, Any]:
        """The date is this machine's: a board may have no clock."""
        found = self.ask("probe_facts", {}, about=self.board.name)
        environment = Environment.of(found).model_dump()
        return {**environment, "date": datetime.now(timezone.utc).replace(microsecond=0)}

    def device(self) -> dict[str, Any]:
        after = self._heat()
        transport = self.board.transport
        return {
            "name": self.board.name, "transport": transport.kind, "emulated": transport.emulated,
            "profile": self.profile, "before": _without_wait(self.before), "after": _without_wait(after),
            "waited_s": float(after["waited_s"]), "download_bytes": None, "notes": self._notes(),
        }  # fmt: skip

    def place(self, path: str) -> str:
        here = Path(path)
        files = {here.name: here}
        for weights in weight_files(here) if here.suffix != ".npz" else ():
            files[weights.relative_to(here.parent).as_posix()] = weights
        there = f"{self.board.place(files)}/{here.name}"
        self._names[there] = path
        return there

    def ask(self, probe: str, question: dict[str, Any], *, about: str, limit_s: float = LIMIT_S) -> Any:
        start = time.monotonic()
        try:
            found = self.board.call(
                "ask", probe=probe, question=question, about=about, limit_s=limit_s,
                within_s=limit_s + COOLING_S + BEYOND_S,
            )  # fmt: skip
        except EdgefcError as error:
            raise self._said_here(error) from None
        return self._checked(probe, question, found, time.monotonic() - start)

    def close(self) -> None:
        self.board.close()

    def _checked(self, what: str, question: dict[str, Any], found: Any, waited_s: float) -> Any:
        return answers.checked(self.board.name, what, question, found, waited_s)

    def _heat(self) -> dict[str, Any]:
        found: dict[str, Any] = self._checked("heat", {}, self.board.call("heat"), 0.0)
        return found

    def _notes(self) -> list[str]:
        notes = list(self.board.transport.notes)
        off = self._clock_off_s
        if abs(off) > _CLOCK_S:
            size = f"{abs(off) / _DAY_S:.0f} days" if abs(off) >= _DAY_S else f"{abs(off) / 3600:.0f} hours"
            notes.append(
                f"its clock is {size} {'ahead' if off > 0 else 'behind'}; the date is of the machine that asked"
            )
        return notes

    def _said_here(self, error: EdgefcError) -> EdgefcError:
        """The same with the paths of this machine."""
        text = str(error)
        for there, here in self._names.items():
            text = text.replace(there, here)
        return type(error)(text)


def _without_wait(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "waited_s"}

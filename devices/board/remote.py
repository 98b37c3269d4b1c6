"""Remote: the probes of profile() on a board, by the agent there."""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgefc.devices.agent.main import COOLING_S
from edgefc.devices.board import answers
from edgefc.devices.board.client import BEYOND_S, Board
from edgefc.devices.transports.base import Transport
from edgefc.errors import DeviceError, EdgefcError, ModelError
from edgefc.modelfile.weights import weights
from edgefc.progress import elapsed, transfer
from edgefc.runtime.probes.child import LIMIT_S
from edgefc.runtime.profiling.parts import Environment
from edgefc.runtime.profiling.request import OneModel, inputs_file, models_of
from edgefc.runtime.signature import Array

_CLOCK_S = 3600.0  # clocks further apart are told of
_DAY_S = 86400.0


class Remote:
    """A Runner (profiling/runner.py) over a transport. One job at a time: a second edgefc is refused meanwhile."""

    def __init__(self, transport: Transport, *, profile: str | None = None) -> None:
        self.name, self.profile = transport.name, profile
        with elapsed(f"{self.name}: connecting"):
            self.board = Board(transport)
        self._names: dict[str, str] = {}  # paths there: paths here
        try:
            hello = self._checked("hello", {}, self.board.hello, 0.0)
            self._clock_off_s = hello["clock_s"] - time.time()
            self.board.call("claim")
            self._environment = self._facts()
            self.before = self._heat()
        except BaseException:
            self.close()
            raise

    def environment(self) -> dict[str, Any]:
        """The date is this machine's: a board may have no clock."""
        return {**self._environment, "date": datetime.now(timezone.utc).replace(microsecond=0)}

    def device(self) -> dict[str, Any]:
        after = self._heat()
        transport = self.board.transport
        return {
            "name": self.name, "transport": transport.kind,
            "emulated": bool(self._environment["emulated"]), "profile": self.profile,
            "before": _without_wait(self.before), "after": _without_wait(after),
            "waited_s": float(after["waited_s"]), "download_bytes": None, "notes": self._notes(),
        }  # fmt: skip

    def place(self, path: str) -> str:
        """Models stay in the board's cache for later runs, inputs do not."""
        here = Path(path)
        model, files = here.suffix != ".npz", {here.name: here}
        for each in weights(here) if model else ():
            files[each.location] = each.file
        with transfer(f"{self.name}: sending {here.name}") as told:
            there = f"{self.board.place(files, told, keep=model)}/{here.name}"
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

    def run(
        self, models: Sequence[OneModel], feeds: Mapping[str, Any] | None = None, *, batch: int | None = None,
        **settings: Any,
    ) -> list[tuple[dict[str, Array], str | None]]:  # fmt: skip
        """What each model answers there, and the variant of the native kernels that was loaded with it.

        Args:
            feeds: an array by input name; drawn from the signature as profile() does when left out, with `batch`.
            settings: preset, native, threads, as for Session; shapes and ranges, as for profile().
        """
        asked = models_of(list(models))
        with inputs_file(feeds) as (path, _):
            inputs = None if path is None else self.place(path)
            placed = [model.question(self.place(str(model.path))) for model in asked]
            question = {"models": placed, "batch": batch, "inputs": inputs, **settings}
            found = self.ask("run", question, about=", ".join(str(model.path) for model in asked))
        return [(answers.arrays(self.name, one), one["used_native"]) for one in found]

    def close(self) -> None:
        self.board.close()

    def _checked(self, what: str, question: dict[str, Any], found: Any, waited_s: float) -> Any:
        return answers.checked(self.name, what, question, found, waited_s)

    def _facts(self) -> dict[str, Any]:
        name = self.name
        try:
            return Environment.of(self.ask("facts", {}, about="its onnxruntime")).model_dump()
        except ModelError as error:
            missing = re.search(r"No module named '(\w+)'", str(error))
            if missing is None:
                raise DeviceError(f"{error} What it has is told by: edgefc devices check {name}") from None
            raise DeviceError(
                f"{name} has no {missing[1]} for its Python {self.board.hello['python']}. "
                f"Put it there: edgefc devices provision {name}"
            ) from None

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

"""Remote: the probes of profile() on a board, by the agent there."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from edgefc.devices.agent.answers import HeatNow
from edgefc.devices.agent.main import COOLING_S
from edgefc.devices.board.client import BEYOND_S, Board
from edgefc.devices.transports.base import Transport
from edgefc.errors import DeviceError, EdgefcError, MissingPackage, ModelError
from edgefc.modelfile.weights import weights
from edgefc.progress import elapsed, transfer
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes.child import LIMIT_S
from edgefc.runtime.probes.contracts import FactsAnswer, FactsQuestion, Question, RunQuestion
from edgefc.runtime.profiling.parts import Device, Environment, Heat
from edgefc.runtime.profiling.request import OneModel, inputs_file, models_of
from edgefc.runtime.signature import Array

A = TypeVar("A")

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
            self._clock_off_s = self.board.hello.clock_s - time.time()
            self.board.call("claim")
            self._facts = self._asked_facts()
            self.before = self._heat().heat
        except BaseException:
            self.close()
            raise

    def environment(self) -> Environment:
        """The date is this machine's: a board may have no clock."""
        return Environment(**vars(self._facts), date=datetime.now(timezone.utc).replace(microsecond=0))

    def device(self) -> Device:
        after = self._heat()
        transport = self.board.transport
        return Device(
            name=self.name, transport=transport.kind, emulated=bool(self._facts.emulated),
            profile=self.profile, before=Heat.of(self.before), after=Heat.of(after.heat), waited_s=after.waited_s,
            download_bytes=None, notes=tuple(self._notes()),
        )  # fmt: skip

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

    def ask(self, question: Question[A], *, about: str, limit_s: float = LIMIT_S) -> A:
        start = time.monotonic()
        try:
            found = self.board.call(
                "ask", probe=question.probe, question=question, about=about, limit_s=limit_s,
                within_s=limit_s + COOLING_S + BEYOND_S,
            )  # fmt: skip
        except EdgefcError as error:
            raise self._said_here(error) from None
        return self.board.answers.answer(question, found, (time.monotonic() - start) * 1e9)

    def run(
        self, models: Sequence[OneModel], feeds: Mapping[str, Any] | None = None, *, batch: int | None = None,
        options: SessionOptions = SessionOptions(),  # noqa: B008  it is frozen
    ) -> list[tuple[dict[str, Array], str | None]]:  # fmt: skip
        """What each model answers there, and the variant of the native kernels that was loaded with it.

        Args:
            feeds: an array by input name; drawn from the signature as profile() does when left out, with `batch`.
            options: of every model; what a Model has of its own comes first.
        """
        asked = models_of(list(models))
        with inputs_file(feeds) as (path, _):
            wanted = Wanted(batch, None if path is None else self.place(path))
            placed = tuple(model.to_run(self.place(str(model.path)), options) for model in asked)
            found = self.ask(RunQuestion(placed, wanted), about=", ".join(str(model.path) for model in asked))
        array = self.board.answers.array
        return [({each.name: array(each) for each in ran.outputs}, ran.used_native) for ran in found.models]

    def close(self) -> None:
        self.board.close()

    def _asked_facts(self) -> FactsAnswer:
        name = self.name
        try:
            return self.ask(FactsQuestion(), about="its onnxruntime")
        except MissingPackage as error:
            text = (
                f"{name} has no {error.subject} for its Python {self.board.hello.python}. "
                f"Put it there: edgefc devices provision {name}"
            )
            raise error.retold(text) from None
        except ModelError as error:
            text = f"{error} What it has is told by: edgefc devices check {name}"
            raise DeviceError(text, device=name) from None

    def _heat(self) -> HeatNow:
        return self.board.answers.read(HeatNow, self.board.call("heat"))

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
        return error.retold(text)

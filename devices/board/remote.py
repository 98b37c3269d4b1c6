"""Remote: runs the probes of profile() on a board. The agent on the board executes them."""

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

_CLOCK_S = 3600.0  # a larger difference between the clocks is noted in the record
_DAY_S = 86400.0


class Remote:
    """A Runner (profiling/runner.py) over a transport. A board accepts one connection for measurements at a time."""

    def __init__(self, transport: Transport, *, profile: str | None = None) -> None:
        self.name, self.profile = transport.name, profile
        with elapsed(f"{self.name}: connecting"):
            self.board = Board(transport)
        self._names: dict[str, str] = {}  # path on the board -> path on this machine
        try:
            self._clock_off_s = self.board.hello.clock_s - time.time()
            self.board.call("claim")
            self._facts = self._read_facts()
            self.before = self._heat().heat
        except BaseException:
            self.close()
            raise

    def environment(self) -> Environment:
        """The board's facts, with the date of this machine: a board may have no clock."""
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
        """Send a file to the board. Models stay in its cache for later runs; inputs do not."""
        file = Path(path)
        model, files = file.suffix != ".npz", {file.name: file}
        for each in weights(file) if model else ():
            files[each.location] = each.file
        with transfer(f"{self.name}: sending {file.name}") as on_bytes:
            remote = f"{self.board.place(files, on_bytes, keep=model)}/{file.name}"
        self._names[remote] = path
        return remote

    def ask(self, question: Question[A], *, about: str, limit_s: float = LIMIT_S) -> A:
        start = time.monotonic()
        try:
            answer = self.board.call(
                "ask", probe=question.probe, question=question, about=about, limit_s=limit_s,
                within_s=limit_s + COOLING_S + BEYOND_S,
            )  # fmt: skip
        except EdgefcError as error:
            raise self._with_local_paths(error) from None
        return self.board.answers.answer(question, answer, (time.monotonic() - start) * 1e9)

    def run(
        self, models: Sequence[OneModel], feeds: Mapping[str, Any] | None = None, *, batch: int | None = None,
        options: SessionOptions = SessionOptions(),  # noqa: B008  it is frozen
    ) -> list[tuple[dict[str, Array], str | None]]:  # fmt: skip
        """The outputs of each model on the board, and the variant of the native kernels that was loaded with it.

        Args:
            feeds: arrays by input name. Without them, inputs are drawn with `batch`, as in profile().
            options: for every model. The settings of a Model override them.
        """
        asked = models_of(list(models))
        with inputs_file(feeds) as (path, _):
            wanted = Wanted(batch, None if path is None else self.place(path))
            placed = tuple(model.to_run(self.place(str(model.path)), options) for model in asked)
            answer = self.ask(RunQuestion(placed, wanted), about=", ".join(str(model.path) for model in asked))
        array = self.board.answers.array
        return [({each.name: array(each) for each in ran.outputs}, ran.used_native) for ran in answer.models]

    def close(self) -> None:
        self.board.close()

    def _read_facts(self) -> FactsAnswer:
        name = self.name
        try:
            return self.ask(FactsQuestion(), about="its onnxruntime")
        except MissingPackage as error:
            text = (
                f"{name} has no {error.subject} for its Python {self.board.hello.python}. "
                f"Install it: edgefc devices provision {name}"
            )
            raise error.reworded(text) from None
        except ModelError as error:
            text = f"{error} To see what the device has: edgefc devices check {name}"
            raise DeviceError(text, device=name) from None

    def _heat(self) -> HeatNow:
        return self.board.answers.read(HeatNow, self.board.call("heat"))

    def _notes(self) -> list[str]:
        notes = list(self.board.transport.notes)
        off = self._clock_off_s
        if abs(off) > _CLOCK_S:
            size = f"{abs(off) / _DAY_S:.0f} days" if abs(off) >= _DAY_S else f"{abs(off) / 3600:.0f} hours"
            notes.append(
                f"its clock is {size} {'ahead' if off > 0 else 'behind'}; the date is that of the host machine"
            )
        return notes

    def _with_local_paths(self, error: EdgefcError) -> EdgefcError:
        """The same error with the paths of this machine instead of those of the board."""
        text = str(error)
        for remote, local in self._names.items():
            text = text.replace(remote, local)
        return error.reworded(text)

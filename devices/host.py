"""Board: the host's side of the agent. Starts it, asks it, sends it files, and ends it whatever happens."""

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from edgefc import errors
from edgefc.devices import boot
from edgefc.devices.agent import PROTOCOL
from edgefc.devices.lines import Ended, Silent
from edgefc.devices.pack import pack
from edgefc.devices.transports.base import Transport
from edgefc.devices.wire import Garbled, Wire
from edgefc.errors import DeviceError, shortened
from edgefc.progress import Told
from edgefc.screen import visible

SILENCE_S = 30.0  # the agent says something every two seconds while it works
START_S = 60.0  # Python on an old board, or under emulation
SWEEP_S = 15.0
PIECE = 1 << 20
_NO_PROGRAM = 127  # what shells end with when there is no such program
_LONGEST_TEXT = 2000

BEYOND_S = 60.0  # how much longer than its own limit a probe may be waited for


class Board:
    """One connection to the agent on a device.

        with Board(transport) as board:
            facts = board.call("check")

    Attributes:
        hello   the agent's versions and clock: protocol, edgefc, python, machine, clock_s

    Raises:
        DeviceError: from every method: the device cannot be reached, lacks Python, was lost, or answers what cannot be.
    """

    def __init__(self, transport: Transport, *, start_s: float = START_S, sweeps: bool = True) -> None:
        self.transport, self.name, self._sweeps, self._last = transport, transport.name, sweeps, 0
        agent, sha256 = pack()
        program = Path(boot.__file__).read_text(encoding="utf-8")
        self._wire = Wire(transport.start([transport.python, "-c", program, sha256, str(len(agent))]))
        self._open = True
        try:
            self._start(agent, start_s)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The agent then ends its children, removes its folder, and ends. A call() of another thread then raises."""
        if self._open:
            self._open = False
            self._wire.end()
        self.transport.close()

    def call(
        self, do: str, *, data: bytes = b"", silence_s: float = SILENCE_S, within_s: float = 600.0, **fields: Any
    ) -> Any:
        """The agent's answer to `do`, whose fields agent.py lists. It beats while it works, for at most within_s."""
        if not self._open:
            raise DeviceError(f"{self.name} was let go. Connect to it again.")
        self._last += 1
        try:
            self._wire.send({"protocol": PROTOCOL, "id": self._last, "do": do, **fields}, data, silence_s)
            return self._answer(silence_s, time.monotonic() + within_s)
        except (Ended, Garbled) as error:
            self._lost(error)

    def send(self, path: Path, told: Told | None = None) -> str:
        """Have the agent keep a file by its content; its sha256. What is there already is not sent again."""
        with path.open("rb") as file:
            sha256, size = _digest(file)
            there = self._count(self.call("have", sha256=sha256, size=size), size)
            while there < size:
                file.seek(there)
                data = file.read(PIECE)
                found = self.call("put", data=data, sha256=sha256, size=size, offset=there, bytes=len(data))
                if self._count(found, size) != there + len(data):
                    self._lost(Garbled("another count of bytes than was sent"))
                there += len(data)
                if told is not None:
                    told(there, size)
        return sha256

    def place(self, files: Mapping[str, Path], told: Told | None = None, *, keep: bool = True) -> str:
        """Send files and have them side by side under these names, for the length of this connection; the folder.

        keep: whether they stay in the cache for later runs.
        """
        placed = [{"name": name, "sha256": self.send(path, told)} for name, path in files.items()]
        return self._text(self.call("place", files=placed, keep=keep))

    def install(self, what: str, files: Mapping[str, Path], told: Told | None = None) -> None:
        """Send wheels ("site") or the native library ("native") and have every later run use them."""
        self.call(
            "install", what=what,
            files=[{"name": name, "sha256": self.send(path, told)} for name, path in files.items()],
        )  # fmt: skip

    def _start(self, agent: bytes, start_s: float) -> None:
        try:
            greeting = self._wire.greeting(start_s)
            if greeting.get("need") is True:
                self._wire.send(None, agent, start_s)
                greeting = self._wire.greeting(start_s)
            if "error" in greeting:
                raise DeviceError(f"{self.name}: {self._text(greeting['error'])}.")
            self._wire.start_beating()
        except (Ended, Garbled) as error:
            self._lost(error)
        self.hello = self.call("hello", silence_s=start_s)
        if not isinstance(self.hello, dict) or self.hello.get("protocol") != PROTOCOL:
            self._lost(Garbled("another protocol"))

    def _answer(self, silence_s: float, until: float) -> Any:
        while True:
            reply = self._wire.receive(silence_s)
            if time.monotonic() > until:
                raise Silent("no answer in time")
            if "id" not in reply and "error" in reply:  # it could not start
                raise DeviceError(f"{self.name}: {self._text(reply.get('text'))}")
            if reply.get("id") != self._last:
                raise Garbled("the answer to another question")
            if set(reply) == {"id", "answer"}:
                return reply["answer"]
            if set(reply) == {"id", "error", "text"}:
                kind = reply["error"]
                if kind not in ("ModelError", "UsageError", "DeviceError"):
                    raise Garbled("an error of an unknown kind")
                raise getattr(errors, kind)(f"{self.name}: {self._text(reply['text'])}")
            if set(reply) != {"id", "beat"}:
                raise Garbled("an answer of another form")

    def _lost(self, error: Exception) -> NoReturn:
        """Close, tell why, and have a new agent remove what the old one could not."""
        if not self._open:
            raise DeviceError(f"{self.name} was let go. Connect to it again.")
        self._open = False
        code, said = self._wire.end()
        if self._sweeps:
            self._sweep()
        if isinstance(error, Garbled):
            raise DeviceError(
                f"{self.name} answered what cannot be: {error}. Use the same edgefc on both sides."
            ) from None
        why = self.transport.explain(code, said)
        if why is not None:
            raise DeviceError(f"{self.name}: {why}") from None
        raise DeviceError(f"{self.name} {self._ending(code, said, isinstance(error, Silent))}") from None

    def _ending(self, code: int, said: str, silent: bool) -> str:
        if code == _NO_PROGRAM and not silent:
            return f"has no {self.transport.python}. Install Python 3.9 or later there: sudo apt install python3"
        if silent:
            return "stopped answering. Look whether it is on and not overloaded, and run again"
        last = shortened(said.rpartition("\n")[2])
        return f"ended the agent (exit {code}{': ' + last if last else ''}). Memory may have run out; run again"

    def _sweep(self) -> None:
        with suppress(DeviceError):
            Board(self.transport, start_s=SWEEP_S, sweeps=False).close()

    def _count(self, found: Any, most: int) -> int:
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= most:
            self._lost(Garbled("no count of bytes"))
        return found

    def _text(self, found: Any) -> str:
        if not isinstance(found, str):
            self._lost(Garbled("no text where one belongs"))
        return visible(found[:_LONGEST_TEXT].strip())


def _digest(file: IO[bytes]) -> tuple[str, int]:
    """sha256 and size."""
    digest, size = hashlib.sha256(), 0
    while part := file.read(PIECE):
        digest.update(part)
        size += len(part)
    return digest.hexdigest(), size

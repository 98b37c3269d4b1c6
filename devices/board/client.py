"""Board: the host's side of the agent. Starts it, asks it, sends it files, and ends it whatever happens."""

import base64
import hashlib
import secrets
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from edgefc.devices.agent import boot
from edgefc.devices.agent.answers import Hello
from edgefc.devices.agent.lines import Ended, Silent, TooLong
from edgefc.devices.agent.main import PROTOCOL
from edgefc.devices.answers import Answers
from edgefc.devices.board.pack import pack
from edgefc.devices.board.wire import Garbled, Wire
from edgefc.devices.transports.base import Transport, signal_name
from edgefc.errors import DeviceError, EdgefcError, shortened
from edgefc.progress import Told
from edgefc.runtime.probes.plain import Failure, Unfit, read
from edgefc.screen import visible

SILENCE_S = 30.0  # the agent says something every two seconds while it works
START_S = 60.0  # Python on an old board, or under emulation
SWEEP_S = 15.0
PIECE = 1 << 20
_NO_PROGRAM = 127  # what shells end with when there is no such program
_LONGEST_TEXT = 2000

_SLACK = 1.02  # a board's clock against this machine's
BEYOND_S = 60.0  # how much longer than its own limit a probe may be waited for


class Board:
    """One connection to the agent on a device.

        with Board(transport) as board:
            facts = board.call("check")

    Attributes:
        hello     what the agent says of itself: its versions, clock and run
        answers   checks what comes from this board

    Raises:
        DeviceError: from every method: the device cannot be reached, lacks Python, was lost, or its answer is invalid.
    """

    def __init__(self, transport: Transport, *, start_s: float = START_S, sweeps: bool = True) -> None:
        self.transport, self.name, self._sweeps, self._last = transport, transport.name, sweeps, 0
        self.answers = answers_of(self.name)
        self._hello: Hello | None = None
        agent, sha256 = pack()
        self._mark = f"edgefc-{secrets.token_hex(8)}"
        argv = [transport.python, "-c", _loader(), sha256, str(len(agent)), self._mark]
        self._wire = Wire(transport.start(argv))
        self._open = True
        try:
            self._start(agent, start_s)
        except BaseException:
            self.close()
            raise

    @property
    def hello(self) -> Hello:
        assert self._hello is not None
        return self._hello

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
        """The agent's answer to `do`, unchecked. agent/main.py lists the fields.

        The agent sends a line every few seconds while it works; it may take at most within_s.
        """
        if not self._open:
            raise self._error("was let go. Connect to it again.")
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
            greeting = self._wire.greeting(self._mark, start_s)
            if greeting.get("need") is True:
                self._wire.send(None, agent, start_s)
                greeting = self._wire.greeting(self._mark, start_s)
            if "error" in greeting:
                raise self._error(f"{self._text(greeting['error'])}.", ": ")
            self._wire.start_beating()
        except (Ended, Garbled) as error:
            self._lost(error, started=False)
        found = self.call("hello", silence_s=start_s)
        if not isinstance(found, dict) or found.get("protocol") != PROTOCOL:
            self._lost(Garbled("another protocol"))
        self._hello = self.answers.read(Hello, found)

    def _answer(self, silence_s: float, until: float) -> Any:
        while True:
            reply = self._wire.receive(silence_s)
            if time.monotonic() > until:
                raise Silent("no answer in time")
            if set(reply) == {"error"}:  # it could not start
                raise self._failed(reply["error"])
            if reply.get("id") != self._last:
                raise Garbled("the answer to another question")
            if set(reply) == {"id", "answer"}:
                return reply["answer"]
            if set(reply) == {"id", "error"}:
                raise self._failed(reply["error"])
            if set(reply) != {"id", "beat"}:
                raise Garbled("an answer of another form")

    def _failed(self, found: Any) -> EdgefcError:
        """What the agent says went wrong, as an error of this side."""
        try:
            error = read(Failure, found).error()
        except Unfit as fault:
            raise Garbled(f"an error of another form ({fault})") from None
        subject = None if error.subject is None else shortened(visible(error.subject))
        return type(error)(f"{self.name}: {self._text(str(error))}", subject=subject, device=self.name)

    def _error(self, text: str, between: str = " ") -> DeviceError:
        """A sentence that begins with the name of this board."""
        return DeviceError(f"{self.name}{between}{text}", device=self.name)

    def _lost(self, error: Exception, *, started: bool = True) -> NoReturn:
        """Close, have a new agent end and remove what the old one could not, and raise what happened."""
        if not self._open:
            raise self._error("was let go. Connect to it again.")
        self._open = False
        code, said = self._wire.end()
        killed_for_memory = self._sweep() if self._sweeps and started else 0
        if isinstance(error, (Garbled, TooLong)):
            raise self._error(f"returned an invalid reply: {error}. Use the same edgefc on both sides.") from None
        why = None if code is None else self.transport.explain(code, said)
        if why is not None:
            raise self._error(why, ": ") from None
        if not started:
            raise self._error(self._not_started(code, said, isinstance(error, Silent))) from None
        silent = error if isinstance(error, Silent) else None
        raise self._error(_ending(code, said, silent, killed_for_memory)) from None

    def _not_started(self, code: int | None, said: str, silent: bool) -> str:
        """That the program ended, or did not, before the agent's first line: what was seen of it."""
        python, last = self.transport.python, shortened(said.rpartition("\n")[2]).rstrip(".")
        if not silent and ((code == _NO_PROGRAM and "shared librar" not in said) or _no_such_program(python, last)):
            return f"has no {python}. Install Python 3.9 or later there: sudo apt install python3."
        noise = shortened(visible(self._wire.noise.decode(errors="replace")))
        seen = f"; its last line was {(last or noise)!r}" if last or noise else ", and printed nothing"
        if silent:
            return f"did not start the agent in time{seen}. See whether this ends: {self._by_hand()}."
        ended = f"ended the session ({_end(code)}) before the agent started{seen}"
        return f"{ended}. See what this does: {self._by_hand()}."

    def _by_hand(self) -> str:
        return self.transport.by_hand(f"{self.transport.python} --version")

    def _sweep(self) -> int:
        """Have another agent end this one's; how many processes the kernel there has killed for memory meanwhile."""
        mine = self._hello
        with suppress(DeviceError), Board(self.transport, start_s=SWEEP_S, sweeps=False) as other:
            if mine is None:
                return 0
            other.call("end", run=mine.run)
            if mine.killed_for_memory is not None and other.hello.killed_for_memory is not None:
                return other.hello.killed_for_memory - mine.killed_for_memory
        return 0

    def _count(self, found: Any, most: int) -> int:
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= most:
            self._lost(Garbled("no count of bytes"))
        return found

    def _text(self, found: Any) -> str:
        if not isinstance(found, str):
            self._lost(Garbled("no text where one belongs"))
        return visible(found[:_LONGEST_TEXT].strip())


def answers_of(name: str) -> Answers:
    """Checks what the board of that name answers."""

    def refuse(reason: str) -> DeviceError:
        text = f"{name} returned an invalid answer ({reason}). Nothing of it was kept; run `edgefc devices check`."
        return DeviceError(text, device=name)

    return Answers(refuse, _SLACK)


def _loader() -> str:
    """boot.py as one line for `python3 -c`, of characters that every login shell passes on as they are."""
    text = zlib.compress(Path(boot.__file__).read_bytes(), 9)
    return f'import base64,zlib;exec(zlib.decompress(base64.b64decode("{base64.b64encode(text).decode()}")))'


def _ending(code: int | None, said: str, silent: Silent | None, killed_for_memory: int) -> str:
    if silent:
        return f"stopped answering ({silent}). Check that it is on and reachable, and run the command again."
    if killed_for_memory > 0:
        return (
            f"lost the agent, and its kernel counts {killed_for_memory} more processes that it killed for lack of "
            "memory (oom_kill in /proc/vmstat). Give a smaller batch, or end other programs there."
        )
    last = shortened(said.rpartition("\n")[2]).rstrip(".")
    return f"ended the agent ({_end(code)}{': ' + last if last else ''}). Run again."


def _end(code: int | None) -> str:
    """In words. Shells add 128 to the number of the signal that ended their program."""
    if code is None:
        return "no exit code"
    number = -code if code < 0 else code - 128
    return f"exit {code}" if not 0 < number < 65 else signal_name(number)


def _no_such_program(python: str, last: str) -> bool:
    """As csh and tcsh put it, whose exit code is 1 then."""
    return last.startswith(f"{python}: Command not found")


def _digest(file: IO[bytes]) -> tuple[str, int]:
    """sha256 and size."""
    digest, size = hashlib.sha256(), 0
    while part := file.read(PIECE):
        digest.update(part)
        size += len(part)
    return digest.hexdigest(), size

"""Board: the host's side of the agent. It starts the agent, asks questions, sends files, and always ends the agent."""

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
from edgefc.progress import OnBytes
from edgefc.runtime.probes.plain import Failure, Unfit, read
from edgefc.screen import visible

SILENCE_S = 30.0  # the agent sends a line every two seconds while it works
START_S = 60.0  # Python starts slowly on an old board, and under emulation
SWEEP_S = 15.0
PIECE = 1 << 20
_NO_PROGRAM = 127  # the exit code of a shell for a program that does not exist
_LONGEST_TEXT = 2000

_SLACK = 1.02  # the allowed ratio of a board's clock to this machine's
BEYOND_S = 60.0  # how long to wait for a probe after its own time limit


class Board:
    """One connection to the agent on a device.

        with Board(transport) as board:
            facts = board.call("check")

    Attributes:
        hello     the agent's versions, clock and run
        answers   checks the answers of this board

    Raises:
        DeviceError: from every method: the device cannot be reached or has no Python, the connection was lost, or an
            answer is invalid.
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
        """Close the connection. The agent ends its children, removes its folder, and ends.

        A call() that is waiting in another thread raises DeviceError.
        """
        if self._open:
            self._open = False
            self._wire.end()
        self.transport.close()

    def call(
        self, do: str, *, data: bytes = b"", silence_s: float = SILENCE_S, within_s: float = 600.0, **fields: Any
    ) -> Any:
        """The agent's answer to `do`, unchecked. agent/main.py lists the fields.

        Args:
            silence_s: the longest time without a line from the agent, s. It sends one every few seconds while it works.
            within_s: the longest time until the answer, s.
        """
        if not self._open:
            raise self._error("is not connected any more. Connect to it again.")
        self._last += 1
        try:
            self._wire.send({"protocol": PROTOCOL, "id": self._last, "do": do, **fields}, data, silence_s)
            return self._answer(silence_s, time.monotonic() + within_s)
        except (Ended, Garbled) as error:
            self._lost(error)

    def send(self, path: Path, on_bytes: OnBytes | None = None) -> str:
        """Send a file to the agent's cache and return its sha256. Bytes that are already there are not sent again."""
        with path.open("rb") as file:
            sha256, size = _digest(file)
            present = self._count(self.call("have", sha256=sha256, size=size), size)
            while present < size:
                file.seek(present)
                data = file.read(PIECE)
                count = self.call("put", data=data, sha256=sha256, size=size, offset=present, bytes=len(data))
                if self._count(count, size) != present + len(data):
                    self._lost(Garbled("a count of bytes that differs from the bytes sent"))
                present += len(data)
                if on_bytes is not None:
                    on_bytes(present, size)
        return sha256

    def place(self, files: Mapping[str, Path], on_bytes: OnBytes | None = None, *, keep: bool = True) -> str:
        """Send files and place them under these names in a new folder on the device. Return the path of the folder.

        The folder is removed at the end of this connection. keep: whether the files stay in the cache for later runs.
        """
        placed = [{"name": name, "sha256": self.send(path, on_bytes)} for name, path in files.items()]
        return self._text(self.call("place", files=placed, keep=keep))

    def install(self, what: str, files: Mapping[str, Path], on_bytes: OnBytes | None = None) -> None:
        """Install wheels ("site") or the native library ("native") on the device. Every later run there uses them."""
        self.call(
            "install", what=what,
            files=[{"name": name, "sha256": self.send(path, on_bytes)} for name, path in files.items()],
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
        hello = self.call("hello", silence_s=start_s)
        if not isinstance(hello, dict) or hello.get("protocol") != PROTOCOL:
            self._lost(Garbled("a different version of the protocol"))
        self._hello = self.answers.read(Hello, hello)

    def _answer(self, silence_s: float, until: float) -> Any:
        while True:
            reply = self._wire.receive(silence_s)
            if time.monotonic() > until:
                raise Silent("no answer within the time limit")
            if set(reply) == {"error"}:  # the agent could not start
                raise self._failed(reply["error"])
            if reply.get("id") != self._last:
                raise Garbled("an answer to a different question")
            if set(reply) == {"id", "answer"}:
                return reply["answer"]
            if set(reply) == {"id", "error"}:
                raise self._failed(reply["error"])
            if set(reply) != {"id", "beat"}:
                raise Garbled("an answer with unexpected fields")

    def _failed(self, failure: Any) -> EdgefcError:
        """Convert the agent's error to an exception of this process."""
        try:
            error = read(Failure, failure).error()
        except Unfit as fault:
            raise Garbled(f"an invalid error ({fault})") from None
        subject = None if error.subject is None else shortened(visible(error.subject))
        return type(error)(f"{self.name}: {self._text(str(error))}", subject=subject, device=self.name)

    def _error(self, text: str, between: str = " ") -> DeviceError:
        """An error whose message begins with the name of this board."""
        return DeviceError(f"{self.name}{between}{text}", device=self.name)

    def _lost(self, error: Exception, *, started: bool = True) -> NoReturn:
        """Close the connection, let a new agent clean up after the lost one, and raise the error."""
        if not self._open:
            raise self._error("is not connected any more. Connect to it again.")
        self._open = False
        code, stderr = self._wire.end()
        killed_for_memory = self._sweep() if self._sweeps and started else 0
        if isinstance(error, (Garbled, TooLong)):
            raise self._error(f"returned an invalid reply: {error}. Use the same edgefc on both sides.") from None
        why = None if code is None else self.transport.explain(code, stderr)
        if why is not None:
            raise self._error(why, ": ") from None
        if not started:
            raise self._error(self._not_started(code, stderr, isinstance(error, Silent))) from None
        silent = error if isinstance(error, Silent) else None
        raise self._error(_ending(code, stderr, silent, killed_for_memory)) from None

    def _not_started(self, code: int | None, stderr: str, silent: bool) -> str:
        """The message if the agent's first line did not arrive, with the last line that was printed."""
        python, last = self.transport.python, shortened(stderr.rpartition("\n")[2]).rstrip(".")
        if not silent and ((code == _NO_PROGRAM and "shared librar" not in stderr) or _no_such_program(python, last)):
            return f"has no {python}. Install Python 3.9 or later there: sudo apt install python3."
        noise = shortened(visible(self._wire.noise.decode(errors="replace")))
        seen = f"; its last line was {(last or noise)!r}" if last or noise else ", and printed nothing"
        if silent:
            return f"did not start the agent in time{seen}. Check whether this command ends: {self._by_hand()}."
        ended = f"ended the session ({_end(code)}) before the agent started{seen}"
        return f"{ended}. Check what this command does: {self._by_hand()}."

    def _by_hand(self) -> str:
        return self.transport.by_hand(f"{self.transport.python} --version")

    def _sweep(self) -> int:
        """Start another agent, which ends the lost one.

        Return how many processes the kernel there has killed for lack of memory since the hello of the lost one.
        """
        mine = self._hello
        with suppress(DeviceError), Board(self.transport, start_s=SWEEP_S, sweeps=False) as other:
            if mine is None:
                return 0
            other.call("end", run=mine.run)
            if mine.killed_for_memory is not None and other.hello.killed_for_memory is not None:
                return other.hello.killed_for_memory - mine.killed_for_memory
        return 0

    def _count(self, value: Any, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            self._lost(Garbled("an invalid count of bytes"))
        return value

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            self._lost(Garbled("a value that is not a text"))
        return visible(value[:_LONGEST_TEXT].strip())


def answers_of(name: str) -> Answers:
    """An Answers that checks the answers of the board `name`."""

    def refuse(reason: str) -> DeviceError:
        text = f"{name} returned an invalid answer ({reason}). The answer was discarded; run `edgefc devices check`."
        return DeviceError(text, device=name)

    return Answers(refuse, _SLACK)


def _loader() -> str:
    """boot.py as one line for `python3 -c`. It has only characters that every login shell passes on unchanged."""
    text = zlib.compress(Path(boot.__file__).read_bytes(), 9)
    return f'import base64,zlib;exec(zlib.decompress(base64.b64decode("{base64.b64encode(text).decode()}")))'


def _ending(code: int | None, stderr: str, silent: Silent | None, killed_for_memory: int) -> str:
    if silent:
        return f"stopped answering ({silent}). Check that it is on and reachable, and run the command again."
    if killed_for_memory > 0:
        return (
            "lost the agent. Its kernel's count of processes killed for lack of memory (oom_kill in /proc/vmstat) has "
            f"increased by {killed_for_memory}. Give a smaller batch, or end other programs there."
        )
    last = shortened(stderr.rpartition("\n")[2]).rstrip(".")
    return f"ended the agent ({_end(code)}{': ' + last if last else ''}). Run again."


def _end(code: int | None) -> str:
    """Describe an exit code. Shells add 128 to the number of the signal that ended their program."""
    if code is None:
        return "no exit code"
    number = -code if code < 0 else code - 128
    return f"exit {code}" if not 0 < number < 65 else signal_name(number)


def _no_such_program(python: str, last: str) -> bool:
    """Whether `last` is the message of csh and tcsh, whose exit code is 1 in this case."""
    return last.startswith(f"{python}: Command not found")


def _digest(file: IO[bytes]) -> tuple[str, int]:
    """The sha256 and the size of a file."""
    digest, size = hashlib.sha256(), 0
    while part := file.read(PIECE):
        digest.update(part)
        size += len(part)
    return digest.hexdigest(), size

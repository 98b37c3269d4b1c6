"""The connection to one process on a device: JSON lines in both directions. Received data is not trusted."""

import json
import os
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any, NoReturn

from edgefc.devices.agent.lines import Ended, Lines, Silent, write
from edgefc.runtime.probes.plain import encode
from edgefc.screen import visible

BEAT_S = 10.0
ENDING_S = 15.0  # the agent needs this time to end its children and remove its folder
MOST_NOISE = 256 << 20  # the most bytes that a login shell may print before the agent's first line
_STDERR_LINES, _STDERR_LINE = 20, 500


class Garbled(Exception):
    """A received line violates the protocol."""


class Wire:
    """Owns a process with three pipes. end() ends it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin = process, process.stdin
        self._lines = Lines(process.stdout.fileno())
        os.set_blocking(self._stdin.fileno(), False)
        self._writing, self._closed = threading.Lock(), threading.Event()
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self.noise = b""  # the last line before the greeting
        self._reader = threading.Thread(target=self._read_stderr, args=(process.stderr,), daemon=True)
        self._reader.start()

    def start_beating(self) -> None:
        """Send a line every BEAT_S seconds. Without them the agent ends, as it may not notice a lost connection."""
        threading.Thread(target=self._beat, daemon=True).start()

    def send(self, message: dict[str, Any] | None, data: bytes, limit_s: float) -> None:
        head = b"" if message is None else encode(message).encode() + b"\n"
        with self._writing:
            write(self._stdin.fileno(), head + data, limit_s)

    def receive(self, limit_s: float) -> dict[str, Any]:
        """The next line.

        Raises:
            Ended: no line arrives within limit_s.
            Garbled: the line is not a JSON object of finite numbers.
        """
        return parsed(self._lines.line(limit_s))

    def greeting(self, mark: str, limit_s: float) -> dict[str, Any]:
        """The JSON object in the first line that begins with `mark`. Login shells may print other lines before it.

        Raises:
            Silent: the line does not arrive within limit_s.
            Ended: the program ended before.
            Garbled: more than MOST_NOISE bytes came before the line, or it is not a JSON object.
        """
        start, until, passed = mark.encode() + b" {", time.monotonic() + limit_s, 0
        while passed <= MOST_NOISE:
            left = until - time.monotonic()
            if left <= 0:
                break
            line = self._lines.line(left)
            if line.startswith(start):
                return parsed(line[len(mark) :])
            passed += len(line) + 1
            self.noise = line[:_STDERR_LINE].strip() or self.noise
        else:
            raise Garbled(f"more than {MOST_NOISE} bytes before the agent started")
        raise Silent(f"no line from the agent within {limit_s:g} s")

    def end(self) -> tuple[int | None, str]:
        """Wait for the process. Return its exit code, None if it had to be killed, and the last lines of its stderr."""
        self._closed.set()
        with suppress(OSError), self._writing:
            self._stdin.close()
        code: int | None
        try:
            code = self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = None
        self._reader.join(1.0)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None and not self._reader.is_alive():
                pipe.close()
        return code, "\n".join(self._stderr)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_S):
            with suppress(Ended, OSError, ValueError):
                self.send({"beat": 1}, b"", BEAT_S)

    def _read_stderr(self, pipe: Any) -> None:
        with suppress(OSError, ValueError):
            for line in iter(lambda: pipe.readline(_STDERR_LINE), b""):
                self._stderr.append(visible(line.decode(errors="replace").strip()))


def parsed(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line, parse_constant=_refused)
    except (ValueError, RecursionError):
        raise Garbled(f"a line that is not JSON: {line[:80].decode(errors='replace').strip()!r}") from None
    if not isinstance(message, dict):
        raise Garbled(f"a {type(message).__name__} instead of an object")
    return message


def _refused(name: str) -> NoReturn:
    raise ValueError(name)

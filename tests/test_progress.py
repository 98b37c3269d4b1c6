"""What long work shows: something on a terminal, nothing elsewhere."""

import fcntl
import io
import os
import pty
import struct
import termios
import time
from typing import Any

import pytest

from edgefc.progress import Bar, elapsed, note, steps, transfer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(pauses: bool) -> None:
    """Bars are drawn again after a tenth of a second, and seconds after half a second."""
    with transfer("pi: sending") as told:
        for there, size in ((400, 1000), (1000, 1000), (2000, 2000), (500, 3000), (3000, 3000)):
            told(there, size)
            time.sleep(0.15 * pauses)
    with elapsed("pi: connecting") as stage:
        time.sleep(0.7 * pauses)
        stage("greeting")
    assert list(steps(range(3), "fitting")) == [0, 1, 2]


def test_a_terminal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files of 1,000, 2,000 and 3,000 bytes, then seconds that pass."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)

    work(pauses=True)

    said = terminal.getvalue()
    assert all(f"pi: sending: 100%|##########| {bytes_}k/{bytes_}k" in said for bytes_ in ("1.00", "3.00", "6.00"))
    assert said.count("pi: connecting: 00:00") > 1
    assert "pi: connecting: greeting: 00:00" in said


def test_nothing_else_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr", quiet := io.StringIO())

    work(pauses=False)

    assert quiet.getvalue() == "" and capsys.readouterr().out == ""


HOSTILE = "pi\x1b[2J\n層"


def drawn(columns: int, encoding: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What bars with texts of others write on a real terminal."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with monkeypatch.context() as patch, open(terminal, "w", encoding=encoding, errors="strict") as stream:
        patch.setattr("sys.stderr", stream)
        with Bar(total=3, desc=HOSTILE, unit="process", leave=False, mininterval=0) as bar:
            bar.set_postfix_str(HOSTILE)
            bar.update()
            note(HOSTILE)
        with elapsed(HOSTILE) as tell:
            tell(HOSTILE)
        print("END", file=stream, flush=True)
        said = b""
        while not said.endswith(b"END\r\n"):
            said += os.read(controller, 1 << 16)
    os.close(controller)
    return said.decode(encoding).removesuffix("END\r\n")


@pytest.mark.parametrize(
    ("columns", "encoding"), [(0, "utf-8"), (80, "utf-8"), (1, "utf-8"), (20, "cp1252"), (80, "ascii")]
)
def test_terminals_of_any_width_and_encoding(columns: int, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = drawn(columns, encoding, monkeypatch)

    shown = r"pi\x1b[2J\n" + ("層" if encoding == "utf-8" else r"\u5c64")
    assert f"{shown}\r\n" in said and "\x1b" not in said
    assert ("█" in said or "▌" in said) == (encoding == "utf-8" and columns in (0, 80))
    lines = [line.removesuffix("\r\n") for line in said.replace(f"{shown}\r\n", "").split("\r")]
    if columns:
        assert max(map(len, lines)) <= max(1, columns - 1)


class Gone(Terminal):
    def write(self, text: str = "") -> int:
        raise OSError(5, "Input/output error")

    flush = write  # type: ignore[assignment]


@pytest.mark.parametrize("stream", [Gone(), None, "closed"])
def test_a_terminal_that_has_gone_stops_no_work(monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    if stream == "closed":
        stream = Terminal()
        stream.close()
    monkeypatch.setattr("sys.stderr", stream)

    assert list(steps(range(3), "fitting")) == [0, 1, 2]
    with Bar(total=3, disable=False) as bar:
        bar.update()
        bar.set_postfix_str("x")
        note("y")
    with elapsed("pi") as tell:
        tell("z")

"""What long work shows: something on a terminal, nothing elsewhere."""

import io
import time

import pytest

from edgefc.progress import elapsed, steps, transfer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work() -> None:
    with transfer("pi: sending") as told:
        for there, size in ((400, 1000), (1000, 1000), (2000, 2000), (500, 3000), (3000, 3000)):
            told(there, size)
            time.sleep(0.15)
    with elapsed("pi: connecting") as stage:
        time.sleep(0.7)
        stage("greeting")
    assert list(steps(range(3), "fitting")) == [0, 1, 2]


def test_a_terminal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files of 1,000, 2,000 and 3,000 bytes, then seconds that pass."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)

    work()

    said = terminal.getvalue()
    assert all(f"pi: sending: 100%|##########| {bytes_}k/{bytes_}k" in said for bytes_ in ("1.00", "3.00", "6.00"))
    assert said.count("pi: connecting: 00:00") > 1
    assert "pi: connecting: greeting: 00:00" in said


def test_nothing_else_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr", quiet := io.StringIO())

    work()

    assert quiet.getvalue() == "" and capsys.readouterr().out == ""

"""What edgefc prints, and where it cannot: text that a terminal would obey, encodings, full and closed outputs."""

import errno
import io
import json
import logging
import os
import pty
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefc import screen
from edgefc.cli import main
from edgefc.errors import UsageError
from edgefc.screen import visible, width

ROOT = str(Path(__file__).resolve().parents[1])
HOSTILE = "a\x1b[31m\x07\r\n\tb\x7f\x9b2J\u202e\u2066\u200b\u2028\ufeff\u00a0\udcff\u3164\ufe0fc"
SHOWN = r"a\x1b[31m\x07\r\n\tb\x7f\x9b2J\u202e\u2066\u200b\u2028\ufeff\xa0\udcff\u3164\ufe0fc"  # as Python's ascii()
ENCODINGS = ("utf-8", "ascii", "cp1252", "latin-1", "shift_jis", "utf-16")


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        (HOSTILE, "utf-8", SHOWN),
        (HOSTILE, "ascii", SHOWN),
        ("größe 層 µ±×", "utf-8", "größe 層 µ±×"),
        ("größe 層", "cp1252", r"größe \u5c64"),
        ("größe 層", "ascii", r"gr\xf6\xdfe \u5c64"),
        ("e\u0301 🙂", "utf-8", "e\u0301 🙂"),
        ("\U000e0001\U000e0100", "utf-8", r"\U000e0001\U000e0100"),
        (r"C:\temp", "utf-8", r"C:\temp"),
    ],
)
def test_what_is_shown(text: str, encoding: str, shown: str) -> None:
    assert visible(text, encoding) == shown


@given(st.text(st.characters()), st.sampled_from(ENCODINGS))
def test_nothing_that_a_terminal_obeys_is_left(text: str, encoding: str) -> None:
    """By Unicode's categories: no control, format, surrogate or private character, no separator but the space."""
    shown = visible(text, encoding)

    shown.encode(encoding)
    assert not {unicodedata.category(letter) for letter in shown.replace(" ", "")} & {
        "Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"
    }  # fmt: skip
    assert visible(shown, encoding) == shown
    assert not text.isascii() or not text.isprintable() or shown == text


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3),
        ("層1", 3),
        ("größe", 5),
        ("gro\u0308sse", 6),
        ("🙂", 2),
        ("ﾊ", 1),
        ("\u1112\u1161\u11ab", 2),
        ("", 0),
    ],
)
def test_columns_that_a_text_takes(text: str, columns: int) -> None:
    """Decomposed letters, as macOS names files, count as composed ones."""
    assert width(text) == columns


class Program:
    """`edgefc` in this process, with a command that does what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch.setattr

    def __call__(self, body: Callable[[], Any], *arguments: str) -> int:
        self.patch("edgefc.commands.inspect.run", lambda _args: body() or 0)
        return main(["inspect", "x", *arguments])


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(monkeypatch)


def refuse() -> None:
    raise UsageError(f"node {HOSTILE} is refused.")


def test_an_error_is_one_line(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(refuse) == 2
    assert capsys.readouterr() == ("", f"edgefc inspect: node {SHOWN} is refused.\n")


def test_warnings_and_log_records_of_libraries(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        # pytest takes warnings before Python prints them, so this does what Python does.
        sys.stderr.write(warnings.formatwarning(HOSTILE, UserWarning, "net.py", 1, HOSTILE))
        record = logging.makeLogRecord({"levelno": logging.WARNING, "msg": HOSTILE})
        assert logging.lastResort is not None
        logging.lastResort.handle(record)

    assert program(body) == 0

    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 2 and err.count(SHOWN) == 2


def test_the_font_cache_of_matplotlib_is_not_told(program: Program) -> None:
    """It warns of it where HOME cannot be written."""
    heard: list[bool] = []

    assert (
        program(lambda: heard.append(logging.getLogger("matplotlib.font_manager").isEnabledFor(logging.WARNING))) == 0
    )

    assert heard == [False] and logging.getLogger("matplotlib.font_manager").isEnabledFor(logging.WARNING)


def test_the_arguments_that_argparse_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["insp" + HOSTILE], ["inspect", "x", "--frob", HOSTILE], ["bench", "--n", HOSTILE]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)

        out, err = capsys.readouterr()
        assert (caught.value.code, out) == (2, "") and err.startswith("usage: edgefc")
        assert all(line.isprintable() for line in err.split("\n"))
        assert r"\x1b[31m" in err.splitlines()[-1]


def test_a_text_of_the_models_own_exit(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """sys.exit("...") would print it past this module."""
    with pytest.raises(SystemExit) as caught:
        program(lambda: sys.exit(HOSTILE))

    assert caught.value.code == 1 and capsys.readouterr().err == SHOWN + "\n"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_encoding(program: Program, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Also with strict errors, and on a stdout that C's locale gave surrogateescape."""
    for errors in ("strict", "surrogateescape"):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="\n"))
        assert program(lambda: screen.out("größe 層 ±", HOSTILE, "")) == 0
        said = raw.getvalue().decode(encoding)
        assert said == f"{visible('größe 層 ±', encoding)}\n{SHOWN}\n\n"
    assert ("層" in said) == (encoding in ("utf-8", "utf-16", "shift_jis"))


class Broken(io.StringIO):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_stdout_that_fails(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """The work goes on; one sentence and exit code 2 at the end, and the next program starts anew."""
    done: list[int] = []

    def body() -> None:
        screen.out("first")
        screen.out("second")
        done.append(1)

    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", Broken(number))
        assert program(body) == 2
    assert done == [1]
    reason = os.strerror(number)
    assert capsys.readouterr().err == (
        f"edgefc: cannot write to stdout: {reason}. Redirect it to a file or device that can be written.\n"
    )
    assert program(body) == 0
    assert capsys.readouterr().out == "first\nsecond\n"


def test_a_reader_that_has_gone_changes_nothing(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", Broken(errno.EPIPE))

    assert program(lambda: screen.out("x")) == 0
    assert program(lambda: screen.out("x") or 1) == 1
    assert capsys.readouterr().err == ""


def test_an_error_keeps_its_code_on_a_full_disk(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", Broken(errno.ENOSPC))

    assert program(lambda: screen.out("x") or 3) == 3
    assert "No space left" in capsys.readouterr().err


@pytest.mark.parametrize("stream", [None, Broken(errno.ENOSPC)], ids=["closed", "full"])
def test_a_stderr_that_fails(program: Program, monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    monkeypatch.setattr("sys.stderr", stream)

    assert program(lambda: screen.err("x")) == 0
    assert program(refuse) == 2


def test_outside_of_a_program_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As print() does: a script that shows a record sees the failure."""
    monkeypatch.setattr("sys.stdout", Broken(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        screen.out("x")


# Real descriptors, in processes: what Python itself does at exit shows only there.

DEVICES = [sys.executable, "-m", "edgefc", "devices"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Without this terminal's own settings."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": ROOT, "XDG_CONFIG_HOME": str(folder), **more}


SENTENCE = "edgefc: cannot write to stdout: {}. Redirect it to a file or device that can be written.\n"


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        ("> /dev/full", 2, SENTENCE.format("No space left on device")),
        (">&-", 2, SENTENCE.format("it is closed")),
        ("> /dev/full 2> /dev/full", 2, ""),
        ("2>&- | true", 0, ""),
        ("--help > /dev/full", 2, SENTENCE.format("No space left on device")),
    ],
)
def test_as_a_program(tmp_path: Path, redirected: str, code: int, said: str) -> None:
    """No traceback, no exit code 120, no "Exception ignored". The record is written all the same."""
    command = f"'{sys.executable}' -m edgefc devices --json '{tmp_path / 'd.json'}' {redirected}"

    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, env=environment(tmp_path)
    )

    assert (done.returncode, done.stderr) == (code, said)
    assert "--help" in redirected or json.loads((tmp_path / "d.json").read_text())["profiles"]


def test_a_terminal_that_has_gone(tmp_path: Path) -> None:
    """EIO on stdout and stderr."""
    controller, terminal = pty.openpty()
    os.close(controller)
    done = subprocess.run(DEVICES, stdout=terminal, stderr=terminal, env=environment(tmp_path))
    os.close(terminal)

    assert done.returncode == 2

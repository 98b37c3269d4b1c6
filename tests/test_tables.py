"""Tables on terminals of any width: no number is cut or folded, and columns stand below each other."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edgefc.cli import main
from edgefc.screen import width
from edgefc.tables import print_table, table_lines
from tests.support import onnx_models as models

ROOT = str(Path(__file__).resolve().parents[1])
COLUMNS = ("model", "batch", "threads", "median", "peak memory", "speed vs first (higher is better)")
ROWS = [
    ("dense/model.onnx", "1", "1", "4.05 us", "12.3 MB", "-"),
    ("circulant/model.onnx native=off", "64", "12", "1,234 us", "-", "0.908x [0.902, 0.917]"),
]
NUMBERS = [cell for row in ROWS for cell in row[1:] if cell != "-"]


def on_a_terminal(lines: list[str], columns: int) -> list[str]:
    """The rows of a terminal that folds lines at its edge; for single-width characters."""
    return [line[at : at + columns] for line in lines for at in range(0, max(len(line), 1), columns)]


@pytest.mark.parametrize("room", range(21, 140))
def test_no_number_is_folded(room: int) -> None:
    """Down to the width of the longest number."""
    shown = on_a_terminal(table_lines(COLUMNS, ROWS, keys=3, room=room), room)

    for number in NUMBERS:
        assert any(number in row for row in shown), number


@pytest.mark.parametrize("room", [1, 5, 20, 30, 60, 90, 200, None])
def test_nothing_is_lost(room: int | None) -> None:
    lines = table_lines(COLUMNS, ROWS, keys=3, room=room)

    for cell in (cell for row in ROWS for cell in row):
        assert any(cell in line for line in lines), cell
    for word in " ".join(COLUMNS).split():
        assert any(word in line for line in lines), word
    assert not any("…" in line for line in lines)


def test_a_wide_terminal_gets_one_line_per_row() -> None:
    assert table_lines(COLUMNS, ROWS, keys=3, room=116) == table_lines(COLUMNS, ROWS, keys=3)
    assert table_lines(("a", "b"), [("x", "1"), ("long", "22")]) == ["a      b", "x      1", "long  22"]


def test_a_narrow_one_gets_parts_beside_the_same_keys() -> None:
    assert table_lines(COLUMNS, ROWS, keys=3, room=75) == [
        "                                                              peak",
        "model                            batch  threads    median   memory",
        "dense/model.onnx                     1        1   4.05 us  12.3 MB",
        "circulant/model.onnx native=off     64       12  1,234 us        -",
        "",
        "                                                        speed vs first",
        "model                            batch  threads     (higher is better)",
        "dense/model.onnx                     1        1                      -",
        "circulant/model.onnx native=off     64       12  0.908x [0.902, 0.917]",
    ]


def test_a_very_narrow_one_gets_a_line_per_cell() -> None:
    assert table_lines(("name", "time", ""), [("layer", "1 us", "*"), ("other", "2 us", "")], left=1, room=9) == [
        "name:", "layer", "time: 1 us"[:5], "1 us", "*", "", "name:", "other", "time:", "2 us", "",
    ]  # fmt: skip


def test_words_may_be_wider_than_the_terminal() -> None:
    """The terminal folds them; they do not turn the table into cells."""
    lines = table_lines(("name", "found"), [("a", "long words " * 9)], left=2, room=40)

    assert lines == ["name  found", "a     " + ("long words " * 9).rstrip()]


@pytest.mark.parametrize("name", ["größe", "gro\u0308ße", "層 1", "🙂.onnx", "\u1112\u1161\u11ab", "a\x1b[2Jb", "ﾊ"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_columns_stay_aligned(name: str, encoding: str) -> None:
    lines = table_lines(("layer", "op", "bytes"), [(name, "Gemm", "1"), ("x", "Add", "22")], left=2, encoding=encoding)

    assert {width(line) for line in lines} == {width(lines[0])}
    assert [line.isprintable() and line.encode(encoding) != b"" for line in lines] == [True] * 3
    before = [line[: line.index(op)] for line, op in zip(lines, ("op", "Gemm", "Add"), strict=True)]
    assert len({width(text) for text in before}) == 1


def test_a_table_without_rows() -> None:
    for room in (None, 3, 80):
        assert "".join(table_lines(("a", "b"), [], room=room)) in ("a  b", "")


def test_what_the_environment_says_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """rich cut numbers to 80 columns on dumb terminals, whatever width it was given."""
    print_table(COLUMNS, ROWS)
    plain = capsys.readouterr().out
    for name, value in {
        "TERM": "dumb", "FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "10", "LINES": "0", "TTY_COMPATIBLE": "1",
        "JUPYTER_COLUMNS": "20",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
        print_table(COLUMNS, ROWS)
        assert capsys.readouterr().out == plain


class Terminal:
    """Runs edgefc with a terminal of so many columns as stdout and stderr."""

    def __init__(self, columns: int, **environment: str) -> None:
        self.columns, self.environment = columns, environment

    def __call__(self, *arguments: str) -> str:
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, self.columns, 0, 0))
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ROOT, **self.environment}
        command = [sys.executable, "-m", "edgefc", *arguments]
        process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
        os.close(terminal)
        said = b""
        try:
            while part := os.read(controller, 1 << 16):
                said += part
        except OSError:  # EIO: the program has ended
            pass
        os.close(controller)
        assert process.wait() == 0, said
        return said.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("columns", "environment"),
    [(60, {"TERM": "dumb", "COLUMNS": "abc", "FORCE_COLOR": "1"}), (0, {"TERM": "xterm", "COLUMNS": "10"})],
)
def test_a_real_terminal(tmp_path: Path, columns: int, environment: dict[str, str]) -> None:
    """The terminal's own width counts; 0 means that it is unknown, so lines stay whole. No escape sequences."""
    shown = Terminal(columns, XDG_CONFIG_HOME=str(tmp_path), **environment)("devices")

    lines = shown.split("\n")
    assert "\x1b" not in shown and "…" not in shown
    wide = [line.split()[0] for line in lines if len(line) > 60]
    assert sum(line.startswith("rock-5b ") for line in lines) == (3 if columns else 1)
    assert wide == ["xiaomi-13", "You"] if columns else len(wide) == 15  # words; two lines, or all


ODD = "modèle 層 \x1b[2J.onnx"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A file whose name and layers have characters that few encodings have, and some that terminals obey."""
    nodes = [
        helper.make_node("MatMul", ["x", "größe.weight"], ["y"], name="/größe/MatMul"),
        helper.make_node("MatMul", ["y", "層\x1b[2J.weight"], ["z"], name="/層\x1b[2J/MatMul"),
    ]
    weights = {"größe.weight": np.ones((8, 8), np.float32), "層\x1b[2J.weight": np.ones((8, 4), np.float32)}
    ports = {name: (models.FLOAT, ["n", size]) for name, size in (("x", 8), ("z", 4))}
    return models.write(tmp_path / ODD, nodes, {"x": ports["x"]}, {"z": ports["z"]}, weights)


def test_a_terminal_that_is_not_utf_8(odd: Path) -> None:
    """C's locale, and Python's own mending of it switched off."""
    off = {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "LC_ALL": "C"}

    shown = Terminal(200, **off)("inspect", str(odd))

    assert shown.isascii() and "\x1b" not in shown
    assert shown.startswith(r"mod\udcc3\udca8le \udce5\udcb1\udca4 \x1b[2J.onnx: ")  # C's locale knows no è
    rows = {line.split("  ")[0]: line.split()[-4:-2] for line in shown.split("\n")}
    assert rows[r"gr\xf6\xdfe"] == ["64", "256"] and rows[r"\u5c64\x1b[2J"] == ["32", "128"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_in_any_encoding(odd: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    for command in (["inspect", str(odd)], ["profile", "absent-層.onnx"]):
        streams = {name: io.BytesIO() for name in ("sys.stdout", "sys.stderr")}
        for name, raw in streams.items():
            monkeypatch.setattr(name, io.TextIOWrapper(raw, encoding=encoding))
        assert main(command) == (0 if command[0] == "inspect" else 2)
        said = "".join(raw.getvalue().decode(encoding) for raw in streams.values())
        assert r"\u5c64" in said and "\x1b" not in said and "Traceback" not in said

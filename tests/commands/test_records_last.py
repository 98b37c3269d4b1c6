"""A finding is printed before its record is written: a full disk loses neither, nor does a stdout that fails."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgefc.cli import main
from edgefc.errors import DeviceError, UsageError
from edgefc.runtime import Record
from edgefc.runtime.probes.contracts import Question, SteadyQuestion
from tests.runtime.profiling.test_profile_turns import Recorded, recorded  # noqa: F401  a fixture
from tests.support import onnx_models as models

FULL = "cannot write r.json: No space left on device. Choose a path that can be written."


class Disk:
    """Refuses every record while it is full; counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from edgefc import files
        from edgefc.runtime.profiling import record

        self.full, self.tried, self._write = True, 0, files.write_text
        monkeypatch.setattr(files, "write_text", self.write)
        monkeypatch.setattr(record, "write_text", self.write)

    def write(self, path: Any, text: str) -> None:
        self.tried += 1
        if self.full:
            raise UsageError(FULL.replace("r.json", str(path)))
        self._write(path, text)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    models.matmul(tmp_path / "a.onnx")
    return Disk(monkeypatch)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("inspect a.onnx", "The file has no structured layers"),
        ("devices", "rock-5b"),
        ("devices check local", "onnxruntime"),
        ("estimate a.onnx --device pi5", "latency "),
    ],
)
def test_the_finding_is_there(disk: Disk, capsys: pytest.CaptureFixture[str], command: str, said: str) -> None:
    code = main([*command.split(), "--json", "r.json"])

    out, err = capsys.readouterr()
    assert code == 2 and said in out
    assert err == f"edgefc {command.split()[0]}: {FULL}\n"


def test_profile_goes_on_when_the_disk_is_full(
    recorded: Recorded,  # noqa: F811
    disk: Disk,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Told once, tried after every batch size, and the table has every row."""
    code = main(["profile", "a.onnx", "--batch", "1,2,3", "--time", "0.01", "--json", "r.json"])

    out, err = capsys.readouterr()
    assert (code, disk.tried) == (2, 4)
    assert sum(line.startswith("a.onnx ") for line in out.splitlines()) == 3
    assert err == f"edgefc: {FULL} The measurement continues.\nedgefc profile: {FULL}\n"


def test_profile_when_there_is_room_again(
    recorded: Recorded,  # noqa: F811
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("edgefc.runtime.profiling.table.show", lambda *_: setattr(disk, "full", False))

    code = main(["profile", "a.onnx", "--batch", "1,2", "--time", "0.01", "--json", "r.json"])

    assert code == 0 and Record.read("r.json").unfinished is None
    assert capsys.readouterr().err == f"edgefc: {FULL} The measurement continues.\n"


def test_profile_that_fails_keeps_its_own_error(
    recorded: Recorded,  # noqa: F811
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ask = recorded.ask

    def lost(question: Question[Any], **said: Any) -> Any:
        if isinstance(question, SteadyQuestion) and question.wanted.batch == 3:
            raise DeviceError("pi was lost.")
        return ask(question, **said)

    monkeypatch.setattr(recorded, "ask", lost)

    code = main(["profile", "a.onnx", "--batch", "1,3", "--time", "0.01", "--json", "r.json"])

    out, err = capsys.readouterr()
    assert code == 3 and "unfinished, rows are missing: pi was lost." in out
    assert err.splitlines()[-2:] == [f"edgefc profile: {FULL}", "edgefc profile: pi was lost."]


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("command", ["profile a.onnx --time 0.01", "inspect a.onnx", "devices", "devices check local"])
def test_a_stdout_that_fails_loses_no_record(
    recorded: Recorded,  # noqa: F811
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    disk.full = False
    monkeypatch.setattr("sys.stdout", Full())

    code = main([*command.split(), "--json", "r.json"])

    assert code == 2 and Path("r.json").stat().st_size > 100
    assert capsys.readouterr().err.startswith("edgefc: cannot write to stdout: No space left on device.")


def written(order: list[str], name: str) -> Callable[..., None]:
    return lambda *_, **__: order.append(name)


def test_bench_draws_the_map_when_the_record_cannot_be_written(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgefc.bench import measure, picture, table
    from edgefc.bench.record import BenchRecord

    order: list[str] = []
    monkeypatch.setattr(measure, "bench", lambda *_, **__: BenchRecord.model_construct())
    monkeypatch.setattr(BenchRecord, "write", lambda _self, path: disk.write(path, ""))
    monkeypatch.setattr(table, "show", written(order, "table"))
    monkeypatch.setattr(picture, "draw", written(order, "map"))

    code = main(["bench", "--json", "r.json", "--plot", "m.svg"])

    assert (code, order) == (2, ["table", "map"])
    assert capsys.readouterr().err == f"edgefc bench: {FULL}\n"

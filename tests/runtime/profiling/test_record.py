"""The record's file format, on a small record that a real profile wrote."""

import getpass
import json
import platform
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edgefc.errors import UsageError
from edgefc.runtime import Record, Report, profile
from edgefc.runtime.probes import machine
from tests.support import onnx_models as models


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    path = models.matmul(tmp_path_factory.mktemp("secret-folder") / "m.onnx")
    return profile(path, min_time_s=0.01, launches=1, processes=1, memory=False)


def test_reading_gives_what_was_written(record: Record, tmp_path: Path) -> None:
    record.write(tmp_path / "r.json")

    assert Record.read(tmp_path / "r.json") == record


def test_both_types_of_files_are_read_as_both(record: Record, tmp_path: Path) -> None:
    """edgefc profile --json wrote a record for one device before version 0.2, and writes a report since."""
    report = Report.from_records(record)
    record.write(tmp_path / "record.json")
    report.write(tmp_path / "report.json")

    for name in ("record.json", "report.json"):
        assert Record.read(tmp_path / name) == record
        assert Report.read(tmp_path / name) == report


def test_a_record_names_no_machine_user_or_folder(record: Record) -> None:
    text = record.to_json()

    assert "secret-folder" not in text and "/tmp" not in text and '"/' not in text
    for private in (platform.node(), getpass.getuser()):
        assert f'"{private}"' not in text


def test_what_is_null_has_a_reason(record: Record) -> None:
    facts = record.environment.model_dump()

    assert {name for name, value in facts.items() if value is None} == set(record.environment.missing)
    assert record.cells[0].memory is None and record.cells[0].memory_missing == "not requested"


def test_a_machine_without_proc_is_described_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: Path, *_: object, **__: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", unreadable)
    found = machine.environment()

    assert found["cpu"] is None and found["governor"] is None
    assert {"cpu", "features", "governor", "frequency_hz"} <= set(found["missing"])


def test_an_emulated_cpu_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """qemu-user shows an aarch64 program the host's x86 /proc/cpuinfo."""
    monkeypatch.setattr(machine.sysfs, "cpuinfo", lambda: {"vendor_id": "AuthenticAMD", "flags": "avx2"})
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    assert machine.environment()["emulated"] is True


def test_a_record_cannot_be_changed(record: Record) -> None:
    with pytest.raises(ValidationError):
        record.cells = ()  # type: ignore[misc]


def test_there_is_a_json_schema() -> None:
    assert set(Record.model_json_schema()["required"]) == set(Record.model_fields)


def changed(record: Record, **values: object) -> str:
    return json.dumps({**json.loads(record.to_json()), **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"schema_version": 6}, "its schema_version is not 5", id="newer"),
        pytest.param({"remark": "mine"}, "remark: Extra inputs are not permitted", id="extra key"),
        pytest.param({"models": [{"name": "m"}]}, r"models\.0\.file_bytes: Field required", id="missing key"),
        pytest.param({"speeds": "none"}, "speeds: Input should be a valid", id="wrong type"),
    ],
)
def test_other_files_are_refused(record: Record, tmp_path: Path, values: dict[str, object], message: str) -> None:
    (tmp_path / "r.json").write_text(changed(record, **values))

    with pytest.raises(UsageError, match=rf"r\.json: {message}"):
        Record.read(tmp_path / "r.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 5000], ids=range(4))
def test_bytes_that_are_no_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.json").write_bytes(content)

    with pytest.raises(UsageError, match=r"cannot read .*r\.json"):
        Record.read(tmp_path / "r.json")


def fourth(record: Record) -> dict[str, Any]:
    """The record as version 4 had it."""
    old = json.loads(record.to_json())
    old["config"]["activations"] = old["config"].pop("activation_dtype")
    for cell in old["cells"]:
        cell["doubts"] = cell.pop("warnings")
        cell["native"] = cell.pop("native_variant")
    return {**old, "schema_version": 4}


def third(record: Record, ratios: list[Any]) -> dict[str, Any]:
    """The record as version 3 had it."""
    old = fourth(record)
    del old["speeds"], old["config"]["shapes"], old["config"]["ranges"]
    for cell in old["cells"]:
        del cell["inputs"], cell["not_compared"]
    return {**old, "schema_version": 3, "ratios": ratios}


SLOWER = {"model": 0, "threads": 1, "batch": 1, "median": 4.0, "low": 2.0, "high": 8.0}


def test_a_record_of_version_3_is_converted(record: Record, tmp_path: Path) -> None:
    """Four times the first model's time is a quarter of its speed; alone, and in a report."""
    old = third(record, [SLOWER, {**SLOWER, "low": None, "high": None}])
    (tmp_path / "r.json").write_text(json.dumps(old))
    (tmp_path / "s.json").write_text(json.dumps({"schema_version": 3, "records": [old], "failures": []}))

    found = Record.read(tmp_path / "r.json")

    assert [(speed.low, speed.median, speed.high) for speed in found.speeds] == [(0.125, 0.25, 0.5), (None, 0.25, None)]
    assert found.cells[0].inputs is None
    assert found.model_copy(update={"speeds": (), "cells": record.cells}) == record
    assert Report.read(tmp_path / "s.json").records == (found,)


def test_a_record_of_version_4_is_converted(record: Record, tmp_path: Path) -> None:
    old = fourth(record)
    old["config"]["model_settings"] = [{"activations": "int8"}]
    (tmp_path / "r.json").write_text(json.dumps(old))
    (tmp_path / "s.json").write_text(json.dumps({"schema_version": 4, "records": [old], "failures": []}))

    found = Record.read(tmp_path / "r.json")

    assert found.config.model_settings == ({"activation_dtype": "int8"},)
    config = found.config.model_copy(update={"model_settings": record.config.model_settings})
    assert found.model_copy(update={"config": config}) == record
    assert Report.read(tmp_path / "s.json").records == (found,)


@pytest.mark.parametrize("ratio", [{**SLOWER, "median": 0}, {**SLOWER, "median": "4"}, {}, 5, None])
def test_a_broken_record_of_version_3_is_no_record(record: Record, tmp_path: Path, ratio: Any) -> None:
    (tmp_path / "r.json").write_text(json.dumps(third(record, [ratio])))

    with pytest.raises(UsageError, match=r"cannot read .*r\.json"):
        Record.read(tmp_path / "r.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        Record.read(tmp_path / "r.json")

"""Numbers beyond every range, on the command line and in files: one sentence each, and never a traceback."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from edgefc.cli import main
from edgefc.commands.profile import shape, values
from edgefc.devices import inventory
from edgefc.devices.profiles import profile
from edgefc.errors import EdgefcError, UsageError
from edgefc.options import count, counts, seconds, seeds, whole
from edgefc.runtime import Record, Report
from tests.support import onnx_models

TEXTS = ["", "１", "\x1b[31m", "a" * 5000]
REALS = ["1e400", "nan", "inf", "-inf", "9" * 5000, "0x10", "1_0", "1,nan", *TEXTS]
WHOLE = ["99999999999999999999", "-9223372036854775809", "1.5", *REALS]
COUNTS = ["0", "-1", "1,", *WHOLE]

OPTIONS: list[tuple[list[str], list[str]]] = [
    (["profile", "{m}", "--batch={v}"], COUNTS),
    (["profile", "{m}", "--threads={v}"], COUNTS),
    (["profile", "{m}", "--time={v}"], ["0", "-1", "3601", *REALS]),
    (["profile", "{m}", "--shape=x={v}x8"], COUNTS),
    (["profile", "{m}", "--range=x={v}:{v}"], REALS),
    (["estimate", "{m}", "--device=pi5", "--batch={v}"], COUNTS),
    (["estimate", "{m}", "--device=pi5", "--threads={v}"], COUNTS),
    (["export", "tests.attack.sources:small", "-o", "{f}/n.onnx", "--opset={v}"], COUNTS),
    (["export", "tests.attack.sources:small", "-o", "{f}/n.onnx", "--dynamic", "input:{v}=b"], WHOLE),
    (["export", "tests.attack.sources:small", "-o", "{f}/n.onnx", "--input={v}x8"], WHOLE),
    (["bench", "--n={v}", "--layers=none"], COUNTS),
    (["bench", "--m={v}", "--layers=none"], COUNTS),
    (["bench", "--batch={v}", "--layers=none"], COUNTS),
    (["bench", "--threads={v}", "--layers=none"], COUNTS),
    (["bench", "--time={v}", "--layers=none"], ["0", "-1", "3601", *REALS]),
    (["recipe", "none", "--seeds={v}"], COUNTS),
    (["devices", "serve", "none.onnx", "--port={v}"], WHOLE),
    (["devices", "add", "x", "--ssh={v}"], TEXTS),
    (["devices", "add", "x", "--profile={v}", "--ssh=y"], TEXTS),
]


@pytest.mark.parametrize(("option", "refused"), OPTIONS, ids=[" ".join(option) for option, _ in OPTIONS])
def test_options(
    option: list[str], refused: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """Exit code 2 and one short sentence; nothing is measured, written or trained."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    model = onnx_models.matmul(tmp_path / "m.onnx", batch=1)
    for value in refused:
        try:
            code: Any = main([part.format(m=model, f=tmp_path, v=value) for part in option])
        except SystemExit as error:
            code = error.code
        said = capsys.readouterr().err.strip().rpartition("\n")[2]

        assert code == 2, (value[:40], code)
        assert said.startswith("edgefc ")
        assert "invalid" not in said
        assert len(said) < 500, said
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.onnx"]


@given(some.text(max_size=30) | some.integers().map(str) | some.floats().map(str))
def test_readers_of_options(text: str) -> None:
    """Each gives a value within its range, or its own error."""
    import argparse

    for read in (whole, count, counts, seconds, seeds):
        try:
            found: Any = read(text)
        except argparse.ArgumentTypeError as error:
            assert str(error).endswith(".") and len(str(error)) < 300  # noqa: PT017
        else:
            each = found if isinstance(found, tuple) else (found,)
            assert all(-(2**63) <= number < 2**63 and math.isfinite(number) for number in each)
            assert read is whole or min(each) > 0


@given(some.integers())
def test_whole_numbers_are_read_exactly(given_number: int) -> None:
    if 1 <= given_number < 2**63:
        assert count(str(given_number)) == whole(str(given_number)) == given_number
        assert shape(f"x={given_number}x?") == ("x", (given_number, None))
        assert values(f"x=-{given_number}:{given_number}") == ("x", (-given_number, given_number))


TOML = [
    "x = " + "9" * 5000, "x = 0x" + "f" * 5000, "x = " + "[" * 5000, "x = 1e400", "x = nan", "x = 9999-99-99",
    "x = 1979-05-27T07:32:00+99:99", "x = \"\\ud800\"", "x = 1\nx = 2", "\ufeffx = 1", "= 1", "x.x.x = {}", "[x",
    "[devices.kitchen]\nprofile = 1979-05-27\ntransport = 'ssh'\naddress = 'y'",
    "[devices.kitchen]\ntransport = nan\naddress = inf",
    "[devices.kitchen]\ntransport = 'ssh'\naddress = 99999999999999999999999999",
    "[devices.kitchen]\ntransport = 'ssh'\naddress = '" + "a" * 5000 + "'",
    "[devices." + "k" * 5000 + "]\ntransport = 'ssh'\naddress = 'y'",
    "devices = 7", "devices = []", "[[devices]]",
]  # fmt: skip


@pytest.mark.parametrize("text", TOML, ids=range(len(TOML)))
def test_toml(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    inventory.path().parent.mkdir()
    inventory.path().write_text(text, encoding="utf-8", errors="surrogatepass")

    with pytest.raises(UsageError, match=r"cannot (read|use) .*devices\.toml: ") as caught:
        inventory.devices()

    assert len(str(caught.value)) < 600 + len(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe[\0x\0]\0", "x = 1".encode("utf-16"), b"\0", b"x = '\x80'"])
def test_toml_of_other_encodings(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(content)

    with pytest.raises(UsageError, match="it is not valid TOML"):
        profile.read_toml(path)


@given(some.text(max_size=60))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_as_a_profile(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8", errors="replace")

    with pytest.raises(UsageError):
        profile.read(path)


DIGITS = b"9" * 5000
RECORDS = [
    b"", b"{", b"null", b"[]", b"7", b"NaN", b'{"schema_version": ' + DIGITS + b"}", b'{"schema_version": 1e400}',
    b'{"schema_version": 4, "schema_version": 3}', b"[" * 100_000, b'{"a":' * 50_000, b"\0" * 100,
    b'\xef\xbb\xbf{"schema_version": 4}', '{"schema_version": 4}'.encode("utf-16"), b'{"records": ' + b"[" * 20_000,
    b'{"ratios": [], "schema_version": 3}', b'{"records": ' + DIGITS + b"}",
    b'{"ratios": [{"median": 0}], "schema_version": 3, "cells": [7]}',
]  # fmt: skip


@pytest.mark.parametrize("content", RECORDS, ids=range(len(RECORDS)))
@pytest.mark.parametrize("form", [Record, Report])
def test_records(form: Any, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)

    with pytest.raises(UsageError, match=r"cannot read .*record\.json: .* Name a record of edgefc profile\.") as caught:
        form.read(path)

    assert len(str(caught.value)) < 400 + len(str(path))


VALUES = [math.nan, math.inf, 2**70, -1, "x", None, [], {}, "9" * 5000, 1e400]


@pytest.mark.slow
def test_every_number_of_a_record(tmp_path: Path, a_record: dict[str, Any]) -> None:
    """A record with one value replaced is refused, or is a record: whatever else, it raises no other error."""
    path = tmp_path / "record.json"
    places = list(_places(a_record))
    for index, where in enumerate(places):
        changed = json.loads(json.dumps(a_record))
        part: Any = changed
        for key in where[:-1]:
            part = part[key]
        part[where[-1]] = VALUES[index % len(VALUES)]
        path.write_text(json.dumps(changed))
        try:
            Record.read(path)
        except EdgefcError as error:
            assert "cannot read" in str(error)  # noqa: PT017


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, part in items:
        yield (key,)
        yield from ((key, *rest) for rest in _places(part))


@pytest.fixture(scope="module")
def a_record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from edgefc.runtime import profile as measure

    folder = tmp_path_factory.mktemp("record")
    record = measure(
        onnx_models.matmul(folder / "m.onnx"), min_time_s=0.001, processes=1, rounds=1, launches=1, memory=False
    )
    found: dict[str, Any] = json.loads(record.to_json())
    return found

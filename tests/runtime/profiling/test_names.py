"""Model files with the same name are distinguished by their folders."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefc.runtime import Model, Record, profile
from edgefc.runtime.profiling.names import distinct, numbered, plain
from edgefc.runtime.profiling.table import show
from tests.runtime.profiling.test_profile_turns import Recorded, recorded  # noqa: F401  a fixture
from tests.support import onnx_models as models


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/home/me/a.onnx", "b.onnx"], ["a.onnx", "b.onnx"]),
        (["dense/model.onnx", "circulant/model.onnx"], ["dense/model.onnx", "circulant/model.onnx"]),
        (["/h/dense/model.onnx", "/h/circulant/model.onnx"], ["dense/model.onnx", "circulant/model.onnx"]),
        (["/h/x/1/m.onnx", "/h/y/1/m.onnx", "/h/2/m.onnx"], ["x/1/m.onnx", "y/1/m.onnx", "2/m.onnx"]),
        (["m.onnx", "old/m.onnx", "c.onnx"], ["m.onnx", "old/m.onnx", "c.onnx"]),
        (["m.onnx", "./m.onnx", "old/m.onnx"], ["m.onnx", "m.onnx", "old/m.onnx"]),
        (["n\udcff/m.onnx", "m/m.onnx"], [r"n\udcff/m.onnx", "m/m.onnx"]),
    ],
)
def test_as_many_folders_as_are_needed(paths: list[str], names: list[str]) -> None:
    assert distinct(paths) == names


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join), min_size=1, max_size=5))
def test_other_paths_have_other_names(paths: list[str]) -> None:
    names = distinct(paths)

    assert all(path == name or path.endswith(f"/{name}") for path, name in zip(paths, names, strict=True))
    assert len(set(names)) == len(set(paths))
    assert len(set(numbered(names))) == len(paths)


@pytest.fixture
def folders(recorded: Recorded, tmp_path: Path) -> list[Path]:  # noqa: F811
    """Two files with the same name, in a folder that the record must not contain."""
    for folder in ("secret/dense", "secret/circulant"):
        (tmp_path / folder).mkdir(parents=True)
        models.matmul(tmp_path / folder / "a.onnx")
    return [tmp_path / "secret/dense/a.onnx", tmp_path / "secret/circulant/a.onnx"]


def test_they_are_told_apart_wherever_they_are_named(
    folders: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In the table, the warnings and the legend; also of a record that is read later."""
    profile(folders).write(tmp_path / "r.json")
    record = Record.read(tmp_path / "r.json")
    cells = [cell.model_copy(update={"warnings": ("odd",), "native_variant": "avx2"}) for cell in record.cells]

    show(record.model_copy(update={"cells": tuple(cells)}))

    out = capsys.readouterr().out
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["dense/a.onnx*", "circulant/a.onnx*"]
    assert "* circulant/a.onnx, batch 1, 1 thread: odd" in lines
    assert "native kernels (avx2) were loaded with circulant/a.onnx, dense/a.onnx" in lines
    assert "speed vs first: the time of dense/a.onnx divided by the model's" in out
    assert "secret" not in out and "secret" not in (tmp_path / "r.json").read_text()


def test_one_file_twice(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """By its settings, and by a number where they are the same."""
    show(profile(["a.onnx", Model("a.onnx", native="off"), "a.onnx"]))

    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == ["a.onnx", "a.onnx native=off", "a.onnx (2)"]


def test_names_that_are_no_utf_8(recorded: Recorded, tmp_path: Path) -> None:  # noqa: F811
    """A record is JSON, which has no room for such bytes."""
    os.mkdir(b"x\xff")
    os.mkdir(b"x\xfe")
    paths = [os.fsdecode(name) for name in (b"x\xff/a.onnx", b"x\xfe/a.onnx")]
    for path in paths:
        models.matmul(Path(path))

    record = profile(paths)
    record.write("r.json")

    assert Record.read("r.json") == record
    assert [file.name for file in record.models] == [r"x\udcff/a.onnx", r"x\udcfe/a.onnx"]
    assert plain("größe 層") == "größe 層"

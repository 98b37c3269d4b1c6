"""The list of every layer: complete, and its page in step with the code."""

import json
from pathlib import Path

import pytest

import edgefc
from edgefc.catalogue import entries
from edgefc.catalogue.page import markdown
from edgefc.catalogue.rows import COLUMNS, cells, rows
from edgefc.cli import main
from edgefc.export.registry import operators
from edgefc.recipes.registry import recipes
from tests.support.json_schema import assert_valid

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "edgefc/catalogue/README.md").read_text(encoding="utf-8")


def test_every_public_layer_has_an_entry() -> None:
    classes = {type(entry.make(12)).__name__ for entry in entries()}
    assert classes == {name for name in edgefc.__all__ if name[:1].isupper()}


def test_names_differ() -> None:
    names = [entry.name for entry in entries()]
    assert len(set(names)) == len(names)


def test_recipes_of_entries_exist() -> None:
    """And every recipe belongs to an entry, but for those of whole models."""
    others = {"mnist-cnn", "mnist-vit", "mnist-choices", "text-gpt"}
    assert {entry.recipe for entry in entries() if entry.recipe} == set(recipes()) - others


def test_the_page_shows_every_entry_and_every_op() -> None:
    shown = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.splitlines() if line.startswith("| ")]
    assert shown[2:] == [entry.name for entry in entries()]
    assert [name for name in operators() if name not in PAGE] == []


@pytest.mark.slow
def test_the_page_is_what_the_command_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the versions that constraints.txt pins: bytes of files move with those of torch and onnx."""
    assert main(["layers", "--markdown", str(tmp_path / "page.md"), "--json", str(tmp_path / "rows.json")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == PAGE
    assert_valid(tmp_path / "rows.json", "layers")
    told = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert [row["layer"] for row in told] == [entry.name for entry in entries()]
    assert "TiedFFN" in capsys.readouterr().out


def test_a_row_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A circulant of 768: 768 numbers and a bias, where the dense layer has 768 times as many and a bias."""
    circulant = [entry for entry in entries() if entry.name == "CirculantLinear"]
    monkeypatch.setattr("edgefc.catalogue.rows.entries", lambda: circulant)
    (row,) = rows()
    assert (row.numbers, row.dense_numbers) == (1536, 768 * 769)
    assert row.dense_multiply_adds == 768 * 768 > row.multiply_adds
    assert row.state_bytes == 4 * 1536 + 8 + 128 < row.file_bytes < 30_000  # with the seed and the configuration
    assert row.ops == ("CirculantLinear",)
    assert len(cells(row)) == len(COLUMNS)
    assert "| CirculantLinear | " in markdown([row])

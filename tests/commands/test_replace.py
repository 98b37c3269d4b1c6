"""edgefc replace: from a plan and a factory to a folder, and from there to an .onnx file."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import edgefc
from edgefc.cli import main
from edgefc.plan import Int4, LowRank
from edgefc.replacing.calibration import read_batches
from tests.support import compress_models as models
from tests.support.json_schema import assert_valid

BERT, MLP = "tests.support.replace_sources:bert", "tests.support.replace_sources:mlp"
PLAN = """
[[rules]]
match = "embeddings.word*"
to = { kind = "Int8", group = 32 }

[[rules]]
match = "encoder.*"
type = "Linear"
to = "Int4"

[[rules]]
type = "Embedding"
to = "Circulant"
"""


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    batches = models.token_batches(12)
    path = tmp_path / "data.npz"
    np.savez(path, **{name: np.concatenate([each[name].numpy() for each in batches]) for name in batches[0]})
    return str(path)


def test_report_and_folder(plan: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, record = tmp_path / "small", tmp_path / "report.json"
    assert main(["replace", BERT, "--plan", plan, "--calibration", data, "-o", str(folder), "--json", str(record)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"encoder.layer.0.attention.self.query +Linear 32 to 32 +Int4 +1,056 ", text)
    assert "stays: embeddings.position_embeddings: Circulant replaces linear layers, convolutions and LSTMs" in text
    assert "output last_hidden_state: relative error" in text
    assert "on held-out samples" in text
    assert_valid(record, "replace")
    written = json.loads(record.read_text())
    assert [step["name"] for step in written["steps"]][:2] == ["run the model", "read calibration data"]
    assert len([layer for layer in written["layers"] if layer["after"]]) == 13
    loaded = edgefc.load(folder, models.bert)
    assert type(loaded.encoder.layer[0].output.dense).__name__ == "QuantizedLinear"


def test_folder_is_exported_and_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = tmp_path / "small", tmp_path / "small.onnx"
    model = models.mlp()
    edgefc.replace(model, {"0": Int4(), "2": LowRank()}, calibration=models.batches(3))
    edgefc.save(model, folder)
    assert main(["export", MLP, "--weights", str(folder), "-o", str(file)]) == 0
    text = capsys.readouterr().out
    assert "structured layers  3 (0.rotation" in text
    assert main(["verify", str(file), MLP, "--weights", str(folder)]) == 0


def test_dry_run_writes_nothing(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    assert main(["replace", BERT, "--plan", plan, "--dry-run", "--all"]) == 0
    text = capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before
    assert "output error" not in text
    assert "model: " in text


def test_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"rules": [{"to": {"kind": "Circulant", "block": 8}}]}')
    assert main(["replace", MLP, "--plan", str(plan), "--new", "-o", str(tmp_path / "new")]) == 0
    assert isinstance(edgefc.load(tmp_path / "new", models.mlp)[0], edgefc.CirculantLinear)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"input": np.zeros((3, 32), np.float32), "other": np.zeros((3, 1))}, "has the array 'other', which the model"),
        ({"input": np.zeros((0, 32))}, "an array without samples"),
        ({"input": np.array(["a"])}, "Save real numbers"),
        ({"input": np.array([{}], dtype=object)}, "Object arrays cannot be loaded"),
        ({"input": np.zeros((3, 32))}, "the model does not run on the data"),
        ({}, "have no arrays"),
    ],
)
def test_wrong_calibration(
    arrays: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, data = tmp_path / "plan.json", tmp_path / "data.npz"
    plan.write_text('{"rules": [{"to": "Int8"}]}')
    np.savez(data, **arrays)
    words = ["replace", MLP, "--plan", str(plan), "--calibration", str(data), "-o", str(tmp_path / "out")]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_words(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    for words, message in (
        (["--plan", plan], "no output. Give -o FOLDER"),
        (["--plan", plan, "--new", "--calibration", "x.npz", "-o", out], "--new reads no calibration data"),
        (["--plan", plan, "-o", out, "--calibration", str(tmp_path / "no.npz")], "cannot read"),
        (["--plan", plan, "-o", out + ".onnx"], "the output for a torch model is a folder"),
        (["--plan", str(tmp_path / "no.toml"), "-o", out], "cannot read the plan"),
    ):
        assert main(["replace", BERT, *words]) == 2
        assert message in capsys.readouterr().err
    assert main(["replace", "m.onnx", "--plan", plan, "-o", "n.onnx", "--new"]) == 2
    assert "--new needs a torch model" in capsys.readouterr().err


def test_memory_that_torch_cannot_allocate(
    plan: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes. Error code 12")

    monkeypatch.setattr("edgefc.replacing.replacing.preview", failing)
    assert main(["replace", BERT, "--plan", plan, "--dry-run"]) == 2
    assert "edgefc replace: Unable to allocate 99 bytes. Close other programs" in capsys.readouterr().err


def test_existing_output_needs_force(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "plan.json").write_text("{}")
    assert main(["replace", BERT, "--plan", plan, "-o", str(tmp_path / "small")]) == 2
    assert "plan.json exists" in capsys.readouterr().err


def test_schema_of_plans(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "plan"]) == 0
    assert json.loads(capsys.readouterr().out)["$defs"]["Int4"]["properties"]["group"]["maximum"] == 256


def test_positional_npz(tmp_path: Path) -> None:
    """An nn.Sequential takes `input`."""
    plan, data = tmp_path / "plan.json", tmp_path / "data.npz"
    plan.write_text('{"rules": [{"to": "LowRank"}]}')
    np.savez(data, input=torch.cat(models.batches(5)).numpy())
    assert main(["replace", MLP, "--plan", str(plan), "--calibration", str(data), "-o", str(tmp_path / "s")]) == 0


def test_onnx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, data, record = tmp_path / "plan.json", tmp_path / "data.npz", tmp_path / "report.json"
    source, output = tmp_path / "m.onnx", tmp_path / "small.onnx"
    assert main(["export", MLP, "-o", str(source)]) == 0
    plan.write_text('{"rules": [{"to": "Int8"}]}')
    x = torch.cat(models.batches(5)).flatten(0, 1).numpy()
    np.savez(data, input=x)
    words = ["replace", str(source), "--plan", str(plan), "--calibration", str(data), "-o", str(output)]
    assert main([*words, "--json", str(record)]) == 0
    assert "2 of 2 weights replaced" in capsys.readouterr().out
    assert_valid(record, "replace onnx")
    assert output.stat().st_size < source.stat().st_size


def test_padding_that_all_samples_share_changes_nothing(tmp_path: Path) -> None:
    """Longer padding leaves statistics, fits and the comparison of the outputs as they are."""
    plan = tmp_path / "plan.json"
    plan.write_text('{"rules": [{"match": "encoder.*", "to": "Int4"}]}')
    mask = np.arange(8) < np.arange(16)[:, None] % 5 + 2
    ids = np.random.default_rng(0).integers(0, 60, mask.shape)
    reports = []
    for width, filled in ((6, 0), (8, 3)):
        np.savez(
            tmp_path / "data.npz", input_ids=np.where(mask, ids, filled)[:, :width], attention_mask=mask[:, :width]
        )
        words = ["--plan", str(plan), "--calibration", str(tmp_path / "data.npz"), "-o", str(tmp_path / "small")]
        assert main(["replace", BERT, *words, "--json", str(tmp_path / "report.json"), "--force"]) == 0
        reports.append(json.loads((tmp_path / "report.json").read_text()))
    short, long = reports
    assert long["outputs"][0]["samples"] == short["outputs"][0]["samples"] == mask[8:].sum()
    assert long["outputs"][0]["error"] == pytest.approx(short["outputs"][0]["error"], rel=1e-3)
    for one, other in zip(short["layers"], long["layers"], strict=True):
        assert other["error"] == pytest.approx(one["error"], rel=1e-3)
    batches = read_batches(tmp_path / "data.npz", models.bert())
    assert batches[0]["input_ids"].shape == (8, 6)

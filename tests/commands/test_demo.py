"""edgefc demo: end to end on a tiny recipe. No timing is asserted. The harness has tests of its own."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from edgefc.cli import main
from edgefc.demo import run
from edgefc.recipes import data, digits_mlp, harness
from edgefc.recipes.recipe import TUNING_SEEDS, Job
from edgefc.recipes.results import Results
from edgefc.runtime import Record

QUICK = {"min_time_s": 0.02, "processes": 1, "launches": 1}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits_mlp, "WIDTH", 32)
    monkeypatch.setattr(digits_mlp, "STEPS", 2)
    monkeypatch.setattr(run, "MEASURING", QUICK)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_one_command_leaves_everything_and_the_last_line_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All files, both tables, results that can be read back, and the verify command that is printed."""
    folder = tmp_path / "a demo"

    assert main(["demo", "-o", str(folder), "--seeds", "1"]) == 0

    out = capsys.readouterr().out
    results = Results.model_validate_json((folder / "summary.json").read_text())
    record = Record.read(folder / "record.json")
    assert [arm.name for arm in results.arms] == ["dense", "circulant", "prp"]
    assert [model.name for model in record.models] == [f"{file.name}.onnx" for file in run.FILES]
    assert [(cell.batch, cell.threads) for cell in record.cells] == [(1, 1)] * 4 + [(64, 1)] * 4
    assert {cell.native_variant for cell in record.cells} == {None}
    assert all(model.file_bytes == (folder / model.name).stat().st_size for model in record.models)
    costs = (folder / "costs.md").read_text()
    assert all(f"- {model.name} against dense.onnx: " in costs for model in record.models[1:])
    assert all(line.removeprefix("- ") in out for line in costs.splitlines())
    table = (folder / "table.md").read_text()
    assert all(sentence in out and sentence in table for sentence in results.sentences)
    assert all(f"{arm.parameters:,}" in out for arm in results.arms)
    assert str(tmp_path) not in (folder / "summary.json").read_text() + table + costs
    weights = folder / "circulant.safetensors"
    command = out.splitlines()[-1]
    assert command.startswith("To verify a file again: edgefc verify ") and str(weights) in command
    assert main(["verify", str(folder / "circulant.onnx"), "edgefc.recipes.digits_mlp:circulant",
                 "--weights", str(weights)]) == 0  # fmt: skip


def test_numbers_are_those_of_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    """n + 2 m for PRP, max(n, m) + m for one circulant, n m + m for dense; and the dense last layer."""
    monkeypatch.setattr(digits_mlp, "WIDTH", w := 48)
    count = {
        arm.name: sum(parameter.numel() for parameter in arm.build(0).parameters())
        for arm in digits_mlp.arms(data.digits())
    }

    head = w * 10 + 10
    assert count["dense"] == 64 * w + w + w * w + w + head
    assert count["circulant"] == 64 + w + w + w + head
    assert count["prp"] == 64 + 2 * w + w + 2 * w + head


@pytest.mark.usefixtures("tiny")
def test_stopped_midway_it_exits_130_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "_training", stop_at_third(harness._training))

    assert main(["demo", "-o", str(tmp_path / "d"), "--seeds", "1"]) == 130
    assert "2 trainings are kept" in capsys.readouterr().err
    assert not list((tmp_path / "d").glob("*.onnx"))
    assert {path.stem for path in (tmp_path / "d").glob("*.safetensors")} == {"dense", "circulant"}


def stop_at_third(training):  # type: ignore[no-untyped-def]
    calls: list[object] = []

    def stopped(*given: object) -> object:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return training(*given)

    return stopped


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.md").write_text("mine")

    assert main(["demo", "-o", str(tmp_path)]) == 2
    assert "edgefc demo" in capsys.readouterr().err.partition(str(tmp_path))[2]
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.md"]


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
    assert "positive integer" in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo_as_shipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two to five minutes: accuracies as the README may state them."""
    assert main(["demo", "-o", str(tmp_path / "d")]) == 0
    results = Results.model_validate_json((tmp_path / "d" / "summary.json").read_text())
    with capsys.disabled():
        print(f"\ntraining took {results.seconds:.0f} s\n{capsys.readouterr().out}")
    assert min(results.arm("dense").values) >= 96
    assert min(results.arm("circulant").values + results.arm("prp").values) >= 95


@pytest.mark.slow
def test_a_rate_is_that_of_the_rule() -> None:
    """The best mean on the tuning seeds, of equal ones the smaller. One arm: each takes half a minute."""
    recipe, images = digits_mlp.RECIPE, data.digits()
    found = {}
    for arm in [arm for arm in recipe.arms(images) if arm.name == "circulant"]:
        mean: dict[float, float] = {}
        for rate in recipe.rates:
            for seed in TUNING_SEEDS:
                with harness.repeatable(seed):
                    value = recipe.train(arm.build(seed), Job(arm.name, seed, rate, images, True, False))
                mean[rate] = mean.get(rate, 0.0) + float(value) / len(TUNING_SEEDS)  # type: ignore[arg-type]
        found[arm.name] = max(mean, key=lambda rate: (mean[rate], -rate))
        print(arm.name, mean)
    assert found == {"circulant": digits_mlp.RATES["circulant"]}

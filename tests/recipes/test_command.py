"""The recipes that there are, what was published of them, and the command edgefc recipe."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

from edgefc.cli import main
from edgefc.recipes.findings import sentences
from edgefc.recipes.measured import measured, summary
from edgefc.recipes.registry import recipe, recipes
from edgefc.recipes.results import Results
from tests.recipes import training
from tests.recipes.page import page
from tests.recipes.test_data import write_mnist

ROOT = Path(__file__).resolve().parents[2]
WAITING = {"mnist-cnn", "mnist-vit", "mnist-choices", "text-gpt"}
"""The recipes without published results."""


def test_there_are_recipes() -> None:
    assert {"circulant-mlp", "prp-autoencoder"} <= set(recipes())


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_is_whole(name: str) -> None:
    """Named like its file, at least three seeds, comparisons among its arms, and a plain arm to be held against."""
    found = recipe(name)

    assert (ROOT / "edgefc/recipes" / f"{name.replace('-', '_')}.py").is_file()
    assert found.seeds >= 3
    assert found.minutes <= 10
    assert found.question.endswith("?")
    assert len(found.rates) > 1 or found.training
    assert found.training.endswith(".")


def test_results_that_are_waited_for_are_absent() -> None:
    """A recipe leaves WAITING when its results are in measured/."""
    assert set(recipes()) - set(measured()) == WAITING


@pytest.mark.parametrize("name", sorted(set(recipes()) - WAITING))
def test_a_recipe_is_published(name: str) -> None:
    """Whole runs on the bundled data, of today's arms' names."""
    results = measured()[name]

    assert results.recipe == name
    assert not results.quick
    assert not results.own_data
    assert results.seeds >= 3
    assert (results.question, results.paper) == (recipe(name).question, recipe(name).paper)
    assert summary(name).startswith(results.metric.name)
    assert results.sentences == sentences(results)


def test_the_page_follows_from_the_results() -> None:
    """python -m tests.recipes.page > edgefc/recipes/README.md"""
    assert (ROOT / "edgefc/recipes/README.md").read_text(encoding="utf-8") == page()
    assert summary("absent") == "not measured"


def test_the_page_of_training_follows_from_the_results() -> None:
    """python -m tests.recipes.training > edgefc/recipes/TRAINING.md"""
    assert (ROOT / "edgefc/recipes/TRAINING.md").read_text(encoding="utf-8") == training.page()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_runs(name: str, tmp_path: Path) -> None:
    seeds = ["--seeds", "1"] if name in ("mnist-vit", "text-gpt") else []
    assert main(["recipe", name, "--quick", *seeds, "-o", str(tmp_path / "out")]) == 0

    results = Results.model_validate_json((tmp_path / "out" / "summary.json").read_text())
    assert all(one in {arm.name for arm in results.arms} for pair in results.pairs for one in pair)
    assert (tmp_path / "out" / "plot.png").stat().st_size > 1000


# ---- the command


def test_the_command_runs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One seed of a small circulant-mlp, in the default folder."""
    import edgefc.recipes.circulant_mlp as module

    monkeypatch.setattr(module, "WIDTH", 16)
    monkeypatch.chdir(tmp_path)

    assert main(["recipe", "circulant-mlp", "--quick", "--seeds", "1"]) == 0

    out = capsys.readouterr().out
    assert "It does not reproduce a result of the paper." in out
    assert f"{64 + 16 + 16 + 16 + 16 * 10 + 10:,}" in out
    assert (tmp_path / "edgefc-recipes" / "circulant-mlp" / "plot.png").is_file()


def test_the_users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in the results, without the place where they lie."""
    import edgefc.recipes.circulant_mlp as module

    monkeypatch.setattr(module, "WIDTH", 16)
    (tmp_path / "mnist").mkdir()
    write_mnist(tmp_path / "mnist")
    arguments = ["recipe", "circulant-mlp", "--quick", "--seeds", "1", "--data", str(tmp_path / "mnist")]

    assert main([*arguments, "-o", str(tmp_path / "out")]) == 0

    text = (tmp_path / "out" / "summary.json").read_text()
    found = Results.model_validate_json(text)
    assert found.own_data and found.data.startswith("the user's idx files") and str(tmp_path) not in text
    assert found.arms[0].parameters == 15 * 16 + 16 + 16 * 16 + 16 + 16 * 4 + 4


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "--list"]) == 0

    out = capsys.readouterr().out
    assert all(found.name in out and found.question in out and found.wanted in out for found in recipes().values())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("recipe circulant-mpl", "there is no recipe 'circulant-mpl'. Did you mean circulant-mlp? Choose one of: "),
        ("recipe", "a recipe is required. Choose one of: "),
        ("recipe circulant-mlp --data absent", "there is no folder absent. Pass the folder of the data as --data"),
        ("recipe circulant-mlp --data .", ". contains no data that this recipe can read. It accepts: train-images"),
    ],
)
def test_mistakes(
    arguments: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(arguments.split()) == 2

    error = capsys.readouterr().err
    assert error.startswith(f"edgefc recipe: {sentence}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", ["0", "-1", "x"])
def test_seeds_are_a_count(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["recipe", "circulant-mlp", f"--seeds={count}"])

    assert end.value.code == 2
    assert f"{count!r} is not a number of seeds" in capsys.readouterr().err

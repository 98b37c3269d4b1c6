"""The harness of edgefc recipe on a toy: what is trained, kept, taken up and left alone. No timing is asserted."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

import torch
from torch import nn

from edgefc.errors import CheckFailed, UsageError
from edgefc.files import write_text
from edgefc.recipes import harness
from edgefc.recipes.fit import draws, fit
from edgefc.recipes.recipe import TUNING_SEEDS, Arm, Job, Metric, Outcome, Recipe
from edgefc.recipes.results import Results
from edgefc.recipes.sizes import numbers, same_size
from edgefc.recipes.sources import sources

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Toy:
    about: str = "no data"
    x: float = 0.0


def toy_train(model: nn.Module, job: Job) -> Outcome:
    """Best at rate 0.1; the seed moves it."""
    assert torch.get_num_threads() == 1
    torch.rand(1)
    return Outcome(10 - abs(job.rate - 0.1) + job.seed, {"steps": 3.0}, torch.full((4, 4), 0.5))


TOY = Recipe(
    name="toy", paper="none", question="Does it run?", bundled="none", wanted="none", minutes=0,
    metric=Metric("score", "%", "higher"), load=lambda folder: Toy(),
    arms=lambda data: [Arm("big", lambda seed: nn.Linear(8, 8)), Arm("small one", lambda seed: nn.Linear(2, 2))],
    train=toy_train, rates=(0.01, 0.1, 1.0), training="none.", original=lambda data: torch.zeros(4, 4, 3),
)  # fmt: skip


@pytest.fixture
def no_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plot takes longer than all trainings of the toy."""
    monkeypatch.setattr(harness.pictures, "plot", lambda *_: "no plot")


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, no_plot: None) -> tuple[Recipe, list[Job]]:
    """The toy, and the jobs that it was given."""
    seen: list[Job] = []

    def train(model: nn.Module, job: Job) -> Outcome:
        seen.append(job)
        return toy_train(model, job)

    return replace(TOY, train=train), seen


def test_all_arms_with_all_seeds_at_the_best_rate(tmp_path: Path, jobs: tuple[Recipe, list[Job]]) -> None:
    toy, seen = jobs

    results = harness.run(toy, tmp_path / "a", 3)

    tuning = [(arm, rate, seed) for arm in ("big", "small one") for rate in toy.rates for seed in TUNING_SEEDS]
    assert [(job.arm, job.rate, job.seed) for job in seen if job.tuning] == tuning
    assert [(j.arm, j.seed, j.rate) for j in seen if not j.tuning] == [
        (arm, seed, 0.1) for seed in range(3) for arm in ("big", "small one")
    ]
    assert [(arm.parameters, arm.values) for arm in results.arms] == [(72, [10, 11, 12]), (6, [10, 11, 12])]
    assert results.arms[0].tried == pytest.approx({"0.01": 110.41, "0.1": 110.5, "1": 109.6})


def test_what_the_folder_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = harness.run(TOY, tmp_path / "a", 3)

    out, folder = capsys.readouterr().out, tmp_path / "a"
    assert {path.name for path in folder.iterdir()} == {
        "recipe.json", "summary.json", "table.md", "plot.png", "trained"
    }  # fmt: skip
    assert {path.name for path in (folder / "trained").glob("*.png")} == {"big.png", "small-one.png"}
    assert Results.model_validate_json((folder / "summary.json").read_text()) == results
    table = (folder / "table.md").read_text()
    assert "| small one | 6 | 12 | 11.00 ± 1.00 | 3 |" in table
    assert all(sentence in out and sentence in table for sentence in results.sentences)
    assert str(tmp_path) not in (folder / "summary.json").read_text() + table


def test_a_full_disk_loses_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is printed before summary.json is written."""

    def refuse(path: Path, text: str) -> None:
        if path.name == "summary.json":
            raise UsageError("no space")
        write_text(path, text)

    monkeypatch.setattr(harness, "write_text", refuse)

    with pytest.raises(UsageError, match="no space"):
        harness.run(TOY, tmp_path / "a", 3)
    assert "small one" in capsys.readouterr().out


def test_finished_trainings_are_taken_up(tmp_path: Path, jobs: tuple[Recipe, list[Job]]) -> None:
    toy, seen = jobs
    first = harness.run(toy, tmp_path, 2)
    seen.clear()

    again = harness.run(toy, tmp_path, 3)

    assert [(job.arm, job.seed) for job in seen] == [("big", 2), ("small one", 2)]
    assert again.arms[0].runs[:2] == first.arms[0].runs


@pytest.mark.parametrize("change", ["rates", "data", "quick", "cut", "foreign"])
def test_what_came_from_something_else_is_trained_anew(
    tmp_path: Path, jobs: tuple[Recipe, list[Job]], change: str
) -> None:
    toy = replace(jobs[0], rates=(0.1,))
    harness.run(toy, tmp_path, 1)
    jobs[1].clear()
    kept = tmp_path / "trained" / "big-0-1-0.json"
    if change == "rates":
        toy = replace(toy, rates=(0.1, 0.2))
    if change == "data":
        toy = replace(toy, load=lambda folder: Toy(x=1.0))
    if change == "cut":
        kept.write_bytes(kept.read_bytes()[:-20])
    if change == "foreign":
        kept.write_text(json.dumps({**json.loads(kept.read_text()), "fingerprint": "other"}))

    harness.run(toy, tmp_path, 1, quick=change == "quick")

    assert "big" in {job.arm for job in jobs[1]}


def test_without_matplotlib_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.image", None)

    harness.run(replace(TOY, train=lambda model, job: 1.0), tmp_path, 1)

    assert "No plot.png: matplotlib is not installed." in capsys.readouterr().out
    assert not list(tmp_path.glob("**/*.png"))


@pytest.mark.usefixtures("no_plot")
def test_stopped_midway_it_goes_on_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[Job] = []

    def stops(model: nn.Module, job: Job) -> float:
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 1.0

    toy = replace(TOY, rates=(0.1,), train=stops)
    with pytest.raises(KeyboardInterrupt):
        harness.run(toy, tmp_path, 2)
    assert f"2 trainings are kept in {tmp_path / 'trained'}" in capsys.readouterr().err

    harness.run(toy, tmp_path, 2)

    assert [(job.arm, job.seed) for job in calls[2:]] == [("big", 1), ("big", 1), ("small one", 1)]


def test_quick_has_two_seeds_and_the_middle_rate(tmp_path: Path, jobs: tuple[Recipe, list[Job]]) -> None:
    results = harness.run(jobs[0], tmp_path, quick=True)

    assert {(job.rate, job.quick, job.tuning) for job in jobs[1]} == {(0.1, True, False)}
    assert results.seeds == 2
    assert results.sentences[0].startswith("This was a quick run")


def test_an_arm_may_have_its_own_rates(tmp_path: Path, jobs: tuple[Recipe, list[Job]]) -> None:
    toy = replace(jobs[0], arms=lambda data: [Arm("fixed", lambda seed: nn.Linear(1, 1), rates=(0.5,))])

    harness.run(toy, tmp_path, 1)

    assert [(job.rate, job.tuning) for job in jobs[1]] == [(0.5, False)]


@pytest.mark.usefixtures("no_plot")
def test_a_rate_at_which_training_fails_is_not_chosen(tmp_path: Path) -> None:
    toy = replace(TOY, train=lambda model, job: float("nan") if job.rate > 0.05 else 1.0)

    results = harness.run(toy, tmp_path, 1)

    assert results.arms[0].rate == 0.01
    with pytest.raises(CheckFailed, match="training 'big' with seed 0 and rate 1 ended in nan"):
        harness.run(replace(toy, rates=(1.0,)), tmp_path, 1)


@pytest.mark.usefixtures("no_plot")
def test_torch_is_left_as_it_was_and_trainings_repeat(tmp_path: Path) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    toy = replace(TOY, rates=(1.0,), train=lambda model, job: float(torch.rand(1) + model.weight.detach().sum()))

    one, two = (harness.run(toy, tmp_path / name, 2).arms for name in "ab")

    assert [arm.values for arm in one] == [arm.values for arm in two]
    assert len(set(one[0].values)) == 2
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("mine")

    with pytest.raises(UsageError, match="already exists and was not created by edgefc recipe toy"):
        harness.run(TOY, tmp_path, 1)

    assert [path.name for path in tmp_path.iterdir()] == ["own.txt"]


def test_steps_draw_no_row_twice_before_a_new_order() -> None:
    steps = list(draws(7, 3, 4))

    assert [len(step) for step in steps] == [3, 3, 3, 3]
    assert [len(set(torch.cat(steps[at : at + 2]).tolist())) for at in (0, 2)] == [6, 6]
    assert sorted(torch.cat(list(draws(6, 3, 2))).tolist()) == list(range(6))
    assert [len(step) for step in draws(2, 64, 2)] == [2, 2]


def test_fit_finds_a_line() -> None:
    torch.manual_seed(0)
    x, model = torch.randn(50, 1), nn.Linear(1, 1)

    fit(model, 0.1, 200, lambda rows: (model(x[rows]) - 3 * x[rows] - 1).square().mean(), 50, 10)

    assert (model.weight.item(), model.bias.item()) == pytest.approx((3, 1), abs=0.02)
    assert not model.training


def test_the_plain_model_of_the_same_size() -> None:
    def make(width: int) -> nn.Module:
        return nn.Linear(width, width)  # 2, 6, 12, 20

    assert [same_size(make, wanted) for wanted in (1, 2, 3, 4, 5, 6, 9, 10, 11, 16, 20)] == [
        1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4
    ]  # fmt: skip
    frozen = nn.Linear(3, 3).requires_grad_(False)
    assert numbers(frozen) == (0, 12)


def test_results_depend_on_the_layers_that_a_recipe_imports_and_on_no_others() -> None:
    import edgefc.recipes.circulant_mlp

    names = {path.relative_to(ROOT / "edgefc").as_posix() for path in sources(edgefc.recipes.circulant_mlp.__name__)}

    assert {"recipes/circulant_mlp.py", "recipes/data.py", "recipes/fit.py", "layers/circulant/linear.py"} <= names
    assert "generator/__init__.py" in names
    assert not {"layers/prp/linear.py", "recipes/prp_autoencoder.py", "recipes/findings.py"} & names

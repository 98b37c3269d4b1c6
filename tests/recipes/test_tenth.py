"""The recipes that train with a tenth of the numbers: sizes of their arms, their data, and what they report."""

import json
import math
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import torch
from torch import nn

from edgefc.errors import UsageError
from edgefc.recipes import (
    characters,
    downloaded,
    harness,
    mnist_choices,
    mnist_cnn,
    mnist_mlp,
    tenth,
    text_gpt,
    text_lstm,
)
from edgefc.recipes.data import Images, Part
from edgefc.recipes.fit import fit
from edgefc.recipes.recipe import Job
from edgefc.recipes.sizes import numbers
from edgefc.replacing.measuring import bytes_of

IMAGES = Images("", Part(torch.rand(20, 1, 8, 8), torch.arange(20) % 4), None, 4, 0.2)
LARGE = Images("", Part(torch.rand(20, 1, 28, 28), torch.arange(20) % 4), None, 4, 0.2)
TEXT = "the cat sat on the mat, and 12 dogs looked at the cat.\n" * 100


@pytest.mark.parametrize(
    ("make", "width", "x", "shape"),
    [
        (partial(mnist_mlp.model, IMAGES), 128, torch.rand(3, 1, 8, 8), (3, 4)),
        (partial(mnist_cnn.model, LARGE), 8, torch.rand(3, 1, 28, 28), (3, 4)),
        (text_gpt.model, 64, torch.zeros(3, 32, dtype=torch.int64), (3, 32, 32)),
    ],
)
def test_the_arms_have_a_tenth_of_the_numbers(make, width: int, x: torch.Tensor, shape: tuple[int, ...]) -> None:
    """At most a tenth, and more than 0.6 of it; the rounded models have a tenth of the bytes."""
    tied = make is text_gpt.model
    families = (tenth.LOW_RANK,) if tied else (tenth.LOW_RANK, tenth.CIRCULANT, tenth.EUGEN)

    dense, *others = tenth.arms(make, width, families, 0.01, step=4 if tied else 1, tied=tied)

    whole = dense.build(0)
    for arm in others:
        model = arm.build(0)
        assert model(x).shape == shape
        if arm.name in tenth.AFTERWARDS:
            inputs = torch.cat([x] * 4)
            kept = tenth.stored(model, arm.name, inputs)[tenth.KB] * 1000
            assert kept == bytes_of(model)
            assert 0.5 < kept / (bytes_of(whole) / 10) <= 1, arm.name
        else:
            assert 0.6 < numbers(model)[0] / (numbers(whole)[0] / 10) <= 1, arm.name
    assert ("Tied, narrow" in {arm.name for arm in others}) == tied
    layers = {type(each).__name__ for arm in others[:3] for each in arm.build(0).modules()}
    assert {f"{family.name}Linear" for family in families} <= layers


def test_what_stays_dense_is_too_large() -> None:
    """Small images: the convolutions have more than a tenth of the numbers."""
    with pytest.raises(
        UsageError, match=r"^no LowRank model has a tenth of the numbers of the dense one, [\d,]+: what"
    ):
        tenth.arms(partial(mnist_cnn.model, IMAGES), 8, (tenth.LOW_RANK,), 0.01)


def test_seeds_have_other_signs() -> None:
    """replace(init="new") draws the seeds of layers from torch's generator."""
    arm = tenth.arms(partial(mnist_mlp.model, IMAGES), 128, (tenth.CIRCULANT,), 0.01)[1]
    seeds = []
    for seed in (0, 1, 0):
        with harness.repeatable(seed):
            seeds.append(arm.build(seed).body[0].seed)
    assert seeds[0] == seeds[2] != seeds[1]


def test_lstms_of_twice_the_width() -> None:
    arms = {arm.name: arm.build(0) for arm in tenth.arms(text_lstm.model, 128, text_lstm.FAMILIES, 0.01)}

    assert [arms[name].body[0].lstm.hidden_size for name in ("dense", "Bilinear", "Bilinear x2")] == [128, 128, 256]
    assert type(arms["Circulant"].body[0].lstm).__name__ == "CirculantLSTM"
    assert all(arms[name](torch.zeros(2, 5, dtype=torch.int64)).shape == (2, 5, 32) for name in arms)


def test_scaled_layers_compute_scaled_products() -> None:
    arm = next(each for each in tenth.arms(partial(mnist_mlp.model, IMAGES), 128, (tenth.LOW_RANK,), 0.01)[1:])
    plain, scaled = (build(0) for build in (_seeded(arm.build), _seeded(partial(mnist_choices._scaled, arm, 3.0))))
    torch.testing.assert_close(scaled.body[0].dense(), 3 * plain.body[0].dense())


def _seeded(build):
    def built(seed: int) -> nn.Module:
        with harness.repeatable(seed):
            return build(seed)

    return built


def test_warm_up_starts_with_a_small_rate() -> None:
    """The first step of Adam moves each number by the rate."""
    moved = []
    for warm in (0, 10):
        model = nn.Linear(1, 1, bias=False)
        start = model.weight.detach().clone()
        fit(model, 0.1, 1, lambda rows, model=model: 100 * model.weight.sum(), 4, 2, warm=warm)  # type: ignore[misc]
        moved.append(float((start - model.weight).detach()))
    assert moved == pytest.approx([0.1, 0.01], rel=1e-4)


# ---- data


def test_digits_are_read_from_the_files_of_the_package(tmp_path: Path) -> None:
    values = [0, 0.149, 0.992, 1] * 196  # 784; rounded to 0.001 there, multiples of 1/255 here
    for label, count in enumerate((5, 10)):
        (tmp_path / f"{label}.json").write_text(json.dumps({"data": values * count}))

    images = downloaded.images(sorted(tmp_path.iterdir()))

    assert images.shape == (1, 28, 28) and images.classes == 2
    assert images.train.y.tolist() == [0] * 5 + [1] * 10
    assert images.train.x[0, 0, 0, :4].mul(255).tolist() == pytest.approx([0, 38, 253, 255])
    train, held_out = images.split(0)
    assert (len(train.y), len(held_out.y)) == (12, 3)
    assert images.about.startswith("15 digits of MNIST")


def test_without_a_network_one_sentence_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")

    with pytest.raises(UsageError, match=r"^cannot download mnist 1\.1\.0 from http://127\.0\.0\.1:1/.*copy that file"):
        mnist_mlp.RECIPE.load(None)


@pytest.mark.slow
def test_the_downloaded_digits() -> None:
    try:
        images = downloaded.mnist()
    except UsageError as error:
        pytest.skip(str(error))
    assert images.train.x.shape == (10_000, 1, 28, 28)
    assert torch.bincount(images.train.y).tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]


def test_characters_are_reduced() -> None:
    tokens = characters.reduced("A  b\tz9.\n    É(,\n")

    assert "".join(characters.ALPHABET[token] for token in tokens) == "a b z0.\n??,"
    assert len(characters.ALPHABET) == len(set(characters.ALPHABET)) == 32


def test_bits_of_a_model_that_knows_nothing(tmp_path: Path) -> None:
    """Equal logits are 5 bits for 32 characters. Sequences do not overlap, and neither do the parts."""
    (tmp_path / "a.txt").write_text(TEXT)
    text = characters.load(tmp_path)
    model = text_gpt.model(8)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)

    outcome = characters.predicted(model, Job("", 0, 0.0, text, False, True), 1, 32, 4)

    assert outcome.value == pytest.approx(5)
    rows = text.rows(0, 32)
    assert torch.equal(rows.flatten(), text.parts[0][: rows.numel()])
    assert sum(map(len, text.parts)) == pytest.approx(len(TEXT), abs=3)
    assert float(characters.nats(model, rows[:3]).detach()) == pytest.approx(math.log(32))


def test_a_gpt_does_not_see_what_follows() -> None:
    model, tokens = text_gpt.model(8), torch.zeros(1, 32, dtype=torch.int64)
    other = tokens.clone()
    other[0, 20:] = 5

    one, two = model(tokens), model(other)

    torch.testing.assert_close(one[:, :20], two[:, :20])
    assert not torch.allclose(one[:, 20:], two[:, 20:])


def test_a_text_too_short_for_sequences(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("too short")
    with pytest.raises(UsageError, match=r"the user's text are too few for this recipe\. Give a text of about 100,000"):
        characters.load(tmp_path)

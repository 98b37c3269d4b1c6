"""The two EUGen recipes: what their arms are, that comparisons are at equal size, and the closed forms in them."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

import numpy as np
import torch
from torch import nn

from edgefc.errors import UsageError
from edgefc.layers.eugen.linear import EUGenLinear
from edgefc.recipes import data, eugen_distill, eugen_siren
from edgefc.recipes.harness import repeatable
from edgefc.recipes.recipe import Job
from edgefc.recipes.sizes import numbers

# ---- eugen-siren


@pytest.fixture(scope="module")
def photographs() -> eugen_siren.Photographs:
    return eugen_siren.load(None)


def test_two_photographs(photographs: eugen_siren.Photographs) -> None:
    """One is measured, and rates are chosen on the other."""
    size = (eugen_siren.SIZE, eugen_siren.SIZE)

    assert photographs.picture.shape == photographs.other.shape == size
    assert not torch.equal(photographs.picture, photographs.other)
    assert 0 <= float(photographs.picture.min()) < float(photographs.picture.max()) <= 1


def test_sizes_of_the_networks_of_sines(photographs: eugen_siren.Photographs) -> None:
    sizes = {arm.name: numbers(arm.build(0))[0] for arm in eugen_siren.arms(photographs)}

    rest, rank = 3 * 128 + 129, 20
    assert sizes.pop("dense") == rest + 2 * (128 * 128 + 128)
    assert sizes["low rank"] == rest + 2 * (2 * 128 * rank + 128)
    assert sizes["EUGen sine, then sine, no norm"] == sizes["low rank"]
    assert sizes["EUGen relu, then sine"] == sizes["low rank"] + 2 * rank  # a column for the norm
    assert all(size == pytest.approx(33537 / 3, rel=0.02) for size in sizes.values())


@pytest.mark.slow
@torch.no_grad()
def test_sines_see_variance_one_at_the_start(photographs: eugen_siren.Photographs) -> None:
    """In every arm, before the bias; where EUGen replaces the sine, what stands for it has mean square 1/2."""
    for arm in eugen_siren.arms(photographs):
        with repeatable(3):
            model, x = arm.build(3), eugen_siren.grid()
            assert isinstance(model, nn.Sequential)
            for index, layer in enumerate(list(model)[:-1]):
                if index and not isinstance(layer, eugen_siren.Sine):
                    last = layer[1] if isinstance(layer, nn.Sequential) else layer
                    square = float((layer(x) - last.get_parameter("bias")).square().mean())
                    wanted = 1 / 2 if arm.name == "EUGen for layer and sine" else 1 / eugen_siren.OMEGA**2
                    assert square == pytest.approx(wanted, rel=0.25 if "dense" in arm.name else 1e-3), arm.name
                x = layer(x)


def test_the_decibels_are_those_of_the_picture(
    photographs: eugen_siren.Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is 0 everywhere gives grey 1/2; tuning looks at the other photograph."""
    monkeypatch.setattr(eugen_siren, "fit", lambda *_: None)
    flat = nn.Linear(2, 1).requires_grad_(False)
    flat.weight.zero_()
    flat.bias.zero_()

    for tuning, picture in ((False, photographs.picture), (True, photographs.other)):
        found = eugen_siren.train(flat, Job("dense", 0, 0.1, photographs, tuning, True))
        error = np.mean((picture.numpy().astype(np.float64) - 0.5) ** 2)
        assert found.value == pytest.approx(10 * np.log10(1 / error), abs=1e-3)
        assert found.picture is not None
        assert found.picture.shape == picture.shape


def test_one_picture_of_the_users_is_too_few(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "all").mkdir()
    Image.new("L", (40, 30), 90).save(tmp_path / "all" / "a.png")
    with pytest.raises(UsageError, match=r"contains one picture, but eugen-siren needs two: .* Add a picture\."):
        eugen_siren.load(tmp_path)

    Image.new("L", (40, 30), 200).save(tmp_path / "all" / "b.png")
    found = eugen_siren.load(tmp_path)
    assert [float(p.mean()) for p in (found.picture, found.other)] == pytest.approx([90 / 255, 200 / 255])
    assert str(tmp_path) not in found.about


# ---- eugen-distill


def test_what_is_compared_is_of_one_size() -> None:
    sizes = {arm.name: numbers(arm.build(0)) for arm in eugen_distill.arms(data.digits())}

    assert sizes["EUGen 16, closed form"] == sizes["low rank 8, closed form"]
    assert sizes["EUGen 64, closed form"] == sizes["EUGen gelu 64, closed form"] == sizes["low rank 32, closed form"]
    assert sizes["EUGen 64, then tuned"][0] == sizes["low rank 64, then tuned"][0] + 64
    assert sizes["dense teacher"][0] == 64 * 256 + 2 * 256 * 256 + 256 * 10 + 3 * 256 + 10


def test_the_low_rank_middle_is_the_best_of_its_rank() -> None:
    """Against the SVD of the fitted values in numpy; with a dead input, as a dead ReLU makes it."""
    torch.manual_seed(0)
    x = torch.relu(torch.randn(300, 256))
    x[:, 5] = 0
    y = torch.tanh(x @ torch.randn(256, 256) / 16) + 3
    middle = eugen_distill.KINDS["low rank 8, closed form"].middle(0)

    eugen_distill.reduced_rank(middle, x, y)

    x_, y_ = x.numpy().astype(np.float64), y.numpy().astype(np.float64)
    x_, mean = x_ - x_.mean(0), y_.mean(0)
    u, s, vt = np.linalg.svd(x_ @ np.linalg.pinv(x_) @ (y_ - mean), full_matrices=False)
    np.testing.assert_allclose(middle(x).detach().numpy(), (u[:, :8] * s[:8]) @ vt[:8] + mean, atol=1e-3)


def test_every_arm_of_a_seed_has_the_same_teacher() -> None:
    """And only the middle differs from it, whose error is measured on its outputs."""
    images = data.digits()
    models, errors = {}, {}
    for arm in eugen_distill.arms(images):
        with repeatable(len(arm.name)):  # whatever was drawn before
            models[arm.name] = arm.build(4)
            found = eugen_distill.train(models[arm.name], Job(arm.name, 4, 0.001, images, False, True))
        errors[arm.name] = next(iter(found.more.values()))

    teacher = models.pop("dense teacher")
    assert isinstance(teacher, nn.Sequential)
    _, held_out = images.split(4)
    x, y = eugen_distill.record(teacher, held_out.x)
    for name, model in models.items():
        assert isinstance(model, nn.Sequential)
        for mine, theirs in ((model[1], teacher[1]), (model[-1], teacher[-1])):
            assert all(map(torch.equal, mine.parameters(), theirs.parameters()))
        with torch.no_grad():
            wrong = (model[eugen_distill.MIDDLE](x) - y).numpy()
        spread = y.numpy() - y.numpy().mean(0)
        assert errors[name] == pytest.approx(100 * np.sqrt((wrong**2).sum() / (spread**2).sum()), rel=1e-4)
    assert errors["dense teacher"] == 0
    assert errors["EUGen 64, closed form"] < errors["EUGen 16, closed form"] < 100


def test_the_closed_form_stays_and_tuning_moves_the_projection() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(200, 256), torch.rand(200, 256)
    for name, moved in (("EUGen 16, closed form", False), ("EUGen 64, then tuned", True)):
        kind = eugen_distill.KINDS[name]
        layer = kind.middle(1)
        assert isinstance(layer, EUGenLinear)
        before = layer.matrix().detach().clone()
        kind.start(layer, x, y)
        if kind.tuned:
            eugen_distill.tune(layer, x, y, 0.001, 3)
        assert torch.equal(layer.matrix(), before) != moved

"""The recipes tied-vit and tied-resnet: how large the arms are, that they differ in the sharing, and odd pictures."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("skimage")

import torch
from torch import nn

from edgefc.recipes import data, harness, tied_resnet, tied_vit
from edgefc.recipes.data import Images, Part
from edgefc.recipes.recipe import Job
from edgefc.recipes.sizes import numbers


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with harness.repeatable(0):
        yield


def sizes(recipe: Any) -> dict[str, int]:
    return {arm.name: numbers(arm.build(0))[0] for arm in recipe.arms(data.digits())}


def test_the_sizes_of_the_transformers() -> None:
    """Written out for width 32, hidden 128, two blocks and 16 patches of four pixels."""
    around = 4 * 32 + 32 + 16 * 32 + 2 * 32 + 32 * 10 + 10

    def whole(matrices: int, pair: int) -> int:
        return around + 2 * (4 * 32 + matrices * 32**2 + 4 * 32 + pair)

    found = sizes(tied_vit)

    assert found["dense"] == whole(4, 2 * 32 * 128 + 160)
    assert found["tied FFN"] == whole(4, 32 * 128 + 160)
    assert found["tied FFN + vo"] == whole(3, 32 * 128 + 160)
    assert found["tied FFN + vo+qk_t"] == whole(2, 32 * 128 + 160)
    assert found["half FFN"] == found["tied FFN"] - 2 * 64
    assert found["narrow dense"] == pytest.approx(found["tied FFN + vo+qk_t"], rel=0.01)


def test_the_sizes_of_the_resnets() -> None:
    """1x1 matrices of 32 x 8 and 64 x 16: two in each of three blocks, or one in each, or one."""
    pair = 32 * 8 + 64 * 16

    found = sizes(tied_resnet)

    assert found["dense"] - found["tied"] == 3 * pair
    assert found["tied"] - found["tied per stage"] == 2 * pair
    assert found["narrow dense"] == pytest.approx(found["tied per stage"], rel=0.05)


def test_the_dense_bottlenecks_start_as_the_tied_ones() -> None:
    """Both matrices of variance 2 / width; the same 3x3 kernels."""
    dense, tied = tied_resnet._dense(256, 64), tied_resnet._tied(256, 64)
    kernels = [each.weight for each in dense.modules() if isinstance(each, nn.Conv2d)]

    assert len(kernels) == 9
    assert {kernel.shape for kernel in kernels} == {(64, 256, 1, 1), (64, 64, 3, 3), (256, 64, 1, 1)}
    for shared in (parameter for name, parameter in tied.named_parameters() if name.endswith(".weight")):
        alike = [kernel for kernel in kernels if kernel.numel() == shared.numel()]
        spread = float(shared.detach().std())
        assert [float(kernel.detach().std()) for kernel in alike] == pytest.approx([spread] * len(alike), rel=0.05)


@pytest.mark.parametrize("recipe", [tied_vit, tied_resnet])
@pytest.mark.parametrize("shape", [(3, 3, 5), (1, 33, 34)])
def test_every_arm_takes_pictures_of_any_size_and_trains_every_number(recipe: Any, shape: tuple[int, ...]) -> None:
    part = Part(torch.rand(8, *shape), torch.arange(8) % 3)

    for arm in recipe.arms(Images("random", part, part, 3)):
        model = arm.build(0)
        answers = model(part.x)
        nn.functional.cross_entropy(answers, part.y).backward()  # type: ignore[no-untyped-call]

        assert answers.shape == (8, 3)
        assert all(parameter.grad is not None for parameter in model.parameters())
        reached = [name for name, parameter in model.named_parameters() if parameter.grad.abs().sum() == 0]
        assert reached == [], arm.name


@pytest.mark.parametrize("recipe", [tied_vit, tied_resnet])
def test_the_same_seed_trains_to_the_same_value(recipe: Any) -> None:
    images = data.digits()
    arm = recipe.arms(images)[-2]

    def trained() -> float:
        with harness.repeatable(3):
            value: float = recipe.train(arm.build(3), Job(arm.name, 3, 0.01, images, tuning=True, quick=True))
        return value

    assert trained() == trained()

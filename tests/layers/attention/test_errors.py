"""StructuredAttention: the ways to be wrong, each with the sentence that names the way out."""

import re
from typing import Any

import pytest
import torch
from torch import nn

from edgefc import BilinearLinear, PRPLinear, StructuredAttention
from edgefc.errors import ShapeError, UsageError
from tests.layers.attention.test_structured import CAUSAL, make, numbers


def test_a_factory_without_a_seed_is_named_with_the_way_out() -> None:
    said = (
        "cannot create projections with Linear: got an unexpected keyword argument 'seed'. Pass a function that "
        "takes (in_features, out_features, bias, seed), such as lambda n, m, bias, seed: Linear(n, m, bias)."
    )
    with pytest.raises(UsageError, match=re.escape(said)):
        StructuredAttention(4, 2, nn.Linear)


def test_a_fit_without_a_seed_is_named_with_the_way_out() -> None:
    said = (
        "cannot create projections with BilinearLinear.from_linear: got an unexpected keyword argument 'seed'. Pass "
        "a function that takes (linear, seed), such as lambda linear, seed: BilinearLinear.from_linear(linear)."
    )
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        StructuredAttention.from_attention(nn.MultiheadAttention(4, 2), BilinearLinear.from_linear)


def test_a_fit_that_cannot_be_called_is_named() -> None:
    said = (
        "cannot create projections with 'from_linear'. Pass a function that takes (linear, seed), such as "
        "CirculantLinear.from_linear."
    )
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        StructuredAttention.from_attention(nn.MultiheadAttention(4, 2), "from_linear")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0, 3])
@pytest.mark.parametrize("told", [True, False])
def test_projections_of_another_size_are_named(wrong: int, told: bool) -> None:
    """At once where they tell their size, else when they are called."""
    count = iter(range(4))

    def projection(n: int, m: int, bias: bool, seed: int) -> nn.Module:
        linear = nn.Linear(n, 7 if next(count) == wrong else m, bias)
        return linear if told else nn.Sequential(linear)

    name, kind = ("q_proj", "out_proj")[wrong // 3], ("Sequential", "Linear")[told]
    said = (
        f"StructuredAttention expects 4 outputs from {name}, got 7 from a {kind}. Create projections with the "
        f"out_features that they are called with."
    )
    layer, x = None if told else StructuredAttention(4, 2, projection), torch.zeros(3, 1, 4)
    with pytest.raises(ShapeError, match=f"^{re.escape(said)}$"):
        StructuredAttention(4, 2, projection) if layer is None else layer(x, x, x)


@pytest.mark.parametrize("heads", [0, 5, -2, 2.0, True])
def test_heads_that_do_not_divide_are_named(heads: Any) -> None:
    said = (
        f"StructuredAttention cannot split embed_dim=12 into num_heads={heads!r} equal heads. "
        "Choose a num_heads that divides embed_dim."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        StructuredAttention(12, heads, PRPLinear)


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        pytest.param([(2, 4, 12), (3, 5, 12), (3, 5, 12)], "(2, 4, 12), (3, 5, 12), (3, 5, 12)", id="batches"),
        pytest.param([(2, 4, 12), (2, 5, 12), (2, 6, 12)], "(2, 4, 12), (2, 5, 12), (2, 6, 12)", id="lengths"),
        pytest.param([(2, 4, 12), (5, 12), (5, 12)], "(2, 4, 12), (5, 12), (5, 12)", id="axes"),
        pytest.param([(12,), (12,), (12,)], "(1, 12), (1, 12), (1, 12)", id="no-sequence"),
    ],
)
def test_tensors_that_do_not_fit_are_named(shapes: list[tuple[int, ...]], told: str) -> None:
    said = (
        f"StructuredAttention does not support query, key and value of shapes {told} (batch first). Use the same "
        f"batch size for all three, or none, and the same number of keys and values."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        make()(*(numbers(*shape) for shape in shapes))


@pytest.mark.parametrize(
    ("masks", "error", "told"),
    [
        ({"key_padding_mask": torch.zeros(2, 4)}, ShapeError, "a key_padding_mask of shape (2, 5) here, got (2, 4)"),
        ({"attn_mask": torch.zeros(5, 4)}, ShapeError, "attn_mask of shape (4, 5) or (6, 4, 5) here, got (5, 4)"),
        ({"attn_mask": CAUSAL.long()}, UsageError, "a bool or floating-point attn_mask, got torch.int64."),
        ({"is_causal": True}, UsageError, "is_causal=True only as a hint about attn_mask. Pass attn_mask as well."),
    ],
)
def test_masks_that_do_not_fit_are_named(masks: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=re.escape(told)):
        make()(numbers(2, 4, 12), numbers(2, 5, 12), numbers(2, 5, 12), **masks)


def test_inputs_of_another_width_are_named_by_their_projection() -> None:
    with pytest.raises(ShapeError, match=r"PRPLinear expects inputs of shape \(\.\.\., 7\), got"):
        make(kdim=7)(numbers(2, 4, 12), numbers(2, 5, 12), numbers(2, 5, 12))

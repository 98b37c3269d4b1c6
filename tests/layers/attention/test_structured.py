"""StructuredAttention: against torch.nn.MultiheadAttention that holds the matrices of its projections.

torch's layer is the oracle, in float64: it shares nothing with ours but the matrices, which the tests of each family
hold to their formulas.
"""

import copy
import functools
import pickle
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgefc import BilinearLinear, CirculantLinear, EUGenLinear, PRPLinear, StructuredAttention
from edgefc.errors import UsageError
from edgefc.export import export
from edgefc.layers.common.checkpoint import holds_weights
from edgefc.testing import assert_close

RADEMACHER = functools.partial(PRPLinear, distribution="rademacher")


FAMILIES = [
    pytest.param(PRPLinear, id="prp"),
    pytest.param(RADEMACHER, id="partial"),
    pytest.param(CirculantLinear, id="circulant"),
    pytest.param(lambda n, m, bias, seed: BilinearLinear(n, m, bias), id="bilinear"),
]


def make(projection: Any = PRPLinear, embed: int = 12, heads: int = 3, **options: Any) -> StructuredAttention:
    """A float64 layer, batch first, with biases that are not zero."""
    torch.manual_seed(0)
    layer = StructuredAttention(embed, heads, projection, **{"batch_first": True, **options}).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def oracle(layer: StructuredAttention) -> nn.MultiheadAttention:
    """In training mode, which torch's faster kernels leave alone; without dropout that changes nothing."""
    return layer.dense().train()


def check(layer: StructuredAttention, *tensors: Tensor, what: str = "attention", **keywords: Any) -> None:
    """Both answers of both layers, asked in the same words."""
    for need_weights, average in ((True, True), (True, False), (False, True)):
        asked = {**keywords, "need_weights": need_weights, "average_attn_weights": average}
        y, weights = layer(*tensors, **asked)
        expected, expected_weights = oracle(layer)(*tensors, **asked)
        assert_close(y, expected, nmse=1e-26, what=what)
        if expected_weights is None:
            assert weights is None
        else:
            assert_close(weights, expected_weights, nmse=1e-26, what=f"{what}: weights")


# ---- against torch


@given(
    n=st.integers(1, 3),
    length=st.integers(1, 5),
    keys=st.integers(1, 5),
    heads=st.integers(1, 3),
    width=st.integers(1, 5),
    kdim=st.sampled_from([None, 1, 7]),
    vdim=st.sampled_from([None, 1, 5]),
    bias=st.booleans(),
    batch_first=st.booleans(),
    batched=st.booleans(),
    projection=st.sampled_from([p.values[0] for p in FAMILIES]),
)
@settings(max_examples=25, deadline=None)
def test_it_is_torchs_attention(
    n: int, length: int, keys: int, heads: int, width: int, kdim: int | None, vdim: int | None, bias: bool,
    batch_first: bool, batched: bool, projection: Any,
) -> None:  # fmt: skip
    embed = heads * width
    layer = make(projection, embed, heads, bias=bias, batch_first=batch_first, kdim=kdim, vdim=vdim)
    tensors = [numbers(n, length, embed), numbers(n, keys, kdim or embed, seed=1), numbers(n, keys, vdim or embed)]
    if not batched:
        tensors = [tensor[0] for tensor in tensors]
    elif not batch_first:
        tensors = [tensor.transpose(0, 1) for tensor in tensors]
    check(layer, *tensors)


@pytest.mark.parametrize("projection", FAMILIES)
@pytest.mark.parametrize("embed", [384, pytest.param(768, marks=pytest.mark.slow)])
def test_ordinary_sizes(embed: int, projection: Any) -> None:
    x = numbers(2, 7, embed)
    check(make(projection, embed, embed // 64), x, x, x)


def test_projections_that_are_not_linear() -> None:
    """torch's attention with identities for projections, between ours, whatever they are."""
    layer = make(functools.partial(EUGenLinear, features=8))
    between = nn.MultiheadAttention(12, 3, bias=False, batch_first=True, dtype=torch.float64)
    assert between.in_proj_weight is not None
    between.in_proj_weight.data = torch.eye(12, dtype=torch.float64).repeat(3, 1)
    between.out_proj.weight.data = torch.eye(12, dtype=torch.float64)
    x, k = numbers(2, 4, 12), numbers(2, 5, 12, seed=1)
    expected = layer.out_proj(between(layer.q_proj(x), layer.k_proj(k), layer.v_proj(k))[0])
    assert_close(layer(x, k, k)[0], expected, nmse=1e-26, what="EUGen")


LENGTH, KEYS = 4, 5
PADDING = torch.tensor([[False, False, True, True, False], [False, True, False, False, True]])
CAUSAL = torch.ones(LENGTH, KEYS, dtype=torch.bool).triu(1)
BOTH = {"key_padding_mask": PADDING, "attn_mask": CAUSAL}
MASKS = {
    "padding": {"key_padding_mask": PADDING},
    "causal": {"attn_mask": CAUSAL},
    "both": BOTH,
    "float-padding": {"key_padding_mask": numbers(2, KEYS)},
    "float": {"attn_mask": numbers(LENGTH, KEYS)},
    "per-head": {"attn_mask": numbers(2 * 3, LENGTH, KEYS)},
    "per-head-bool": {"attn_mask": numbers(2 * 3, LENGTH, KEYS) > 0.8},
    "both-float": {"attn_mask": numbers(LENGTH, KEYS), "key_padding_mask": numbers(2, KEYS)},
}


@pytest.mark.parametrize("masks", [pytest.param(value, id=key) for key, value in MASKS.items()])
def test_masks(masks: dict[str, Tensor]) -> None:
    check(make(), numbers(2, LENGTH, 12), numbers(2, KEYS, 12, seed=1), numbers(2, KEYS, 12, seed=2), **masks)


def test_masks_without_a_batch() -> None:
    tensors = numbers(LENGTH, 12), numbers(KEYS, 12, seed=1), numbers(KEYS, 12, seed=2)
    check(make(), *tensors, key_padding_mask=PADDING[0], attn_mask=numbers(3, LENGTH, KEYS) > 0.8)
    check(make(), *tensors, attn_mask=CAUSAL)


def test_a_mask_changes_the_answer() -> None:
    """Or the tests above could not tell."""
    tensors = numbers(2, LENGTH, 12), numbers(2, KEYS, 12, seed=1), numbers(2, KEYS, 12, seed=2)
    plain = make()(*tensors)[0]
    for masks in MASKS.values():
        assert not torch.allclose(make()(*tensors, **masks)[0], plain)


def test_the_hint_that_a_mask_is_causal() -> None:
    x = numbers(2, 4, 12)
    square = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    check(make(), x, x, x, attn_mask=square, is_causal=True)


@pytest.mark.parametrize("need_weights", [True, False])
def test_queries_without_keys_are_as_torchs(need_weights: bool) -> None:
    """torch answers NaN where it shows the weights, and the output's bias where it does not."""
    layer, x = make(), numbers(2, 4, 12)
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    nothing[1] = True
    y, _ = layer(x, x, x, key_padding_mask=nothing, need_weights=need_weights)
    expected, _ = oracle(layer)(x, x, x, key_padding_mask=nothing, need_weights=need_weights)
    torch.testing.assert_close(y, expected, equal_nan=True)
    assert bool(y[1].isnan().any()) == need_weights


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("shape", [(0, 4, 12), (2, 0, 12)])
def test_empty_batches_and_sequences(shape: tuple[int, ...], need_weights: bool) -> None:
    x = torch.zeros(shape, dtype=torch.float64)
    assert make()(x, x, x, need_weights=need_weights)[0].shape == shape


def test_dropout_is_of_the_weights_and_in_training_only() -> None:
    layer, x = make(dropout=0.5), numbers(2, 8, 12)
    torch.manual_seed(0)
    y, weights = layer.train()(x, x, x, average_attn_weights=False)
    assert 0.3 < (weights == 0).double().mean() < 0.7
    values = layer.v_proj(x).unflatten(-1, (3, 4)).transpose(1, 2)
    assert_close(y, layer.out_proj((weights @ values).transpose(1, 2).flatten(2)), nmse=1e-26, what="dropped")
    y = layer.eval()(x, x, x)[0]
    assert torch.equal(y, layer(x, x, x)[0])


@pytest.mark.parametrize("need_weights", [True, False])
def test_gradients_by_finite_differences(need_weights: bool) -> None:
    layer = make(embed=4, heads=2)
    tensors = [numbers(1, length, 4, seed=length).requires_grad_() for length in (2, 3)]
    names = [name for name, _ in layer.named_parameters()]

    def forward(q: Tensor, k: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        result: Tensor = torch.func.functional_call(layer, named, (q, k, k), {"need_weights": need_weights})[0]
        return result

    assert torch.autograd.gradcheck(forward, (*tensors, *layer.parameters()))


# ---- from and to torch


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [{}, {"kdim": 7, "vdim": 5}, {"vdim": 5}])
@pytest.mark.parametrize("batch_first", [True, False])
def test_from_attention_takes_each_projection(bias: bool, widths: dict[str, int], batch_first: bool) -> None:
    """With matrices copied as they are, the answers are torch's own."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(12, 3, bias=bias, batch_first=batch_first, dtype=torch.float64, **widths)
    for parameter in attention.parameters():
        nn.init.normal_(parameter)

    def copied(linear: nn.Linear, seed: int) -> nn.Linear:
        return copy.deepcopy(linear)

    layer = StructuredAttention.from_attention(attention, copied)
    tensors = numbers(4, 2, 12), numbers(5, 2, layer.kdim), numbers(5, 2, layer.vdim)
    if batch_first:
        tensors = tuple(tensor.transpose(0, 1) for tensor in tensors)  # type: ignore[assignment]
    assert_close(layer(*tensors)[0], attention(*tensors)[0], nmse=1e-26, what="from_attention")


@pytest.mark.parametrize("family", [PRPLinear, CirculantLinear])
def test_from_attention_recovers_a_structured_one(family: Any) -> None:
    original = make(family, seed=5)
    layer = StructuredAttention.from_attention(original.dense().eval(), family.from_linear, seed=5)
    x = numbers(2, 4, 12)
    assert not layer.training
    assert_close(layer(x, x, x)[0], original(x, x, x)[0], nmse=1e-16, what="recovered")


@pytest.mark.parametrize("asked", ["add_bias_kv", "add_zero_attn"])
def test_attention_with_keys_of_its_own_is_refused(asked: str) -> None:
    said = (
        f"StructuredAttention does not support {asked}=True: it adds no key and value. "
        "Keep this attention dense, or train it without the option."
    )
    with pytest.raises(UsageError, match=re.escape(said)):
        StructuredAttention.from_attention(nn.MultiheadAttention(8, 2, **{asked: True}), PRPLinear.from_linear)


def test_projections_that_are_no_matrix_have_no_dense() -> None:
    layer = StructuredAttention(4, 2, lambda n, m, bias, seed: nn.Sequential(nn.Linear(n, m), nn.ReLU()))
    said = "q_proj is a Sequential, which has no dense(). Use linear projections."
    with pytest.raises(UsageError, match=re.escape(said)):
        layer.dense()


# ---- in torch's transformer


def encoder(**options: Any) -> nn.TransformerEncoderLayer:
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(12, 2, 24, 0.0, batch_first=True, dtype=torch.float64, **options)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_in_the_place_of_self_attn(training: bool, grad: bool, norm_first: bool) -> None:
    """In eval mode torch's encoder layer may read its attention's weights and pass its forward by: not these."""
    dense, ours = encoder(norm_first=norm_first), encoder(norm_first=norm_first)
    layer = make(heads=2)
    dense.self_attn, ours.self_attn = layer.dense(), layer  # type: ignore[assignment]
    ours.train(training)  # the oracle stays in training mode: torch's fast path is wrong for masks that are added
    x = numbers(2, KEYS, 12)
    for masks in ({}, {"src_key_padding_mask": PADDING}, {"src_mask": numbers(KEYS, KEYS)}):
        with torch.set_grad_enabled(grad):
            assert_close(ours(x, **masks), dense(x, **masks), nmse=1e-26, what="encoder layer")


def test_in_torchs_encoder_and_decoder() -> None:
    dense = nn.Transformer(12, 2, 1, 1, 24, 0.0, batch_first=True, dtype=torch.float64)
    ours = copy.deepcopy(dense).eval()
    ours.encoder.use_nested_tensor = False
    for place in ("encoder.layers.0.self_attn", "decoder.layers.0.self_attn", "decoder.layers.0.multihead_attn"):
        layer = make(heads=2)
        dense.set_submodule(place, oracle(layer))
        ours.set_submodule(place, layer.eval())
    x, padding = numbers(2, 5, 12), torch.arange(5) >= torch.tensor([[3], [5]])
    with torch.no_grad():
        expected = dense(x, x, src_key_padding_mask=padding, memory_key_padding_mask=padding)
        y = ours(x, x, src_key_padding_mask=padding, memory_key_padding_mask=padding)
    assert_close(y, expected, nmse=1e-20, what="transformer")


def test_an_encoder_that_would_pass_nested_tensors_is_named() -> None:
    """torch reads the weights before it packs padded batches; built anew, an encoder sees that it should not."""
    stack = nn.TransformerEncoder(encoder(), 1).eval()
    stack.layers[0].self_attn = make(heads=2)
    said = (
        "StructuredAttention does not accept nested tensors, which this nn.TransformerEncoder creates from padded "
        "batches. "
        "Set encoder.use_nested_tensor = False."
    )
    with torch.no_grad(), pytest.raises(UsageError, match=re.escape(said)):
        stack(numbers(2, 5, 12), src_key_padding_mask=torch.arange(5) >= torch.tensor([[3], [5]]))


# ---- what every layer keeps


def test_each_projection_has_a_seed_of_its_own() -> None:
    seeds = [layer.seed for layer in make(seed=2**64 - 2).projections()]
    assert seeds == [2**64 - 2, 2**64 - 1, 0, 1]
    assert not torch.equal(make().q_proj.dense(), make().k_proj.dense())


@pytest.mark.parametrize("projection", [PRPLinear, CirculantLinear])
def test_copies_answer_alike(projection: Any) -> None:
    layer, x = make(projection), numbers(2, 3, 12)
    y = layer(x, x, x)[0]
    fresh = StructuredAttention(12, 3, projection, batch_first=True).double()
    assert not torch.equal(fresh(x, x, x)[0], y)
    fresh.load_state_dict(layer.state_dict())
    for other in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x, x, x)[0], y)
        assert str(other) == str(layer)


def test_state_is_that_of_the_projections() -> None:
    names = [f"{p}.{name}" for p in ("q_proj", "k_proj", "v_proj", "out_proj") for name in ("kernel", "bias")]
    assert sorted(filter(holds_weights, make(CirculantLinear).state_dict())) == sorted(names)


def test_reset_parameters_resets_all() -> None:
    layer = make()
    before = copy.deepcopy(layer.state_dict())
    layer.reset_parameters()
    assert not any(
        torch.equal(before[name], value) for name, value in layer.state_dict().items() if holds_weights(name)
    )


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 1e-5), (torch.bfloat16, 1e-3)])
@pytest.mark.parametrize("need_weights", [True, False])
def test_half_precision_stays_near(dtype: torch.dtype, nmse: float, need_weights: bool) -> None:
    torch.manual_seed(0)
    layer = StructuredAttention(12, 3, PRPLinear, batch_first=True).to(dtype)
    x = numbers(2, KEYS, 12).to(dtype)
    y, _ = layer(x, x, x, key_padding_mask=PADDING, need_weights=need_weights)
    full = copy.deepcopy(layer).double()
    expected, _ = full(x.double(), x.double(), x.double(), key_padding_mask=PADDING)
    assert y.dtype == dtype
    assert_close(y, expected, nmse=nmse, what=str(dtype))


@pytest.mark.parametrize("need_weights", [True, False])
def test_autocast(need_weights: bool) -> None:
    layer = StructuredAttention(12, 3, PRPLinear, batch_first=True)
    x = numbers(2, KEYS, 12).float()
    plain = layer(x, x, x, key_padding_mask=PADDING)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x, x, x, key_padding_mask=PADDING, need_weights=need_weights)[0]
    assert_close(y, plain, nmse=1e-3, what="autocast")
    y.float().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.slow
def test_compiles_whole() -> None:
    layer, x = make(), numbers(2, KEYS, 12)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for masks in ({}, {"key_padding_mask": PADDING}):
        assert_close(compiled(x, x, x, **masks)[0], layer(x, x, x, **masks)[0], nmse=1e-26, what="compiled")


def test_multiply_adds_are_those_of_the_projections() -> None:
    layer = make(embed=12, kdim=7, vdim=5)
    assert layer.multiply_adds() == sum(projection.multiply_adds() for projection in layer.projections())
    plain = StructuredAttention(4, 2, lambda n, m, bias, seed: nn.Linear(n, m, bias))
    said = "cannot count the multiply-adds of q_proj: Linear has no multiply_adds()."
    with pytest.raises(UsageError, match=re.escape(said)):
        plain.multiply_adds()


# ---- exported


class SelfAttention(nn.Module):
    def __init__(self, attention: nn.Module, **asked: Any) -> None:
        super().__init__()
        self.attention, self.asked = attention, asked

    def forward(self, x: Tensor) -> Any:
        y, weights = self.attention(x, x, x, **self.asked)
        return y if weights is None else (y, weights)


@pytest.mark.parametrize(
    ("projection", "opset", "asked"),
    [
        pytest.param(RADEMACHER, 20, {"need_weights": False}, id="prp"),
        pytest.param(
            CirculantLinear, 18, {"attn_mask": CAUSAL[:, :LENGTH]}, id="circulant-mask", marks=pytest.mark.slow
        ),
    ],
)
def test_it_exports_as_four_nodes(projection: Any, opset: int, asked: dict[str, Any], tmp_path: Path) -> None:
    """Batches other than the example's are compared by the exporter's own check, which reads torch's answers."""
    model, path = SelfAttention(make(projection).float(), **asked), tmp_path / "attention.onnx"
    report = export(model, torch.randn(2, LENGTH, 12), path, opset=opset)
    assert report.verified is not None
    assert report.layers == tuple(f"attention.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj"))
    written = onnx.load(path)
    assert sum(node.domain == "edgefc" for node in written.graph.node) == 4
    assert "Softmax" in {node.op_type for node in written.graph.node}


@pytest.mark.slow
def test_an_encoder_layer_exports(tmp_path: Path) -> None:
    block = encoder()
    block.self_attn = make(CirculantLinear, heads=2)  # type: ignore[assignment]
    report = export(block.float(), torch.randn(2, 5, 12), tmp_path / "block.onnx")
    assert report.verified is not None
    assert len(report.layers) == 4


# ---- the comparisons can fail


def test_swapped_projections_are_noticed() -> None:
    layer, x = make(), numbers(2, 4, 12)
    y = oracle(layer)(x, x, x)[0]
    layer.k_proj, layer.v_proj = layer.v_proj, layer.k_proj
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(x, x, x)[0], y, nmse=1e-20, what="swapped")

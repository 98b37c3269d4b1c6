"""What a checkpoint carries beside weights: the seed, which loading adopts, and the configuration, which it compares.

The right values are those of the layer that was saved, and of the seeded matrix in numpy.
"""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrize

import edgefc
from edgefc import generator
from edgefc.errors import UsageError
from edgefc.export import export
from edgefc.layers.common import seed_reading
from edgefc.layers.common.checkpoint import CONFIGURATION, SEED
from tests.support import layer_models as models

Make = Callable[..., Any]

LAYERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "circulant": (lambda **o: edgefc.CirculantLinear(8, 6, **o), (3, 8)),
    "frozen": (lambda **o: edgefc.CirculantLinear(8, 6, frozen=True, **o), (3, 8)),
    "circulant_conv": (lambda **o: edgefc.CirculantConv2d(4, 6, 3, **o), (2, 4, 5, 5)),
    "circulant_lstm": (lambda **o: edgefc.CirculantLSTM(8, 6, 2, **o), (3, 2, 8)),
    "prp": (lambda **o: edgefc.PRPLinear(8, 6, **o), (3, 8)),
    "hadamard": (lambda **o: edgefc.PRPLinear(8, 6, distribution="hadamard", **o), (3, 8)),
    "prp_conv": (lambda **o: edgefc.PRPConv2d(4, 6, 3, **o), (2, 4, 5, 5)),
    "prp_embedding": (lambda **o: edgefc.PRPEmbedding(8, 6, **o), (3, 2)),
    "eugen": (lambda **o: edgefc.EUGenLinear(8, 6, features=4, **o), (3, 8)),
    "attention": (lambda **o: edgefc.StructuredAttention(8, 2, edgefc.PRPLinear, batch_first=True, **o), (2, 3, 8)),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def made(kind: str, seed: int | None = None) -> nn.Module:
    layer: nn.Module = LAYERS[kind][0](seed=seed)
    return layer.eval()


def example(kind: str) -> Tensor:
    size = LAYERS[kind][1]
    return torch.arange(6).view(size) if kind == "prp_embedding" else torch.from_numpy(models.inputs(*size))


def answer(layer: nn.Module, x: Tensor) -> Tensor:
    """The first output of the layer."""
    y = layer(x, x, x, need_weights=False) if isinstance(layer, edgefc.StructuredAttention) else layer(x)
    first: Tensor = y[0] if isinstance(y, tuple) else y
    return first


def seed_tensors(layer: nn.Module) -> list[Tensor]:
    return [tensor for name, tensor in layer.named_buffers() if name.endswith(SEED)]


# ---- the seed


@every_layer
@pytest.mark.parametrize("assign", [False, True])
def test_loading_adopts_the_seed(kind: str, assign: bool) -> None:
    """After either layer has answered, so that whatever it keeps is of the other seed."""
    layer, other, x = made(kind, 1), made(kind, 2**64 - 1), example(kind)
    y = answer(layer, x)
    assert not torch.equal(answer(other, x), y)
    other.load_state_dict(copy.deepcopy(layer.state_dict()), assign=assign)
    assert torch.equal(answer(other, x), y)
    assert str(other) == str(layer)


@every_layer
def test_a_change_of_the_buffer_is_noticed(kind: str) -> None:
    """In place, through data, and by assignment; the buffer is the only source of the seed."""
    layer, other, x = made(kind, 1), made(kind, 2**64 - 3), example(kind)
    models.take_weights(other, layer)
    y, expected = answer(layer, x), answer(other, x)
    assert not torch.equal(y, expected)
    originals = [tensor.clone() for tensor in seed_tensors(layer)]
    for change in (
        lambda mine, theirs: mine.copy_(theirs),
        lambda mine, theirs: mine.data.copy_(theirs),
        lambda mine, theirs: setattr(mine, "data", theirs.clone()),
        lambda mine, theirs: mine.add_(theirs - mine),
    ):
        for wanted, values in ((expected, seed_tensors(other)), (y, originals)):
            for mine, theirs in zip(seed_tensors(layer), values, strict=True):
                change(mine, theirs)
            assert torch.equal(answer(layer, x), wanted)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_seed_is_stored_in_twos_complement(seed: int) -> None:
    layer = edgefc.PRPLinear(5, 4, seed=seed)
    stored = layer.state_dict()[SEED]
    assert (stored.dtype, stored.shape) == (torch.int64, ())
    assert int(stored.numpy().view(np.uint64)) == seed == layer.seed


def test_drawn_seeds_have_64_bits() -> None:
    """Each bit of 200 seeds is one in 60 to 140 of them: 5.6 standard deviations."""
    torch.manual_seed(0)
    seeds = [edgefc.CirculantLinear(1, 1).seed for _ in range(200)]
    counts = [sum(seed >> bit & 1 for seed in seeds) for bit in range(64)]
    assert 60 <= min(counts) <= max(counts) <= 140


def test_given_seeds_draw_nothing() -> None:
    """So that the weights of models with explicit seeds stay as they were."""
    torch.manual_seed(0)
    edgefc.CirculantLinear(4, 4, seed=1)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    nn.init.normal_(torch.empty(1, 1, 4))
    assert torch.equal(torch.get_rng_state(), after)


def test_seeds_can_be_set() -> None:
    layer = edgefc.CirculantLinear(4, 4, seed=1)
    layer.seed = 2**64 - 2
    assert int(layer.stored_seed) == -2
    with pytest.raises(UsageError, match=r"^seed must be an integer .* got -1"):
        layer.seed = -1
    with pytest.raises(UsageError, match=r"^seed must be an integer .* got '0'"):
        edgefc.CirculantLinear(4, 4, seed="0")  # type: ignore[arg-type]


def test_from_linear_draws_and_takes_seeds() -> None:
    linear = nn.Linear(6, 6)
    for fit in (edgefc.CirculantLinear, edgefc.PRPLinear, edgefc.EUGenLinear):
        assert fit.from_linear(linear).seed != fit.from_linear(linear).seed
        assert fit.from_linear(linear, seed=5).seed == 5


def test_within_a_tracer_the_seed_is_drawn_all_the_same() -> None:
    torch.manual_seed(0)
    with FakeTensorMode():
        traced = edgefc.CirculantLinear(4, 4)
    torch.manual_seed(0)
    assert traced.seed == edgefc.CirculantLinear(4, 4).seed


def test_behind_a_tracers_stand_in_the_buffer_is_read() -> None:
    """As it is now; where it was replaced and never read, nothing is guessed."""
    layer = edgefc.CirculantLinear(4, 4, seed=1)
    buffer = layer.stored_seed
    with FakeTensorMode() as mode:
        layer.stored_seed = mode.from_tensor(buffer)
        assert layer.seed == 1
    buffer.fill_(9)
    with mode:
        assert layer.seed == 9
        del buffer
        with pytest.raises(UsageError, match=r"^cannot read the seed of a layer during tracing"):
            _ = layer.seed


def test_an_accelerator_is_waited_for_after_changes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted on the CPU, with the mark that tensors of other devices have."""
    read: list[int] = []
    number = seed_reading._number
    monkeypatch.setattr(seed_reading, "_mark", lambda tensor: (tensor.data_ptr(), tensor._version))
    monkeypatch.setattr(seed_reading, "_number", lambda tensor: read.append(number(tensor)) or read[-1])
    layer, x = edgefc.PRPLinear(4, 4, seed=1), torch.ones(1, 4)
    for _ in range(3):
        layer(x)
    layer.stored_seed.fill_(2)
    layer(x)
    layer(x)
    layer.stored_seed.data = torch.tensor(3)
    layer(x)
    layer.load_state_dict({**layer.state_dict(), SEED: torch.tensor(4)})
    layer(x)
    layer(x)
    assert read == [1, 2, 3, 4]


# ---- the configuration

MISMATCHES = [
    (edgefc.PRPLinear, {"distribution": "gaussian"}, {"distribution": "rademacher"}, "distribution"),
    (edgefc.PRPLinear, {"rank": 0}, {"rank": 2}, "rank"),
    (edgefc.CirculantLinear, {"block": 4}, {"block": 8}, "block"),
    (edgefc.CirculantLinear, {"frozen": False}, {"frozen": True}, "frozen"),
    (edgefc.CirculantLSTM, {"gates": "torch"}, {"gates": "keras"}, "gates"),
    (edgefc.EUGenLinear, {"activation": "relu"}, {"activation": "gelu"}, "activation"),
    (edgefc.EUGenLinear, {"norm": True}, {"norm": False}, "norm"),
    (edgefc.EUGenLinear, {"projection": "random"}, {"projection": "orthogonal"}, "projection"),
    (edgefc.EUGenLinear, {"order": 2, "features": 8}, {"order": 1, "features": 16}, "features"),
    (edgefc.PRPEmbedding, {"distribution": "sparse"}, {"distribution": "uniform"}, "distribution"),
]


@pytest.mark.parametrize(("family", "mine", "theirs", "name"), MISMATCHES)
def test_another_configuration_is_refused_with_both_values(family: Any, mine: Any, theirs: Any, name: str) -> None:
    model, other = (nn.Sequential(family(8, 8, seed=1, **options)) for options in (mine, theirs))
    said = f"{name} is {mine[name]!r} in the layer and {theirs[name]!r} in the checkpoint"
    with pytest.raises(UsageError, match=re.escape(said)) as error:
        model.load_state_dict(other.state_dict())
    assert f"{name}={theirs[name]!r}" in str(error.value).partition("Build the layer with ")[2]
    with pytest.raises(UsageError, match=re.escape(said)):
        model.load_state_dict(other.state_dict(), strict=False, assign=True)


@pytest.mark.parametrize("family", [edgefc.PRPConv2d, edgefc.CirculantConv2d])
def test_convolutions_compare_their_windows(family: Any) -> None:
    layer, other = family(4, 4, 3, stride=2), family(4, 4, 3)
    with pytest.raises(UsageError, match=re.escape("stride is [2, 2] in the layer and [1, 1] in the checkpoint")):
        layer.load_state_dict(other.state_dict())


def test_sizes_that_the_shapes_do_not_show() -> None:
    """Without a bias one block of 8 serves 7 outputs and 8; the weight of an EUGen layer does not show its inputs."""
    layer, other = (edgefc.CirculantLinear(8, m, False) for m in (7, 8))
    with pytest.raises(UsageError, match=r"^the checkpoint does not match CirculantLinear: out_features is 7 in "):
        layer.load_state_dict(other.state_dict())
    with pytest.raises(UsageError, match="in_features is 9 in the layer and 8 in the checkpoint"):
        edgefc.EUGenLinear(9, 6).load_state_dict(edgefc.EUGenLinear(8, 6).state_dict())


def test_another_layer() -> None:
    said = "layer is 'PRPEmbedding' in the layer and 'PRPLinear' in the checkpoint"
    with pytest.raises(UsageError, match=f"^the checkpoint does not match PRPEmbedding: {said}"):
        edgefc.PRPEmbedding(8, 6).load_state_dict(edgefc.PRPLinear(8, 6).state_dict())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"format": 2},
            "the configuration of 0 in the checkpoint has format 2, but this version of edgefc reads "
            "formats up to 1. Update",
        ),
        (
            {"format": 1, "layer": "CirculantLinear", "twist": 3},
            "twist is not set in the layer and 3 in the checkpoint",
        ),
        ([1], "cannot read the configuration of 0 in the checkpoint."),
        (b"\xff\xfe", "cannot read the configuration of 0 in the checkpoint."),
        (b"[" * 100_000, "cannot read the configuration of 0 in the checkpoint."),
    ],
)
def test_configurations_that_this_version_cannot_read(content: Any, said: str) -> None:
    model = nn.Sequential(edgefc.CirculantLinear(4, 4))
    state = model.state_dict()
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    if isinstance(content, dict) and "layer" in content:
        own = json.loads(bytes(state[f"0.{CONFIGURATION}"].tolist()))
        text = json.dumps({**own, **content}).encode()
    state[f"0.{CONFIGURATION}"] = torch.tensor(list(text), dtype=torch.uint8)
    with pytest.raises(UsageError, match=re.escape(said)):
        model.load_state_dict(state)


@pytest.mark.parametrize("value", [torch.tensor(3.0), torch.tensor([1, 2]), torch.tensor(3, dtype=torch.int32)])
def test_seeds_that_another_dtype_has_rounded(value: Tensor) -> None:
    layer = edgefc.CirculantLinear(4, 4)
    said = (
        f"the seed of CirculantLinear in the checkpoint must be one torch.int64 value, got {value.dtype} of "
        f"shape {tuple(value.shape)}"
    )
    with pytest.raises(UsageError, match=re.escape(said)):
        layer.load_state_dict({**layer.state_dict(), SEED: value})


# ---- checkpoints from before seeds were stored


@every_layer
def test_without_a_seed_only_a_chosen_one_will_do(kind: str) -> None:
    state, x = models.weights(made(kind, 5)), example(kind)
    chosen = made(kind, 5)
    with pytest.warns(
        UserWarning,
        match=r"^the checkpoint has no seed for \S+\. The layer keeps the seed .* with, "
        r"\d+",
    ):
        assert str(chosen.load_state_dict(state)) == "<All keys matched successfully>"
    expected = made(kind, 5)
    models.take_weights(expected, chosen)
    assert torch.equal(answer(chosen, x), answer(expected, x))
    drawn = made(kind)
    drawn.load_state_dict(made(kind, 5).state_dict())  # a seed that was adopted since is of another checkpoint
    with pytest.raises(UsageError, match=r"^the checkpoint has no seed for \S+, and the layer was built without one\."):
        drawn.load_state_dict(state)


def test_other_layers_of_a_model_do_not_ask_for_seeds() -> None:
    """strict=False with the weights of the dense layer alone."""
    model = nn.Sequential(edgefc.CirculantLinear(4, 4), nn.Linear(4, 4))
    told = model.load_state_dict({"1.weight": torch.zeros(4, 4)}, strict=False)
    assert f"0.{SEED}" in told.missing_keys
    with pytest.raises(RuntimeError, match=f'"0.{SEED}"'):
        model.load_state_dict({"1.weight": torch.zeros(4, 4), "1.bias": torch.zeros(4)})


# ---- the tools that state dicts pass through


def test_files_of_safetensors_and_torch(tmp_path: Path) -> None:
    layer, x = edgefc.PRPLinear(8, 6), torch.from_numpy(models.inputs(3, 8))
    save_file(layer.state_dict(), tmp_path / "w.safetensors")
    torch.save(layer.state_dict(), tmp_path / "w.pt")
    for state in (load_file(tmp_path / "w.safetensors"), torch.load(tmp_path / "w.pt", weights_only=True)):
        other = edgefc.PRPLinear(8, 6)
        other.load_state_dict(state)
        assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "attention"])  # it takes its input three times
def test_models_of_several_seeds_at_once(kind: str) -> None:
    """torch.func: the seeds are buffers that are handed in, one set for each model."""
    a, b, x = made(kind, 1), made(kind, 2), example(kind)
    with torch.no_grad():
        numbers, buffers = torch.func.stack_module_state([a, b])  # type: ignore[arg-type]
        base = copy.deepcopy(a).to("meta")

        def one(numbers: Any, buffers: Any) -> Tensor:
            y = torch.func.functional_call(base, (numbers, buffers), (x,))
            first: Tensor = y[0] if isinstance(y, tuple) else y
            return first

        both = torch.func.vmap(one)(numbers, buffers)
        for y, layer in zip(both, (a, b), strict=True):
            torch.testing.assert_close(y, answer(layer, x), rtol=1e-4, atol=1e-6)
        swapped = torch.func.functional_call(a, dict(b.state_dict()), (x,))
        torch.testing.assert_close(swapped[0] if isinstance(swapped, tuple) else swapped, answer(b, x))


@pytest.mark.slow
def test_compiled_programs_follow_the_buffer() -> None:
    """One program without breaks, which takes the seed as an input: it is right after a change in place."""
    model = nn.Sequential(edgefc.CirculantLinear(8, 8, frozen=True, seed=1), edgefc.PRPLinear(8, 8, seed=1))
    other = copy.deepcopy(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.from_numpy(models.inputs(3, 8))
    torch.testing.assert_close(compiled(x), other(x))
    with torch.no_grad():
        for changed in (model, other):
            for tensor in seed_tensors(changed):
                tensor.fill_(-9)
    torch.testing.assert_close(compiled(x), other(x))


def test_a_program_of_torch_export_loads_another_seed() -> None:
    layer, other = edgefc.PRPLinear(8, 6, seed=1), edgefc.PRPLinear(8, 6, seed=2)
    x = torch.from_numpy(models.inputs(3, 8))
    program = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(program(x), layer(x))
    program.load_state_dict(other.state_dict())
    torch.testing.assert_close(program(x), other(x))


def test_parametrized_weights_keep_the_seed_beside_them() -> None:
    layer, x = edgefc.CirculantLinear(8, 6, seed=3), torch.from_numpy(models.inputs(3, 8))
    parametrize.register_parametrization(layer, "kernel", nn.Identity())
    other = edgefc.CirculantLinear(8, 6)
    parametrize.register_parametrization(other, "kernel", nn.Identity())
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


def test_inference_mode() -> None:
    """A layer that inference mode made, moved or loaded counts no versions and is right all the same."""
    with torch.inference_mode():
        layer, other = edgefc.PRPLinear(8, 6, seed=1).double(), edgefc.PRPLinear(8, 6, seed=2).double()
        other.load_state_dict(copy.deepcopy(layer.state_dict()), assign=True)
        x = torch.from_numpy(models.inputs(3, 8)).double()
        assert torch.equal(other(x), layer(x))
        other.stored_seed.fill_(2)
        assert other.seed == 2
        assert not torch.equal(other(x), layer(x))


# ---- exported files


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "prp" else pytest.mark.slow) for kind in LAYERS]
)
def test_the_file_has_the_seed_of_the_buffer_and_no_other_numbers(kind: str, tmp_path: Path) -> None:
    """In a model, after loading: the same bytes as of a layer that was built with that seed."""
    seed = 2**64 - 5
    loaded, built, x = made(kind, 4), made(kind, seed), example(kind)
    loaded.load_state_dict(built.state_dict())
    files = []
    for index, layer in enumerate((loaded, built)):
        model = _Inner(layer)
        files.append(tmp_path / f"{index}.onnx")
        export(model, x, files[-1], verify=index == 0)
    graph = onnx.load(files[0]).graph
    nodes = [node for node in graph.node if node.domain == "edgefc"]
    attributes = [a.i for node in nodes for a in node.attribute if a.name in ("seed", "sign_seed")]
    assert attributes == [int(tensor) for tensor in seed_tensors(built)]
    assert not [tensor.name for tensor in graph.initializer if SEED in tensor.name or CONFIGURATION in tensor.name]
    assert {tensor.data_type for tensor in graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    assert files[0].read_bytes() == files[1].read_bytes()


class _Inner(nn.Module):
    """A layer deep within a model that gives one output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"layer": layer})

    def forward(self, x: Tensor) -> Tensor:
        return answer(self.inner["layer"], x) + 1


def test_the_matrix_of_an_adopted_seed_is_the_generators() -> None:
    """Against numpy: the seed that was loaded, and not one that was merely stored."""
    layer, other = edgefc.PRPLinear(8, 6, False), edgefc.PRPLinear(8, 6, False, seed=11)
    layer.load_state_dict(other.state_dict())
    p = generator.matrix(11, 6, 8, "gaussian").astype(np.float64) / np.sqrt(8)
    w, alpha = (scale.detach().double().numpy() for scale in (layer.out_scale, layer.in_scale))
    np.testing.assert_allclose(layer.dense().numpy(), w[:, None] * p * alpha, rtol=1e-5)


def _moving(new: Tensor, old: Tensor) -> Tensor:
    return old * 0.9 + new * (1 - 0.9)


@pytest.mark.parametrize("how", ["ema", "swa", "every entry"])
def test_averaged_buffers_are_refused(how: str) -> None:
    """Averages of all buffers give other numbers than seeds: no layer computes with them."""
    model = nn.Sequential(edgefc.CirculantLinear(8, 8), nn.ReLU(), edgefc.PRPLinear(8, 8))
    if how == "every entry":
        average: nn.Module = copy.deepcopy(model)
        with torch.no_grad():
            for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                old.copy_(_moving(new, old))
    else:
        function = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9) if how == "ema" else None
        average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=function, use_buffers=True)
        for _ in range(3):
            average.update_parameters(model)
    with pytest.raises(UsageError, match=r"were averaged or rounded: .*use_buffers=False"):
        average(torch.randn(2, 8))


def test_averaged_parameters_keep_the_seed() -> None:
    model = nn.Sequential(edgefc.CirculantLinear(8, 8), nn.ReLU(), edgefc.PRPLinear(8, 8))
    average = torch.optim.swa_utils.AveragedModel(model)
    for _ in range(3):
        average.update_parameters(model)
    x = torch.randn(2, 8)

    torch.testing.assert_close(average(x), model(x))

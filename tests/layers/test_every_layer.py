"""What every layer of the catalogue keeps, whatever its family: copies, state dicts, compilation, training, export."""

import copy
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor

from edgefc.catalogue import Called, Entry, entries
from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.layers.common.checkpoint import Seeded
from edgefc.layers.common.stored import stored_numbers
from edgefc.testing import assert_close

WIDTH = 12
every_layer = pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.name) for entry in entries()])


def made(entry: Entry) -> tuple[torch.nn.Module, Tensor]:
    """A small layer of the entry with numbers that are not its start, in eval mode, and an input."""
    torch.manual_seed(0)
    layer = entry.make(WIDTH)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer.eval(), entry.example(WIDTH)


@every_layer
def test_stands_where_the_dense_layer_stood(entry: Entry) -> None:
    """The same input gives an output of the same shape and dtype."""
    layer, x = made(entry)
    dense = entry.dense(WIDTH)
    y, expected = entry.call(layer, x), entry.call(dense, x)
    assert y.shape == expected.shape
    assert y.dtype == expected.dtype
    assert torch.isfinite(y).all()


@every_layer
def test_a_model_of_drawn_seeds_is_reproduced_by_manual_seed(entry: Entry) -> None:
    """And its layers differ: in their seeds, where they have seeds."""
    torch.manual_seed(7)
    first, second = entry.make(WIDTH), entry.make(WIDTH)
    torch.manual_seed(7)
    again = entry.make(WIDTH)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert str(again) == str(first)
    seeds = [*seeds_of(first), *seeds_of(second)]
    assert len(set(seeds)) == len(seeds)


@every_layer
def test_conversions_leave_the_seed_alone(entry: Entry) -> None:
    """And the answers, as far as float64 keeps those of float32; type() casts every tensor that it is given."""
    layer, x = made(entry)
    y = entry.call(layer, x)
    seeds = seeds_of(layer)
    for convert in (torch.nn.Module.half, torch.nn.Module.bfloat16, torch.nn.Module.double):
        assert seeds_of(convert(copy.deepcopy(layer))) == seeds
    if x.is_floating_point():
        typed = copy.deepcopy(layer).type(torch.float64)
        assert seeds_of(typed) == seeds
        assert_close(entry.call(typed, x.double()), y, nmse=1e-9, what="type")


@every_layer
def test_to_empty_restores_the_seed(entry: Entry) -> None:
    """That of the constructor, whatever was loaded; drawn on the CPU although the layer is on the meta device."""
    torch.manual_seed(3)
    with torch.device("meta"):
        layer = entry.make(WIDTH)
    seeds = seeds_of(layer)
    torch.manual_seed(4)
    if seeds:
        layer.load_state_dict(entry.make(WIDTH).state_dict(), assign=True)
        assert seeds_of(layer) != seeds
    for device in ("meta", "cpu"):
        layer.to_empty(device=device)
        assert seeds_of(layer) == seeds
    layer.load_state_dict(layer.state_dict())  # the configurations are back, too


@every_layer
@pytest.mark.slow
def test_safetensors(entry: Entry, tmp_path: Path) -> None:
    """save_model and load_model, between layers of other seeds."""
    layer, x = made(entry)
    torch.manual_seed(1)
    fresh = entry.make(WIDTH).eval()
    save_model(layer, str(tmp_path / "m.safetensors"))
    assert load_model(fresh, tmp_path / "m.safetensors") == (set(), [])
    assert torch.equal(entry.call(fresh, x), entry.call(layer, x))


def seeds_of(model: torch.nn.Module) -> list[int]:
    return [part.seed for part in model.modules() if isinstance(part, Seeded)]


@every_layer
def test_copies_answer_alike(entry: Entry) -> None:
    """Deep copy, pickle, torch.save, and a fresh layer that loads the state dict."""
    layer, x = made(entry)
    y = entry.call(layer, x)
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    torch.manual_seed(1)
    fresh = entry.make(WIDTH).eval()
    assert not torch.equal(entry.call(fresh, x), y)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    others = {"copy": copy.deepcopy(layer), "pickle": pickle.loads(pickle.dumps(layer)), "state dict": fresh}
    for name, other in others.items():
        assert torch.equal(entry.call(other, x), y), name


@every_layer
def test_a_layer_without_memory_takes_what_is_loaded(entry: Entry) -> None:
    """Built on the meta device and given its numbers with assign=True: what is not stored is drawn beside them."""
    layer, x = made(entry)
    layer.double()
    with torch.device("meta"):
        fresh = entry.make(WIDTH).eval()
    fresh.load_state_dict(layer.state_dict(), assign=True)
    x = x.double() if x.is_floating_point() else x
    assert torch.equal(entry.call(fresh, x), entry.call(layer, x))


@every_layer
def test_trains(entry: Entry) -> None:
    """Every parameter gets a gradient that is finite and not all zero, and a step changes the answer."""
    layer, x = made(entry)
    layer.train()
    y = entry.call(layer, x)
    if not trainable(layer):
        assert not y.requires_grad
        return
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any() or _has_no_effect(name), name


def trainable(layer: torch.nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in layer.parameters())


def _has_no_effect(name: str) -> bool:
    """A bias of the keys moves all scores of a query alike, which softmax forgets."""
    return name in ("k_proj.bias", "key.bias", "k.bias")


@every_layer
def test_an_empty_batch_trains_too(entry: Entry) -> None:
    """No rows give no rows, and gradients of zeros: what is left of a batch must not stop a training."""
    layer, x = made(entry)
    y = entry.call(layer, x[:0])
    assert y.shape == (0, *entry.call(layer, x).shape[1:])
    if trainable(layer):
        y.sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@every_layer
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's attention under vmap
def test_parameters_handed_in(entry: Entry) -> None:
    """torch.func: parameters and inputs that are handed in, each set or each row at a time, count and are not kept."""
    layer, x = made(entry)
    model, other = Called(entry, layer), Called(entry, made(entry)[0])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    numbers, buffers = torch.func.stack_module_state([model, other])

    def loss(numbers: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        answer: Tensor = torch.func.functional_call(model, (numbers, buffers), (x,))
        return answer.square().mean()

    gradients = torch.func.vmap(torch.func.grad(loss))(numbers, buffers)
    for index, one in enumerate((model, other) if trainable(layer) else ()):
        one(x).square().mean().backward()
        for name, parameter in one.named_parameters():
            assert parameter.grad is not None
            if parameter.grad.abs().max() > 1e-7:
                assert_close(gradients[name][index], parameter.grad, nmse=1e-9, what=name)
    pickle.dumps(layer)


@every_layer
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's attention under vmap
def test_inputs_one_by_one(entry: Entry) -> None:
    """torch.func.vmap over a batch of inputs."""
    layer, x = made(entry)
    model = Called(entry, layer)
    assert_close(torch.func.vmap(model)(torch.stack([x, x]))[1], model(x), nmse=1e-10, what="vmap")


@every_layer
def test_memory_formats(entry: Entry) -> None:
    """model.to(memory_format=...), which convolutional models are given, and back."""
    layer, x = made(entry)
    y = entry.call(layer, x)
    moved = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    assert_close(entry.call(moved.double().float(), x), y, nmse=1e-10, what="channels last")


@every_layer
def test_autocast(entry: Entry) -> None:
    layer, x = made(entry)
    plain = entry.call(layer, x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = entry.call(layer, x)
    assert_close(y.float(), plain, nmse=3e-3, what="autocast")


@every_layer
@pytest.mark.slow
def test_compiles(entry: Entry) -> None:
    """torch.compile, for two batch sizes, gives the answers of the layer itself."""
    layer, x = made(entry)
    compiled = torch.compile(Called(entry, layer), backend="aot_eager")
    for rows in (x, torch.cat([x, x, x])):
        assert_close(compiled(rows), entry.call(layer, rows), nmse=1e-12, what="compiled")


@every_layer
@pytest.mark.slow
def test_exports(entry: Entry, tmp_path: Path) -> None:
    """One file, checked against torch with other batches than the example's, its layers listed with fewer numbers."""
    layer, x = made(entry)
    report = export(Called(entry, layer), x, tmp_path / "m.onnx")
    assert report.verified is not None
    result = inspect(tmp_path / "m.onnx")
    if report.layers:
        assert [one.name for one in result.layers] == list(report.layers)
        assert all(one.shape and (one.dense or one.op == "HadamardRotation") for one in result.layers)
    size = stored_numbers(layer)
    stored = sum(one.stored for one in result.layers) + result.other_numbers
    assert stored <= 1.5 * size + 64 or "orthogonal" in entry.name or "frozen" in entry.name
    assert np.prod(x.shape) > 0

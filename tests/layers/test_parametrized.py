"""Weights that torch computes before each use, in structured layers: exported by what they are at that moment."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import edgefc
from edgefc.catalogue import Called, Entry, entries
from edgefc.errors import ExportError
from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.export.verifying.int8 import round_no_inputs
from edgefc.export.verifying.measures import all_nodes, load, rounds_inputs
from edgefc.layers.common.effective import effective_tensors
from edgefc.layers.common.onnx_node import layer_node
from edgefc.runtime import Session
from edgefc.testing import assert_close, layer_model, run_onnxruntime


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


class MyCirculant(edgefc.CirculantLinear):
    """A subclass that keeps its parent's forward."""


class Halved(edgefc.CirculantLinear):
    """A subclass with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


def old_weight_norm(layer: nn.Module, name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed: nn.Module = torch.nn.utils.weight_norm(layer, name, dim=None)
    return normed


def pruned(layer: nn.Module, name: str) -> nn.Module:
    prune.l1_unstructured(layer, name, amount=0.3)  # type: ignore[no-untyped-call]
    return layer


def doubled(layer: nn.Module, *names: str) -> nn.Module:
    for name in names:
        parametrize.register_parametrization(layer, name, Doubled())
    return layer


C, B, E, P = edgefc.CirculantLinear, edgefc.BilinearLinear, edgefc.EUGenLinear, edgefc.PRPLinear
MADE: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "pruned": (lambda: pruned(C(16, 16), "kernel"), 32),
    "normed": (lambda: parametrizations.weight_norm(C(16, 16), name="kernel", dim=None), 32),
    "normed by a hook": (lambda: old_weight_norm(C(16, 16), "kernel"), 32),
    "circulant": (lambda: doubled(C(16, 16), "kernel", "bias"), 32),
    "frozen": (lambda: doubled(C(16, 16, frozen=True), "kernel", "bias"), 32),
    "spectral": (lambda: parametrizations.spectral_norm(E(16, 16, features=4), name="weight"), 80),
    "bilinear": (lambda: doubled(B(16, 16), "left"), 48),
    "prp": (lambda: doubled(P(16, 16), "in_scale"), 48),
    "orthogonal": (lambda: parametrizations.orthogonal(E(16, 16, features=4), name="weight"), 80),
    "subclass": (lambda: MyCirculant(16, 16), 32),
    "subclass with a forward": (lambda: doubled(Halved(16, 16), "kernel"), 32),
}


def state_of(model: nn.Module) -> list[Any]:
    """Everything that a module is made of, modules by their class and tensors by their bytes."""
    return [
        (name, type(module), sorted(vars(module)), list(module._forward_pre_hooks), [
            (key, type(value), value.numpy(force=True).tobytes())
            for kind in (module._parameters, module._buffers) for key, value in kind.items() if value is not None
        ])
        for name, module in model.named_modules()
    ]  # fmt: skip


@pytest.mark.slow
def test_files_compute_what_torch_computes_and_store_each_weight_once(tmp_path: Path) -> None:
    """All kinds in one model, by the kernels and without; the model is left as it was."""
    torch.manual_seed(0)
    model = nn.Sequential(*(make() for make, _ in MADE.values()), parametrizations.orthogonal(nn.Linear(16, 16)))
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model(torch.randn(2, 16))  # hooks compute their weights
    before = state_of(model)
    export(model, torch.randn(2, 16), tmp_path / "model.onnx", verify=False)
    assert state_of(model) == before
    x = torch.randn(5, 16)
    with torch.no_grad():
        expected = model.eval()(x)
    for native in ("off", "auto"):
        result = Session(tmp_path / "model.onnx", native=native).run({"input": x.numpy()})["output"]
        assert_close(result, expected, nmse=1e-11, what=native)
    inspection = inspect(tmp_path / "model.onnx")
    assert [layer.stored for layer in inspection.layers] == [stored for _, stored in MADE.values()]
    assert inspection.other_numbers == 16 * 17 + 1  # the dense layer's, and the 2 of Halved


def one_node(entry: Entry) -> bool:
    """Attention shows several, and LSTMs turn axes around theirs."""
    return not any(word in entry.name for word in ("Attention", "LSTM", "rank", "rotated", "Corrected"))


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.name) for entry in entries() if one_node(entry)])
def test_every_layer_shows_its_op_and_its_computed_weights(entry: Entry) -> None:
    torch.manual_seed(0)
    layer, x = entry.make(12).eval(), entry.example(12)
    name = type(layer).__name__
    for module in list(layer.modules()):
        for key in list(module._parameters):
            if module._parameters[key] is not None:
                doubled(module, key)
    if parametrize.is_parametrized(layer):
        assert type(layer).__name__ == f"Parametrized{name}"
    with torch.no_grad():
        y = layer(x)
    y = y[0] if isinstance(y, tuple) else y
    assert not torch.equal(y, torch.zeros_like(y))
    file = layer_model(layer, x)
    round_no_inputs(file)
    result = run_onnxruntime(file, x.numpy())
    assert_close(result[0] if isinstance(result, list) else result, y, nmse=1e-10, what=name)


def test_a_layer_of_a_user_is_named_by_the_class_that_has_its_forward() -> None:
    class Mine(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return layer_node(self, x, (self.weight,), {}, x.shape)

    class Kept(Mine):
        pass

    for layer in (Mine(4, 4), Kept(4, 4), doubled(Kept(4, 4), "weight")):
        with pytest.raises(ExportError, match="is a Mine, which has no ONNX form"):
            layer_model(layer, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry", {type(entry.make(12)): pytest.param(entry, id=entry.name) for entry in entries()}.values()
)
def test_every_layer_exports_with_computed_weights(entry: Entry, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer, x = entry.make(12).eval(), entry.example(12)
    for module in list(layer.modules()):
        for key in list(module._parameters):
            if module._parameters[key] is not None:
                doubled(module, key)
    model, plain = Called(entry, layer), tmp_path / "plain.onnx"
    export(model, (x,), tmp_path / "model.onnx")
    export(Called(entry, entry.make(12).eval()), (x,), plain)
    with torch.no_grad():
        y = model(x)
    for native in ("off", "auto"):
        (result,) = Session(tmp_path / "model.onnx", native=native).run({"x": x.numpy()}).values()
        rounds = any(rounds_inputs(node) for node in all_nodes(load(tmp_path / "model.onnx")))
        assert_close(result, y, nmse=1e-3 if rounds else 1e-9, what=native)
    stored = [[(one.op, one.stored) for one in inspect(path).layers] for path in (tmp_path / "model.onnx", plain)]
    assert stored[0] == stored[1]


def test_an_exporter_that_fails_leaves_the_weights_computed(tmp_path: Path) -> None:
    class Refuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = pruned(doubled(C(4, 4), "bias"), "kernel")

        def forward(self, x: Tensor) -> Tensor:
            if torch.onnx.is_in_onnx_export():
                raise RuntimeError("no")
            y: Tensor = self.layer(x)
            return y

    model = Refuses()
    before, handle = state_of(model), next(iter(model.layer._forward_pre_hooks))
    with pytest.raises(edgefc.errors.EdgefcError):
        export(model, torch.randn(2, 4), tmp_path / "model.onnx")
    assert state_of(model) == before
    assert handle in model.layer._forward_pre_hooks


def test_copies_and_changes_of_dtype_of_a_frozen_layer_with_a_computed_bias() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6)
    for names in (("bias",), ("bias", "kernel")):
        layer = doubled(C(6, 5, frozen=True), *names)
        expected = layer(x)
        assert torch.equal(copy.deepcopy(layer)(x), expected)
        assert_close(layer.double()(x.double()), expected, nmse=1e-12, what=str(names))
        twin = doubled(C(6, 5, frozen=True), *names)
        twin.load_state_dict(layer.float().state_dict())
        assert torch.equal(twin(x), layer(x))


def test_a_power_iteration_does_not_advance() -> None:
    layer = parametrizations.spectral_norm(E(16, 16, features=4), name="weight").train()
    before = state_of(layer)
    computed = effective_tensors(layer)["weight"]
    assert state_of(layer) == before
    assert all(module.training for module in layer.modules())
    assert torch.equal(layer.eval().weight, computed)


def test_merging_computed_weights() -> None:
    torch.manual_seed(0)
    layer, following, x = doubled(E(6, 5, features=4), "bias", "weight"), nn.Linear(5, 3), torch.randn(2, 6)
    expected = following(layer(x))
    merged = layer.merge(following)  # type: ignore[operator]
    assert_close(merged(x), expected, nmse=1e-12, what="merged")
    assert_close(following(layer(x)), expected, nmse=0.0, what="unchanged")
    assert merged.weight.requires_grad

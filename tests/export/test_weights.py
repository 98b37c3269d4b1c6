"""Weights files as people save them: names that wrappers change, shared tensors, shards; and values that cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from edgefc import CirculantLinear
from edgefc.errors import UsageError
from edgefc.export.model.weights import load_weights


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(CirculantLinear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


class Tied(nn.Module):
    """Input and output embedding are one weight, as in GPT-2, and two layers share a kernel."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed, self.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
        self.first, self.second = CirculantLinear(8, 8), CirculantLinear(8, 8)
        self.head.weight = self.embed.weight
        self.second.kernel = self.first.kernel

    def forward(self, ids: Tensor) -> Tensor:
        result: Tensor = self.head(self.second(self.first(self.embed(ids)).relu()))
        return result


class Nested(nn.Module):
    """A part of it is compiled."""

    def __init__(self, seed: int = 0, *, compiled: bool = False) -> None:
        super().__init__()
        part = net(seed)
        self.encoder = torch.compile(part) if compiled else part
        self.last = nn.Linear(3, 2)


def saved(state: Any, folder: Path, name: str = "w.pt") -> Path:
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def refused(model: nn.Module, path: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load_weights(model, path, **options)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".") and str(path) in str(caught.value)
    return str(caught.value)


def test_one_name_of_shared_tensors_is_enough(tmp_path: Path) -> None:
    """safetensors.torch.save_model keeps one."""
    trained, model = Tied(1), Tied()
    save_model(trained, str(tmp_path / "w.safetensors"))

    notes = load_weights(model, tmp_path / "w.safetensors")

    assert same(model, trained) and model.head.weight is model.embed.weight
    assert sorted(notes) == [
        "head.weight was set to embed.weight, with which it shares memory",
        "second.kernel was set to first.kernel, with which it shares memory",
    ]
    assert load_weights(model, saved(trained.state_dict(), tmp_path)) == []


def test_shared_tensors_of_two_values_do_not_fit(tmp_path: Path) -> None:
    state = {**Tied(1).state_dict(), "head.weight": Tied(2).head.weight.data}

    assert "embed.weight and head.weight are one tensor in the model" in refused(Tied(), saved(state, tmp_path))


def test_a_tensor_with_no_name_in_the_file_is_missing(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in Tied(1).state_dict().items() if "kernel" not in name}

    assert "it lacks first.kernel, second.kernel. " in refused(Tied(), saved(state, tmp_path))


WRAPPED: dict[str, tuple[Callable[[nn.Module], Any], list[str]]] = {
    "parallel": (lambda m: nn.DataParallel(m).state_dict(), ["removed the prefix 'module.' from every name"]),
    "compiled": (
        lambda m: torch.compile(m).state_dict(),  # type: ignore[attr-defined]
        ["removed '_orig_mod.', which torch.compile adds, from the names"],
    ),
    "compiled-in-parallel": (
        lambda m: nn.DataParallel(torch.compile(m)).state_dict(),  # type: ignore[arg-type]
        [
            "removed '_orig_mod.', which torch.compile adds, from the names",
            "removed the prefix 'module.' from every name",
        ],
    ),
    "lightning": (
        lambda m: {"epoch": 3, "state_dict": {f"model.{name}": tensor for name, tensor in m.state_dict().items()}},
        ["read the state dict under the key 'state_dict'", "removed the prefix 'model.' from every name"],
    ),
    "timm": (lambda m: {"model": m.state_dict(), "arch": "net"}, ["read the state dict under the key 'model'"]),
    "tutorial": (
        lambda m: {"model_state_dict": m.state_dict(), "optimizer_state_dict": {"state": {}}},
        ["read the state dict under the key 'model_state_dict'"],
    ),
    "plain": (lambda m: m.state_dict(), []),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_what_wrappers_do_to_names_is_undone(tmp_path: Path, kind: str) -> None:
    wrap, said = WRAPPED[kind]
    trained, model = net(1), net()

    notes = load_weights(model, saved(wrap(trained), tmp_path))

    assert same(model, trained) and notes == said


def test_the_model_can_be_the_wrapped_one(tmp_path: Path) -> None:
    trained = net(1)
    path = saved(trained.state_dict(), tmp_path)

    for wrap, said in (
        (nn.DataParallel, ["added the prefix 'module.' to every name"]),
        (torch.compile, []),
        (lambda m: torch.compile(nn.DataParallel(m)), ["added the prefix 'module.' to every name"]),
    ):
        model = net()
        assert load_weights(wrap(model), path) == said and same(model, trained)  # type: ignore[operator]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_part_can_be_compiled(tmp_path: Path, compiled: bool) -> None:
    trained, model = Nested(1, compiled=not compiled), Nested(compiled=compiled)

    load_weights(model, saved(nn.DataParallel(trained).state_dict(), tmp_path))

    assert same(model, trained)


def test_no_prefix_makes_another_model_fit(tmp_path: Path) -> None:
    assert "it lacks 0.bias, 0.kernel, 1.bias and 5 more" in refused(net(), saved(Tied().state_dict(), tmp_path))


def test_other_pickle_protocols_load_without_a_warning(tmp_path: Path) -> None:
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "w.pt", pickle_protocol=3)

    assert load_weights(nn.Linear(4, 3), tmp_path / "w.pt") == []


def test_why_torch_refuses_a_file_is_shown_without_its_advice(tmp_path: Path) -> None:
    """torch's text starts with how to load any file, code included."""
    torch.save(nn.Linear(4, 3), tmp_path / "w.pt")

    with pytest.raises(UsageError, match=r"w\.pt: Unsupported global: GLOBAL torch\.nn\.modules\.linear\.Linear"):
        load_weights(nn.Linear(4, 3), tmp_path / "w.pt")


def test_two_state_dicts_are_one_too_many(tmp_path: Path) -> None:
    state = {"state_dict": net(1).state_dict(), "model": net(2).state_dict()}

    assert "contains state dicts under state_dict, model" in refused(net(), saved(state, tmp_path))


def test_shards(tmp_path: Path) -> None:
    trained, model = net(1), net()
    state = trained.state_dict()
    for part in (0, 1):
        saved(
            {name: t for at, (name, t) in enumerate(state.items()) if at % 2 == part}, tmp_path, f"{part}.safetensors"
        )
    index, places = (
        tmp_path / "model.safetensors.index.json",
        {n: f"{at % 2}.safetensors" for at, n in enumerate(state)},
    )
    index.write_text(json.dumps({"weight_map": places}))

    assert load_weights(model, index) == [] and same(model, trained)

    for changed, said in (
        ({**places, "x": "1.safetensors"}, "lists x, which no shard contains"),
        ({**places, "x": "2.safetensors"}, "names the file '2.safetensors', which is not in its folder"),
        ({**places, "x": "../w.safetensors"}, "names the file '../w.safetensors', which is not in its folder"),
    ):
        index.write_text(json.dumps({"weight_map": changed}))
        assert said in refused(net(), index)
    for text in ("", "{}", "[1]", '{"weight_map": 3}'):
        index.write_text(text)
        assert "cannot read weights from" in refused(net(), index)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_floating_types_are_converted_and_reported(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    trained, model = net(1), net()
    state = {key: t.to(dtype) if t.is_floating_point() else t for key, t in trained.state_dict().items()}

    notes = load_weights(model, saved(state, tmp_path, name))

    assert [note.partition(" from ")[2] for note in notes] == [f"{str(dtype).removeprefix('torch.')} to float32"]
    assert "and 5 more" in notes[0]
    assert all(torch.equal(t.to(state[key].dtype), state[key]) for key, t in model.state_dict().items())


NAN, INF = float("nan"), float("inf")

REFUSED: dict[str, tuple[str, Callable[[], Any], str]] = {
    "complex": ("3.bias", lambda: torch.zeros(3, dtype=torch.complex64), "is complex64, but the model has float32"),
    "integer": ("3.bias", lambda: torch.zeros(3, dtype=torch.int64), "is int64, but the model has float32"),
    "bool": ("3.bias", lambda: torch.zeros(3, dtype=torch.bool), "is bool, but the model has float32"),
    "float": ("1.num_batches_tracked", lambda: torch.tensor(2.0), "is float32, but the model has int64"),
    "beyond": ("3.bias", lambda: torch.tensor([0, 1e300, 0], dtype=torch.float64), "is float64 and contains 1e+300"),
    "nan": ("3.bias", lambda: torch.tensor([0, NAN, 0]), "has 1 of 3 values that are not finite, such as nan"),
    "infinite": ("3.bias", lambda: torch.full((3,), -INF), "has 3 of 3 values that are not finite, such as -inf"),
    "sparse": ("3.bias", lambda: torch.ones(3).to_sparse(), "is sparse (sparse_coo). Save tensor.to_dense()"),
    "csr": ("3.weight", lambda: torch.ones(3, 8).to_sparse_csr(), "is sparse (sparse_csr)"),
    "meta": ("3.bias", lambda: torch.zeros(3, device="meta"), "is on the meta device and has no values"),
    "quantised": (
        "3.bias", lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "Save tensor.dequantize()",
    ),
    "list": ("3.bias", lambda: [0.0, 0.0, 0.0], "contains list for 3.bias, not a tensor"),
    "shape": ("3.bias", lambda: torch.zeros(4), "it has other shapes for 3.bias (4, not 3)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.filterwarnings("ignore:.*quantize", "ignore:TypedStorage")
def test_values_that_loading_would_change_are_refused(tmp_path: Path, case: str) -> None:
    name, value, said = REFUSED[case]

    message = refused(net(), saved({**net(1).state_dict(), name: value()}, tmp_path))

    assert said in message and name in message


def test_numbers_that_are_not_finite_load_when_asked(tmp_path: Path) -> None:
    state = {**net(1).state_dict(), "3.bias": torch.tensor([0, float("nan"), float("inf")])}
    model = net()

    load_weights(model, saved(state, tmp_path), allow_nonfinite=True)

    assert str(model[3].bias.tolist()) == "[0.0, nan, inf]"


def test_half_models_overflow(tmp_path: Path) -> None:
    state = {**net(1).state_dict(), "3.bias": torch.tensor([0, 7e4, 0])}

    said = refused(net().half(), saved(state, tmp_path))
    assert "is float32 and contains 70000.0, which is out of range for float16" in said


class Masked(nn.Module):
    """Buffers: an attention mask of -inf, a seed of 64 bits and a small integer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))
        self.register_buffer("seed", torch.tensor(0, dtype=torch.int64))
        self.register_buffer("small", torch.tensor(0, dtype=torch.int8))


def test_masks_of_infinities_and_whole_numbers_are_kept(tmp_path: Path) -> None:
    model = Masked()
    state = {**model.state_dict(), "seed": torch.tensor(-(2**63) + 1), "small": torch.tensor(-128)}

    load_weights(model, saved(state, tmp_path))

    assert model.seed == -(2**63) + 1 and model.small == -128
    state["small"] = torch.tensor(200)
    assert "is int64 and contains 200, which is out of range for int8" in refused(Masked(), saved(state, tmp_path))
    state["mask"] = torch.full((3, 3), float("-inf"))
    assert "such as -inf" in refused(Masked(), saved(state, tmp_path))


class Checks(nn.Linear):
    """A layer with rules of its own: it does without its seed, and refuses another size."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.register_buffer("seed", torch.tensor(7))

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        state.setdefault(f"{prefix}seed", self.seed)
        if state[f"{prefix}seed"] != 7:
            raise UsageError(f"{prefix}seed is {int(state[f'{prefix}seed'])} and the layer's is 7. Use 7.")
        super()._load_from_state_dict(state, prefix, *rest)


def test_layers_have_the_first_word_on_what_is_missing(tmp_path: Path) -> None:
    state = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2)}
    model = nn.Sequential(Checks())

    assert load_weights(model, saved(state, tmp_path)) == []
    assert model[0].weight.sum() == 4
    state["0.seed"] = torch.tensor(8)
    with pytest.raises(UsageError, match=r"does not match the model: 0\.seed is 8 and the layer's is 7\. Use 7\."):
        load_weights(nn.Sequential(Checks()), saved(state, tmp_path))


def test_a_model_on_the_meta_device(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = nn.Linear(2, 2)

    with pytest.raises(UsageError, match=r"weight .* cannot be loaded, because the model is on the meta device"):
        load_weights(model, saved(nn.Linear(2, 2).state_dict(), tmp_path))

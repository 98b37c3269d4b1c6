"""edgefc.save() and edgefc.load(): the same model again; files that are damaged or of another model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import edgefc
from edgefc.errors import UsageError
from edgefc.plan import (
    PRP,
    Bilinear,
    Circulant,
    Configuration,
    EUGen,
    Half,
    Int2,
    Int3,
    Int4,
    Int8,
    LowRank,
    Monarch,
    Rule,
    Tied,
)
from tests.support import compress_models as models


def output(model: nn.Module, x: Any) -> torch.Tensor:
    with torch.no_grad():
        y = model(**x) if isinstance(x, dict) else model(x)
    return y if isinstance(y, torch.Tensor) else y[0]


CONFIGURATIONS = [
    Circulant(block=8), PRP(rank=2), EUGen(features=8), Bilinear(terms=2), LowRank(ratio=2), LowRank(storage="int8"),
    LowRank(storage="half"), Monarch(), Half(), Int8(), Int4(), Int4(rotate=False), Int3(), Int2(rank=3), Tied(),
]  # fmt: skip


@pytest.mark.parametrize("to", CONFIGURATIONS, ids=str)
def test_round_trip(to: Configuration, tmp_path: Path) -> None:
    model, x = models.encoder(), models.batches(1)[0]
    edgefc.replace(model, to, init="new")
    edgefc.save(model, tmp_path / "small")
    loaded = edgefc.load(tmp_path / "small", models.encoder)
    assert torch.equal(output(loaded, x), output(model, x))
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == ["plan.json", "weights.safetensors"]


@pytest.mark.parametrize("to", CONFIGURATIONS, ids=str)
def test_fitted_layers_are_those_of_the_plan(to: Configuration, tmp_path: Path) -> None:
    model, x = models.mlp(), models.batches(1)[0]
    edgefc.replace(model, to)
    edgefc.save(model, tmp_path)
    assert torch.equal(output(edgefc.load(tmp_path, models.mlp), x), output(model, x))


def test_fitted_model_of_transformers(tmp_path: Path) -> None:
    model, x = models.bert(), models.token_batches(1)[0]
    edgefc.replace(model, {"*": Int8()}, calibration=models.token_batches(2))
    edgefc.save(model, tmp_path)
    assert torch.equal(output(edgefc.load(tmp_path, models.bert), x), output(model, x))


def test_two_calls_and_convolutions_and_lstms(tmp_path: Path) -> None:
    for make, x, plans in (
        (models.resnet, models.images()[0], [{"stem": Circulant(block=3)}, [Rule(type="Conv2d", to=Int4())]]),
        (models.speech, models.batches(1)[0], [{"lstm": Int8()}, {"head": Int8()}]),
    ):
        model = make()
        for plan in plans:
            edgefc.replace(model, plan)
        edgefc.save(model, tmp_path)
        assert torch.equal(output(edgefc.load(tmp_path, make), x), output(model, x))


def test_shared_weights_are_stored_once(tmp_path: Path) -> None:
    def make() -> Any:
        return models.llama(tied=True)

    model, x = make(), models.token_batches(1)[0]
    edgefc.replace(model, {"*mlp*": LowRank()})
    edgefc.save(model, tmp_path)
    names = load_file(tmp_path / "weights.safetensors")
    assert ("lm_head.weight" in names) != ("model.embed_tokens.weight" in names)
    loaded = edgefc.load(tmp_path, make)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(output(loaded, x), output(model, x))


def test_shared_module(tmp_path: Path) -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        layer = nn.Linear(32, 32)
        return nn.Sequential(layer, nn.ReLU(), layer)

    model, x = make(), models.batches(1)[0]
    edgefc.replace(model, LowRank())
    edgefc.save(model, tmp_path)
    loaded = edgefc.load(tmp_path, make)
    assert loaded[0] is loaded[2]
    assert torch.equal(output(loaded, x), output(model, x))


def test_save_replaces_an_earlier_one(tmp_path: Path) -> None:
    for to in (LowRank(rank=2), LowRank(rank=3)):
        model = models.mlp()
        edgefc.replace(model, to)
        edgefc.save(model, tmp_path)
    assert edgefc.load(tmp_path, models.mlp)[0].rank == 3


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has not changed this model"):
        edgefc.save(models.mlp(), tmp_path)
    model = models.mlp()
    edgefc.replace(model, LowRank())
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError, match="it is not a folder"):
        edgefc.save(model, file)


def _without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def _record(folder: Path, **changes: Any) -> None:
    path = folder / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "weights.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: _without(folder, "plan.json"), "No such file"),
        (lambda folder: _without(folder, "weights.safetensors"), "no file"),
        (lambda folder: (folder / "plan.json").write_text("{"), "it is not valid JSON"),
        (lambda folder: (folder / "plan.json").write_text("[]"), "was not written by edgefc.save()"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"x" * 100), "cannot read"),
        (lambda folder: _record(folder, format=2), "its format is 2; this edgefc reads format 1"),
        (lambda folder: _record(folder, plans=[{"rules": [{"to": "Int9"}]}]), "there is no kind of layer 'Int9'"),
        (lambda folder: _record(folder, plans=[{"rules": [{"match": "9", "to": "LowRank"}]}]), "matches nothing"),
        (lambda folder: _record(folder, shared={"a": "b"}), "it says that a is b"),
        (lambda folder: _record(folder, shared={"a": 3}), "the names of shared tensors are not text"),
        (lambda folder: _weights(folder, lambda state: state.pop("0.up")), "Missing key(s)"),
        (lambda folder: _weights(folder, lambda state: state.update(x=torch.zeros(1))), "Unexpected key(s)"),
        (lambda folder: _weights(folder, lambda state: state.update({"0.bias": torch.zeros(3)})), "size mismatch"),
        (lambda folder: _weights(folder, lambda s: s.update({"0.bias": s["0.bias"].half()})), "bias is torch.float16"),
    ],
)  # fmt: skip
def test_damaged_folders(damage: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    model = models.mlp()
    edgefc.replace(model, LowRank())
    edgefc.save(model, tmp_path)
    damage(tmp_path)
    with pytest.raises(UsageError) as caught:
        edgefc.load(tmp_path, models.mlp)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_another_model(tmp_path: Path) -> None:
    model = models.mlp()
    edgefc.replace(model, LowRank())
    edgefc.save(model, tmp_path)
    with pytest.raises(UsageError, match="does not match the model: rule 1"):
        edgefc.load(tmp_path, models.encoder)
    with pytest.raises(UsageError, match=r"the factory returned a dict"):
        edgefc.load(tmp_path, dict)  # type: ignore[arg-type]


def test_rank_above_the_sizes(tmp_path: Path) -> None:
    model = models.mlp()
    edgefc.replace(model, Int2(rank=1000))
    edgefc.save(model, tmp_path / "small")
    x = models.batches(1)[0]
    assert torch.equal(edgefc.load(tmp_path / "small", models.mlp)(x), model(x))

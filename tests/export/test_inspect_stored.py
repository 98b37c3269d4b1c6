"""inspect(): every number that a file stores, wherever it lies, by layer; without torch."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from edgefc.catalogue import entries
from edgefc.cli import main
from edgefc.errors import ModelError
from edgefc.export import export
from edgefc.export.inspecting import candidates
from edgefc.export.inspecting.inspector import Inspection, inspect
from edgefc.layers import quantized
from edgefc.scopes import LAYER_KEY
from tests.support import onnx_models, store_models

ROOT = Path(__file__).resolve().parents[2]

# Numbers, bytes: by hand, from what store_models says of each.
STORED = {
    store_models.branches: (32 + 32 + 4, 4 * 68),
    store_models.constant: (32 + 2, 4 * 34),
    store_models.function: (32, 4 * 32),
    store_models.sparse: (3, 3 * 4 + 3 * 8),
    store_models.shared: (64, 4 * 64),
    store_models.unused: (64 + 5, 4 * 69),
    store_models.quantised: (32 + 4 + 4, 16 + 16 + 2),
    store_models.blocks: (64 * 128 + 256 + 256, 4096 + 1024 + 128),
    store_models.trees: (9, 36),
}

LINEAR_LAYERS, CONVOLUTION_LAYERS, EMBEDDING_LAYERS, LSTM_LAYERS, ATTENTION_LAYERS = map(
    candidates.layers_for, ("linear", "convolution", "embedding", "lstm", "attention")
)


def made(model: onnx.ModelProto, path: Path) -> Inspection:
    """Written, loaded by onnxruntime where it has the operators, and read."""
    path.write_bytes(model.SerializeToString())
    if not model.graph.sparse_initializer:  # onnxruntime has no kernel for a product of that kind
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return inspect(path)


@pytest.mark.parametrize("make", STORED)
def test_every_number_is_counted_once(tmp_path: Path, make: store_models.Make) -> None:
    found = made(make(), tmp_path / "m.onnx")

    assert (found.numbers, sum(part.bytes for part in found.parts)) == STORED[make]
    assert found.other_numbers + found.function_numbers == found.numbers
    assert sum(part.share for part in found.parts) == pytest.approx(STORED[make][1] / found.file_bytes)


@pytest.mark.parametrize("make", [store_models.branches, store_models.constant, store_models.function])
def test_the_same_beside_the_file(tmp_path: Path, make: store_models.Make) -> None:
    onnx.save_model(
        make(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=64,
        convert_attribute=True,
    )  # fmt: skip

    found = inspect(tmp_path / "m.onnx")

    assert found.numbers == STORED[make][0]
    assert found.data_bytes == (tmp_path / "m.data").stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "bits", "field"),
    [
        ("FLOAT", 32, "float_data"), ("DOUBLE", 64, "double_data"), ("FLOAT16", 16, None), ("BFLOAT16", 16, None),
        ("INT64", 64, None), ("INT8", 8, None), ("BOOL", 8, None), ("FLOAT8E4M3FN", 8, None), ("UINT4", 4, None),
        ("INT4", 4, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("raw", [True, False])
def test_bytes_of_every_type(tmp_path: Path, name: str, bits: int, field: str | None, raw: bool) -> None:
    """Raw ones as wide as their type; others as the message that holds them, without its two bytes of head."""
    dtype = getattr(onnx.TensorProto, name)
    weight = onnx.TensorProto(name="w", data_type=dtype, dims=[5])
    wide = (5 * bits + 7) // 8
    if raw:
        weight.raw_data = bytes(wide)
    elif field:
        getattr(weight, field).extend([1.0] * 5)
    elif name == "INT64":
        weight.int64_data.extend([1, 127, 128, 300000, -1])
        wide = onnx.TensorProto(int64_data=weight.int64_data).ByteSize() - 2
    else:
        weight.int32_data.extend([1] * (3 if bits == 4 else 5))
        wide = onnx.TensorProto(int32_data=weight.int32_data).ByteSize() - 2
    node = helper.make_node("Identity", ["w"], ["y"])
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", dtype, [5])], [weight])
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph, ir_version=10).SerializeToString())

    (part,) = inspect(path).parts
    assert (part.numbers, part.bytes) == (5, wide)


def test_a_quantised_model(tmp_path: Path) -> None:
    """As onnxruntime's own quantiser writes it, against numpy's count of the same file."""
    quantize_dynamic(onnx_models.matmul(tmp_path / "f.onnx", 64, 40), tmp_path / "q.onnx", weight_type=QuantType.QInt8)

    found = inspect(tmp_path / "q.onnx")

    arrays = [numpy_helper.to_array(each) for each in onnx.load(tmp_path / "q.onnx").graph.initializer]
    assert found.numbers == sum(array.size for array in arrays)
    assert sum(part.bytes for part in found.parts) == sum(array.nbytes for array in arrays)
    assert sum(array.nbytes for array in arrays if array.dtype == np.int8) >= 64 * 40
    part = found.parts[0]
    assert (part.op, part.shape, part.fits) == ("MatMulInteger", "64 x 40", LINEAR_LAYERS)


def test_layers_by_torch_module(tmp_path: Path) -> None:
    """Each module's parameters under its name, against torch's own count."""
    block = nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 8))
    model = nn.Sequential(nn.Embedding(50, 8), block, nn.LayerNorm(8), nn.Linear(8, 50)).eval()
    export(model, torch.zeros(2, 3, dtype=torch.long), tmp_path / "m.onnx", verify=False)

    parts = {part.layer: part for part in inspect(tmp_path / "m.onnx").parts}

    for name in ("0", "1.0", "1.2", "2", "3"):
        own = sum(parameter.numel() for parameter in model.get_submodule(name).parameters())
        assert own <= parts[name].numbers <= own + 8, name  # and a few numbers that the operator is set by
    assert parts["0"].fits == EMBEDDING_LAYERS and parts["3"].fits == LINEAR_LAYERS
    assert parts["1.0"].fits == parts["1.2"].fits == (*LINEAR_LAYERS, "TiedFFN")
    assert parts["2"].fits == ()


def test_layers_of_someone_elses_file(tmp_path: Path) -> None:
    """By the scope in a node's name, by torch's own metadata, by the weight's name, by the node."""
    names = ["/encoder/layer.0/query/MatMul", "node_1", "", "plain"]
    nodes = [helper.make_node("MatMul", [f"h{i}", w], [f"h{i + 1}"], name=name) for i, (name, w) in enumerate(
        zip(names, ["w0", "w1", "head.weight", "w3"], strict=True)
    )]  # fmt: skip
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    nodes[1].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'decoder', 'decoder.up', 'linear']")
    weights = [store_models.tensor(name, 8, 8) for name in ("w0", "w1", "head.weight", "w3")]

    found = made(store_models.model(nodes, weights), tmp_path / "m.onnx")

    assert {part.layer for part in found.parts} == {"encoder/layer.0/query", "decoder.up", "head", "plain"}


def test_shared_weights_belong_to_their_first_layer(tmp_path: Path) -> None:
    found = made(store_models.shared(), tmp_path / "m.onnx")

    (part,) = found.parts
    assert (part.layer, part.op, part.shape, part.numbers) == ("p", "MatMul", "8 x 8", 64)


class Sized(nn.Module):
    """Reads a size and multiplies by it: the model's own, and torch files the size under no module at all."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x) * x.shape[0]
        return y


@pytest.mark.parametrize("flat", [False, True])
def test_every_node_of_an_export_names_its_layer(tmp_path: Path, flat: bool) -> None:
    export(Sized().eval(), torch.ones(3, 8), tmp_path / "m.onnx", verify=False, flat=flat)

    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    assert all(LAYER_KEY in {entry.key for entry in node.metadata_props} for node in nodes)
    assert {entry.value for node in nodes for entry in node.metadata_props} == {"", "inner.0", "inner.1"}


# ---- candidates


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "fits"),
    [
        ("MatMul", (8, 8), {}, LINEAR_LAYERS),
        ("Gemm", (1, 8), {}, ()),
        ("Conv", (16, 8, 3, 3), {}, CONVOLUTION_LAYERS),
        ("Conv", (8, 2, 3, 3), {"group": 4}, ()),
        ("Conv", (16, 8, 3), {}, ()),
        ("ConvTranspose", (16, 8, 3, 3), {}, ()),
        ("Gather", (100, 8), {}, EMBEDDING_LAYERS),
        ("Gather", (100,), {}, ()),
        ("LSTM", (1, 32, 8), {}, ()),
        ("LSTM", (2, 32, 8), {}, LSTM_LAYERS),
        ("Add", (8, 8), {}, ()),
    ],
)
def test_what_fits(op: str, shape: tuple[int, ...], attributes: dict[str, int], fits: tuple[str, ...]) -> None:
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    assert candidates.fits(node, shape, set()) == fits


def test_what_fits_is_what_the_catalogue_has() -> None:
    """In the place of each kind of dense layer, the same structured ones."""
    of_kind: dict[str, set[str]] = {}
    for entry in entries():
        if entry.paper == quantized.PAPER:
            continue
        of_kind.setdefault(type(entry.dense(entry.width)).__name__, set()).add(re.split("[, ]", entry.name)[0])

    assert of_kind["Linear"] == set(LINEAR_LAYERS)
    assert of_kind["Conv2d"] == set(CONVOLUTION_LAYERS)
    assert of_kind["Embedding"] == set(EMBEDDING_LAYERS)
    assert of_kind["LSTM"] == set(LSTM_LAYERS)
    assert of_kind["MultiheadAttention"] == set(ATTENTION_LAYERS)
    assert "TiedFFN" in of_kind["Sequential"]


# ---- broken files


def broken(path: Path, **changed: Any) -> Path:
    model = onnx.load(onnx_models.matmul(path))
    weight = model.graph.initializer[0]
    if "external" in changed:
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in changed["external"].items():
            weight.external_data.add(key=key, value=value)
        (path.parent / "w").write_bytes(bytes(changed.get("size", 128)))
    elif "entries" in changed:
        weight.ClearField("raw_data")
        weight.float_data.extend([1.0] * changed["entries"])
    else:
        weight.raw_data, weight.data_type = changed["raw"], changed.get("kind", weight.data_type)
    path.write_bytes(model.SerializeToString())
    return path


def test_names_that_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="/QQQ/MatMul")
    data = store_models.model([node], [store_models.tensor("w", 8, 8)]).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data.replace(b"QQQ", b"\xff\xfe\xfd"))

    assert main(["inspect", str(tmp_path / "m.onnx"), "--json", str(tmp_path / "i.json")]) == 0
    assert "\ufffd" * 3 in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"raw": bytes(128), "kind": onnx.TensorProto.STRING},
            "tensor 'w' stores strings as raw bytes, which ONNX forbids",
        ),
        ({"raw": bytes(120)}, "tensor 'w' of shape [8, 4] has 120 bytes and needs 128"),
        ({"external": {"location": "w", "length": "64"}}, "tensor 'w' has 64 bytes in its weights file and needs 128"),
        (
            {"external": {"location": "w"}, "size": 100},
            "the data of tensor 'w' extend beyond the end of its weights file 'w'",
        ),
        (
            {"external": {"location": "w", "offset": "4"}},
            "the data of tensor 'w' extend beyond the end of its weights file 'w'",
        ),
        (
            {"external": {"location": "w", "offset": "-4"}},
            "tensor 'w' has the invalid offset or length '-4'",
        ),
        ({"entries": 3}, "tensor 'w' of shape [8, 4] has 3 entries and needs 32"),
        ({"external": {"location": "gone"}}, "its weights file 'gone' does not exist"),
    ],
)
def test_weights_that_are_not_whole(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=re.escape(f"m.onnx: {sentence}. ") + "|" + re.escape(f" model: {sentence}. ")):
        inspect(broken(tmp_path / "m.onnx", **changed))


# ---- the command


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """107 layers of someone else's, each with a node name of its own and one weight."""
    names = [f"/blocks.{index}/MatMul" for index in range(107)]
    nodes = [helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"], name=n) for i, n in enumerate(names)]
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    path = tmp_path_factory.mktemp("deep") / "deep.onnx"
    path.write_bytes(
        store_models.model(nodes, [store_models.tensor(f"w{i}", 8, 8) for i in range(107)]).SerializeToString()
    )
    return path


@pytest.mark.parametrize("command", [["inspect"], ["estimate", "--device", "pi5"]])
def test_long_tables_are_cut(deep: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert main([command[0], str(deep), *command[1:]]) == 0
    short = capsys.readouterr().out
    assert main([command[0], str(deep), *command[1:], "--all"]) == 0
    long = capsys.readouterr().out

    assert len(re.findall(r"^blocks\.\d+ ", short, re.M)) == 20
    assert "... and 87 more. --all prints every row." in short.splitlines()
    assert len(re.findall(r"^blocks\.\d+ ", long, re.M)) == 107 and "more. --all" not in long


def run_without(packages: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[str]:
    code = f"""
import sys
for name in {packages!r}:
    sys.modules[name] = None
from edgefc.cli import main
code = main({words!r})
assert not {{"torch", "onnxscript", "onnxruntime"}} & {{name for name, module in sys.modules.items() if module}}
sys.exit(code)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_structured_layers_without_torch(tmp_path: Path) -> None:
    import edgefc

    export(edgefc.CirculantLinear(8, 16), torch.zeros(2, 8), tmp_path / "m.onnx", verify=False)

    done = run_without(("torch",), "inspect", str(tmp_path / "m.onnx"))

    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"CirculantLinear +16 x 8 .* 32 +128 +576 +4\.5x", done.stdout)


def test_onnx_alone_reads_a_file_without_structured_layers(deep: Path) -> None:
    done = run_without(("torch", "onnx_ir", "onnxscript", "safetensors"), "inspect", str(deep))

    assert done.returncode == 0 and f"stores {107 * 64:,} numbers" in done.stdout, done.stderr

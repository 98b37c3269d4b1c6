"""For the tests of the layers: sizes at the edges, and each layer's matrix written again in numpy, in float64.

The formulas are the papers': R[i, j] = r[(i - j) mod b] for a circulant, diag(w) P diag(alpha) for PRP. They share
nothing with edgefc.layers but the seeded matrix in numpy, which tests/generator/ holds to its specification.
"""

import copy
import hashlib
import io
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import hadamard
from torch import Tensor, nn

from edgefc import CirculantLinear, PRPLinear, generator
from edgefc.layers.common.checkpoint import holds_weights
from edgefc.testing import assert_close

ROOT = Path(__file__).resolve().parents[2]

EDGES = [  # inputs, outputs
    pytest.param(1, 1, id="one-number"),
    pytest.param(2, 2, id="two"),
    pytest.param(3, 3, id="three"),
    pytest.param(1, 5, id="one-input"),
    pytest.param(5, 1, id="one-output"),
    pytest.param(7, 7, id="prime-below-a-byte"),
    pytest.param(31, 31, id="a-word-less-one"),
    pytest.param(33, 33, id="a-word-and-one"),
    pytest.param(61, 61, id="prime"),
    pytest.param(64, 64, id="power-of-two"),
    pytest.param(97, 97, id="prime-over-three-words"),
    pytest.param(7, 3, id="fewer-outputs"),
    pytest.param(3, 7, id="more-outputs"),
    pytest.param(64, 10, id="classifier"),
    pytest.param(13, 97, id="primes-up"),
    pytest.param(97, 13, id="primes-down"),
]

LARGE = [
    pytest.param(384, 384, id="384"),
    pytest.param(768, 768, id="768"),
    pytest.param(1009, 1009, id="prime-1009"),
    pytest.param(1000, 300, id="1000-to-300"),
    pytest.param(768, 3072, id="transformer-up"),
    pytest.param(3072, 768, id="transformer-down"),
    pytest.param(1024, 1024, id="1024"),
    pytest.param(4096, 4096, id="4096", marks=pytest.mark.slow),
]

Linear = CirculantLinear | PRPLinear
AnyLinear = TypeVar("AnyLinear", CirculantLinear, PRPLinear)


def circulant_matrix(layer: CirculantLinear) -> NDArray[np.float64]:
    """(m, n), entry by entry from the paper's formula."""
    kernel, block = layer.kernel.detach().double().numpy(), layer.block
    signs = generator.matrix(layer.seed, 1, layer.in_features, "rademacher")[0].astype(np.float64)
    i, j = np.indices((layer.out_features, layer.in_features))
    result: NDArray[np.float64] = kernel[i // block, j // block, (i % block - j % block) % block] * signs
    return result


def prp_fixed(layer: PRPLinear) -> NDArray[np.float64]:
    """P, (m, n), entries of variance 1/n."""
    m, n = layer.out_features, layer.in_features
    if layer.projection is not None:
        return layer.projection.double().numpy()
    if layer.distribution == "hadamard":
        return hadamard_fixed(layer.seed, n, m)
    codes = generator.matrix(layer.seed, m, n, layer.distribution)
    result: NDArray[np.float64] = codes.astype(np.float64) / np.sqrt(n)
    return result


def hadamard_fixed(seed: int, n: int, m: int) -> NDArray[np.float64]:
    """The first m rows and n columns of sqrt(N/n) (H / sqrt(N)) D2 (H / sqrt(N)) D1, with scipy's H."""
    length = 1
    while length < max(n, m):
        length *= 2
    h = hadamard(length).astype(np.float64) / np.sqrt(length)
    first, second = generator.matrix(seed, 2, length, "rademacher").astype(np.float64)
    result: NDArray[np.float64] = np.sqrt(length / n) * (h[:m] * second) @ (h * first)[:, :n]
    return result


def prp_matrix(layer: PRPLinear) -> NDArray[np.float64]:
    """diag(w) P diag(alpha) + B A / r, (m, n)."""
    w, alpha = layer.out_scale.detach().double().numpy(), layer.in_scale.detach().double().numpy()
    modulated = np.diag(w) @ prp_fixed(layer) @ np.diag(alpha)
    if layer.low_rank_in is None or layer.low_rank_out is None:
        return modulated
    down, up = layer.low_rank_in.detach().double().numpy(), layer.low_rank_out.detach().double().numpy()
    result: NDArray[np.float64] = modulated + up @ down / layer.rank
    return result


def matrix(layer: Linear) -> NDArray[np.float64]:
    return circulant_matrix(layer) if isinstance(layer, CirculantLinear) else prp_matrix(layer)


def expected(layer: Linear, x: NDArray[Any]) -> NDArray[np.float64]:
    """What the layer means, in float64 from its float32 numbers: matrix @ x + bias."""
    y = x.astype(np.float64) @ matrix(layer).T
    return y if layer.bias is None else y + layer.bias.detach().double().numpy()


def randomise(layer: AnyLinear, seed: int = 0) -> AnyLinear:
    """The layer with a bias that is not zero and scales that are far from one."""
    torch.manual_seed(seed)
    for name, parameter in layer.named_parameters():
        if name != "kernel":
            nn.init.normal_(parameter)
    return layer


def weights(layer: nn.Module) -> dict[str, Tensor]:
    """The state dict without seeds and configurations."""
    return {name: tensor for name, tensor in layer.state_dict().items() if holds_weights(name)}


def take_weights(layer: nn.Module, other: nn.Module) -> None:
    """The parameters of `other` and the seed of its own."""
    with torch.no_grad():
        for mine, theirs in zip(layer.parameters(), other.parameters(), strict=True):
            mine.copy_(theirs)


def numbers(tensor: Any) -> NDArray[np.float64]:
    result: NDArray[np.float64] = tensor.detach().double().cpu().numpy()
    return result


def inputs(*shape: int, seed: int = 0, dtype: Any = np.float32) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ---- what every layer keeps


def check_half_precision(layer: Linear, dtype: torch.dtype, nmse: float) -> None:
    """The layer in half precision answers as the float32 layer of the same numbers, in its own dtype."""
    half = randomise(layer).to(dtype)
    full = copy.deepcopy(half).float()
    x = torch.from_numpy(inputs(9, layer.in_features)).to(dtype)
    y = half(x)
    assert y.dtype == dtype
    assert_close(y, full(x.float()), nmse=nmse, what=str(dtype))


def check_autocast(layer: Linear) -> None:
    """Within autocast the forward and the backward run, and stay near to float32."""
    x = torch.from_numpy(inputs(9, layer.in_features)).requires_grad_()
    plain = randomise(layer)(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        again = layer(x.bfloat16())
    assert_close(y, plain, nmse=1e-4, what="autocast")
    assert_close(again, plain, nmse=1e-4, what="autocast of bfloat16")
    y.float().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


def check_conversions(layer: Linear) -> None:
    """To float64 the answers follow the matrix to float64's precision; to half and back to float32's rounded one."""
    x = inputs(9, layer.in_features)
    double = copy.deepcopy(randomise(layer))
    double(torch.from_numpy(x))  # used in float32 before
    double.to(torch.float64)
    assert_close(double(torch.from_numpy(x).double()), expected(double, x), nmse=1e-26, what="to float64")
    there_and_back = copy.deepcopy(layer).to(torch.float16)
    there_and_back(torch.from_numpy(x).half())
    there_and_back.to(torch.float32)
    y = there_and_back(torch.from_numpy(x))
    assert_close(y, expected(there_and_back, x), nmse=1e-12, what="to half and back")


def check_copies(layer: Linear, most_bytes: int) -> None:
    """State dict, deep copy, pickle and torch.save give the same layer, and hold the trained numbers only."""
    x = torch.from_numpy(inputs(3, layer.in_features))
    y = randomise(layer)(x)  # so that whatever the layer keeps is there
    fresh = copy.deepcopy(layer)
    for parameter in fresh.parameters():
        nn.init.ones_(parameter)
    fresh(x)
    fresh.load_state_dict(torch.load(_saved(layer.state_dict(), most_bytes), weights_only=True))
    pickled = pickle.dumps(layer)
    assert len(pickled) < most_bytes
    whole = torch.load(_saved(layer, most_bytes), weights_only=False)
    for name, other in {
        "state dict": fresh,
        "deep copy": copy.deepcopy(layer),
        "pickle": pickle.loads(pickled),
        "torch.save": whole,
    }.items():
        assert torch.equal(other(x), y), name
        assert str(other) == str(layer), name


def check_another_process(make: str) -> None:
    """The expression `make` builds the same matrix, to the bit, in a fresh process."""
    program = (
        "import hashlib, torch; from edgefc import CirculantLinear, PRPLinear\n"
        f"layer = {make}\n"
        "for p in layer.parameters(): torch.nn.init.ones_(p)\n"
        "print(hashlib.sha256(layer.dense().numpy().tobytes()).hexdigest())"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    layer = eval(make, {"CirculantLinear": CirculantLinear, "PRPLinear": PRPLinear})
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    assert told.stdout.strip() == hashlib.sha256(layer.dense().numpy().tobytes()).hexdigest()


def mean_row_power(layers: list[Any]) -> float:
    """The variance of the outputs for white input of variance 1, over all outputs of all layers: no sampling of x."""
    powers: list[Tensor] = [layer.dense().double().square().sum(1) for layer in layers]
    return float(torch.cat(powers).mean())


def _saved(what: Any, most_bytes: int) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(what, buffer)
    assert buffer.tell() < most_bytes
    buffer.seek(0)
    return buffer


# ---- what every body keeps


def running(model: ir.Model, folder: Path) -> list[str]:
    """The operators that onnxruntime is left with after its optimisations."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    content = ir.to_proto(model).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def check_operators(model: ir.Model, golden: str) -> None:
    """The operators of the model's one function, in order, are those of `golden`; constants do not count."""
    (function,) = model.functions.values()
    operators = [node.op_type for node in function if node.op_type != "Constant"]
    assert operators == golden.split(), "\n" + textwrap.fill(" ".join(operators), 112)

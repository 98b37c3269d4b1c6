"""Small .onnx files with several weights, for tests of choosing."""

from pathlib import Path

import numpy as np

from tests.support.onnx_models import FLOAT, INT64, write
from tests.support.rewriting_models import drawn, free, node

WORDS = 7


def mixed(path: Path) -> Path:
    """A table, MatMul with and without a bias, Gemm with factors, Conv, and an LSTM: each kind of place."""
    nodes = [
        node("Gather", ["table", "ids"], ["e"], name="embed"),
        node("MatMul", ["e", "w1"], ["a"], name="one"),
        node("Add", ["a", "b1"], ["a1"]),
        node("Relu", ["a1"], ["a2"]),
        node("MatMul", ["a2", "w2"], ["b"], name="two"),
        node("Reshape", ["b", "rows"], ["c"]),
        node("Gemm", ["c", "w3", "b3"], ["d"], name="three", transB=1, alpha=0.5, beta=2.0),
        node("Reshape", ["d", "words"], ["f"]),
        node("Conv", ["f", "k"], ["g"], name="conv", pads=[1, 1]),
        node("Transpose", ["g"], ["h"], perm=[1, 0, 2]),
        node("LSTM", ["h", "W", "R"], ["", "y"], name="lstm", hidden_size=16),
    ]
    weights = {
        "table": drawn(60, 32), "w1": drawn(32, 48), "b1": drawn(48), "w2": drawn(48, 32), "rows": np.array([-1, 32]),
        "w3": drawn(48, 32), "b3": drawn(48), "words": np.array([-1, WORDS, 48]), "k": drawn(50, WORDS, 3),
        "W": drawn(1, 64, 48), "R": drawn(1, 64, 16),
    }  # fmt: skip
    return write(path, nodes, {"ids": (INT64, ["batch", WORDS])}, {"y": free(3)}, weights)


def deep(path: Path, layers: int = 4, width: int = 64) -> Path:
    """Layers of rising importance: each is added to its input with a larger factor."""
    rng, nodes, weights, x = np.random.default_rng(1), [], dict[str, np.ndarray](), "x"
    for at in range(layers):
        weights[f"w{at}"] = (rng.standard_normal((width, width)) * 2.0**at / np.sqrt(width)).astype(np.float32)
        nodes += [node("MatMul", [x, f"w{at}"], [f"p{at}"], name=f"layer{at}"), node("Tanh", [f"p{at}"], [f"t{at}"])]
        y = "y" if at == layers - 1 else f"h{at}"
        nodes.append(node("Add", [x, f"t{at}"], [y]))
        x = y
    return write(path, nodes, {"x": (FLOAT, ["batch", width])}, {"y": free(2)}, weights)


def ids(count: int) -> dict[str, np.ndarray]:
    return {"ids": np.random.default_rng(2).integers(0, 60, (count, WORDS))}


def vectors(count: int, width: int = 64) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(3).standard_normal((count, width)).astype(np.float32)}

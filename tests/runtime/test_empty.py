"""Inputs without elements: the model runs, and what onnxruntime cannot do is refused in one sentence."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import helper

import edgefc
from edgefc.errors import ModelError, UsageError
from edgefc.export import export
from edgefc.runtime import Session
from tests.support import onnx_models as models


def cache(path: Path) -> Path:
    """present = past and x along axis 1; the output's axis has the name of the input's, and another size."""
    step = helper.make_node("Concat", ["past", "x"], ["present"], axis=1)
    inputs = {"past": (models.FLOAT, ["batch", "past", 4]), "x": (models.FLOAT, ["batch", 1, 4])}
    return models.write(path, [step], inputs, {"present": (models.FLOAT, ["batch", "past", 4])}, {})


def padded(path: Path) -> Path:
    """A row of zeros before a sequence whose axis keeps its name."""
    node = helper.make_node("Pad", ["x", "pads"], ["y"])
    port = (models.FLOAT, ["batch", "tokens", 4])
    return models.write(path, [node], {"x": port}, {"y": port}, {"pads": np.array([0, 1, 0, 0, 0, 0])})


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (cache, {"past": (2, 0, 4), "x": (2, 1, 4)}),
        (cache, {"past": (0, 3, 4), "x": (0, 1, 4)}),
        (padded, {"x": (2, 0, 4)}),
        (models.matmul, {"x": (0, 8)}),
    ],
)
def test_no_answer_is_taken_from_names(tmp_path: Path, make: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Session gives what onnxruntime gives, whatever the axes are called."""
    path = make(tmp_path / "m.onnx")
    feeds = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    expected = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)[0]

    (actual,) = Session(path).run(feeds).values()

    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


def test_an_output_that_holds_numbers_is_computed(tmp_path: Path) -> None:
    """The sum over no rows is a row of zeros."""

    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(0) + 1

    export(Sum(), torch.randn(2, 5), tmp_path / "m.onnx")

    (value,) = Session(tmp_path / "m.onnx").run({"x": np.zeros((0, 5), np.float32)}).values()

    assert value.tolist() == [1.0] * 5


def recurrent(op: str, gates: int) -> Any:
    def make(path: Path) -> Path:
        node = helper.make_node(op, ["x", "w", "r"], ["y"], hidden_size=4)
        weights = {"w": np.ones((1, gates * 4, 3), "f"), "r": np.ones((1, gates * 4, 4), "f")}
        ports = {"x": (models.FLOAT, ["steps", "batch", 3])}, {"y": (models.FLOAT, ["steps", 1, "batch", 4])}
        return models.write(path, [node], *ports, weights)

    return make


def turned(path: Path, perm: tuple[int, ...] = (1, 0, 2), wrap: str = "") -> Path:
    """(batch, 5, 3) with its axes turned, times a stack of matrices; inside an If or a function on request."""
    import onnx

    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=perm), helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]  # fmt: skip
    ports = {"x": (models.FLOAT, ["batch", 5, 3])}, {"y": (models.FLOAT, ["a", "b", "c"])}
    weights = {"w": np.ones((3 if perm[0] == 2 else 5, 3, 3), "f")}
    if wrap == "function":
        body = helper.make_function("mine", "Turn", ["x", "w"], ["y"], nodes, [helper.make_opsetid("", 20)])
        call = helper.make_node("Turn", ["x", "w"], ["y"], domain="mine")
        return models.write(path, [call], *ports, weights, functions=[body], opsets={"": 20, "mine": 1})
    if wrap == "branch":
        branches = {
            f"{name}_branch": helper.make_graph(
                [*nodes[:-1], helper.make_node("MatMul", ["t", "w"], [name])], name, [],
                [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)],
            )
            for name in ("then", "else")
        }  # fmt: skip
        return models.write(path, [helper.make_node("If", ["c"], ["y"], **branches)], *ports, {**weights, "c": True})
    return models.write(path, nodes, *ports, weights)


ENDS = {
    "LSTM": (recurrent("LSTM", 4), (2, 0, 3), "an LSTM"),
    "GRU": (recurrent("GRU", 3), (0, 2, 3), "a GRU"),
    "turned": (turned, (0, 5, 3), "a MatMul after a Transpose of its first axis"),
    "turned in a function": (lambda path: turned(path, wrap="function"), (0, 5, 3), "a MatMul after"),
    "turned in a branch": (lambda path: turned(path, wrap="branch"), (0, 5, 3), "a MatMul after"),
    "reversed": (lambda path: turned(path, perm=(2, 1, 0)), (0, 5, 3), "a MatMul after"),
}


@pytest.mark.parametrize("case", ENDS)
def test_what_would_end_the_process_is_refused(tmp_path: Path, case: str) -> None:
    make, shape, said = ENDS[case]
    session = Session(make(tmp_path / "m.onnx"))

    with pytest.raises(UsageError) as caught:
        session.bound({"x": np.zeros(shape, "f")})  # runs nothing yet

    assert f"input 'x' has the shape {list(shape)}, which has no elements, and the model has {said}" in str(
        caught.value
    )
    session.run({"x": np.zeros([size or (3 if case == "reversed" else 1) for size in shape], "f")})


def test_a_transpose_of_other_axes_runs(tmp_path: Path) -> None:
    """As in attention: heads before tokens."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=(0, 2, 1, 3)), helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]  # fmt: skip
    ports = {"x": (models.FLOAT, ["batch", 5, 2, 3])}, {"y": (models.FLOAT, ["batch", 2, 5, 4])}
    path = models.write(tmp_path / "m.onnx", nodes, *ports, {"w": np.ones((3, 4), "f")})

    assert Session(path).run({"x": np.zeros((0, 5, 2, 3), "f")})["y"].shape == (0, 2, 5, 4)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["LSTM", "GRU", "turned"])
def test_onnxruntime_itself_ends(tmp_path: Path, case: str) -> None:
    """Where this fails, onnxruntime has been mended, and Session need not refuse any more."""
    make, shape, _ = ENDS[case]
    program = (
        "import sys, numpy, onnxruntime; s = onnxruntime.InferenceSession(sys.argv[1]); "
        f"s.run(None, {{'x': numpy.zeros({shape}, 'f')}})"
    )

    done = subprocess.run([sys.executable, "-c", program, make(tmp_path / "m.onnx")], capture_output=True)

    assert done.returncode < 0, done.stderr


@torch.no_grad()
def test_a_circulant_layer_and_an_empty_batch(tmp_path: Path) -> None:
    """The kernel gives no rows; the portable body cannot run and is refused."""
    export(edgefc.CirculantLinear(64, 96, seed=1), torch.randn(2, 64), tmp_path / "m.onnx")
    feeds = {"x": np.zeros((0, 64), np.float32)}
    session, portable = Session(tmp_path / "m.onnx"), Session(tmp_path / "m.onnx", native="off")

    if session.native_variant is not None:
        (value,) = session.run(feeds).values()
        assert value.shape == (0, 96) and value.dtype == np.float32
    with pytest.raises(UsageError, match="MatMul after a Transpose of its first axis"):
        portable.run(feeds)


def test_what_onnxruntime_refuses_is_one_sentence(tmp_path: Path) -> None:
    """Its MatMul broadcasts no matrix to a batch of 0."""
    node = helper.make_node("MatMul", ["w", "x"], ["y"], name="left")
    ports = {"x": (models.FLOAT, ["batch", 3, 5])}, {"y": (models.FLOAT, ["batch", 4, 5])}
    path = models.write(tmp_path / "m.onnx", [node], *ports, {"w": np.ones((4, 3), "f")})

    with pytest.raises(ModelError) as caught:
        Session(path).run({"x": np.zeros((0, 3, 5), "f")})

    text = str(caught.value)
    assert "input 'x' has the shape [0, 3, 5], which has no elements, and its MatMul node 'left' failed" in text
    assert text.endswith("Pass at least one element along every axis.")

"""Constants of a graph are what onnxruntime computes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from edgefc.errors import ModelError
from edgefc.rewriting.constants import array_of, is_constant, roots_of
from tests.support.onnx_models import FLOAT, INT64, write
from tests.support.rewriting_models import drawn, node, run

W = drawn(6, 4, 2)
CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "transpose": ([node("Transpose", ["w"], ["y"], perm=[2, 0, 1])], {}),
    "transpose without perm": ([node("Transpose", ["w"], ["y"])], {}),
    "half": ([node("Cast", ["h"], ["y"], to=TensorProto.FLOAT)], {"h": W.astype(np.float16)}),
    "reshape with 0 and -1": ([node("Reshape", ["w", "s"], ["y"])], {"s": np.array([0, -1])}),
    "squeeze": (
        [node("Unsqueeze", ["w", "a"], ["u"]), node("Squeeze", ["u", "b"], ["y"])],
        {"a": np.array([0, 2]), "b": np.array([0])},
    ),
    "slices in another order": (
        [
            node("Slice", ["w", "zero", "two", "zero"], ["a"]),
            node("Slice", ["w", "two", "end", "zero"], ["b"]),
            node("Concat", ["b", "a"], ["y"], axis=0),
        ],
        {"zero": np.array([0]), "two": np.array([2]), "end": np.array([2**31 - 1])},
    ),
    "slice backwards": (
        [node("Slice", ["w", "s", "e", "a", "t"], ["y"])],
        {"s": np.array([-1, 3]), "e": np.array([-(2**31), 0]), "a": np.array([0, 1]), "t": np.array([-2, -1])},
    ),
    "8 bits by channel": (
        [node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=0)],
        {
            "q": np.arange(48, dtype=np.uint8).reshape(6, 4, 2),
            "s": drawn(6),
            "z": np.array([1, 2, 3, 0, 9, 200], np.uint8),
        },
    ),
    "8 bits": (
        [node("DequantizeLinear", ["q", "s"], ["y"])],
        {"q": np.arange(-24, 24, dtype=np.int8).reshape(6, 8), "s": np.float32(0.3)},
    ),
    "8 bits in blocks": (
        [node("DequantizeLinear", ["q", "s"], ["y"], axis=1, block_size=4)],
        {"q": np.arange(-24, 24, dtype=np.int8).reshape(6, 8), "s": drawn(6, 2)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_value_is_what_onnxruntime_computes(tmp_path: Path, case: str) -> None:
    nodes, weights = CASES[case]
    nodes = [*nodes, node("Add", ["y", "x"], ["total"])]
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [])}, {"total": (FLOAT, None)}, {"w": W, **weights},
                 opsets={"": 21})  # fmt: skip
    value = _value(path, "y")
    assert is_constant(value)
    np.testing.assert_allclose(array_of(value), run(path, {"x": np.zeros((), np.float32)})["total"], rtol=1e-6)


def test_roots_are_the_tensors_with_the_numbers(tmp_path: Path) -> None:
    nodes, weights = CASES["slices in another order"]
    path = write(tmp_path / "m.onnx", nodes, {}, {"y": (FLOAT, None)}, {"w": W, **weights})
    assert [root.value.name for root in roots_of(_value(path, "y"))] == ["w"]


def test_what_depends_on_an_input_is_no_constant(tmp_path: Path) -> None:
    nodes = [node("Reshape", ["w", "sizes"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, {"sizes": (INT64, [2])}, {"y": (FLOAT, None)}, {"w": W})
    assert not is_constant(_value(path, "y"))


def test_an_initializer_that_a_feed_can_replace_is_no_constant(tmp_path: Path) -> None:
    nodes = [node("Identity", ["w"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, {"w": (FLOAT, [6, 4, 2])}, {"y": (FLOAT, None)}, {"w": W})
    assert not is_constant(_value(path, "y"))


def test_inputs_that_do_not_fit_give_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [node("Reshape", ["w", "s"], ["y"])], {}, {"y": (FLOAT, None)},
                 {"w": W, "s": np.array([7, 7])})  # fmt: skip
    with pytest.raises(ModelError, match=r"node 'node_y', a Reshape of a weight, has inputs that do not fit"):
        array_of(_value(path, "y"))


def test_a_chain_of_doublings_ends_early(tmp_path: Path) -> None:
    """Each node names its input twice: computed without care, this takes 2**60 steps."""
    nodes = []
    for index in range(60):
        half = [node("Slice", [f"v{index}", "zero", "one"], [f"{side}{index}"]) for side in "ab"]
        nodes += [*half, node("Concat", [f"a{index}", f"b{index}"], [f"v{index + 1}"], axis=0)]
    weights = {"v0": np.ones((2, 2), np.float32), "zero": np.array([0]), "one": np.array([1])}
    path = write(tmp_path / "m.onnx", nodes, {}, {"v60": (FLOAT, None)}, weights)
    value = _value(path, "v60")
    assert not is_constant(value)  # deeper than weights are
    assert len(roots_of(value)) == 1
    assert array_of(_value(path, "v20")).shape == (2, 2)


def _value(path: Path, name: str) -> ir.Value:
    model = ir.load(path)
    known = {value.name: value for each in model.graph for value in each.outputs}
    known |= {each.name: each for each in model.graph.outputs}
    return known[name]

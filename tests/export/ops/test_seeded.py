"""The seeded matrix in ONNX operators: words, codes and signs to the bit, in both evaluators.

The oracle is edgefc.generator, which tests/generator/ holds to its specification; golden.json is read here too.
"""

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edgefc import generator
from edgefc.export.building import seeded
from edgefc.export.building.body import DOMAIN, Body, function

GOLDEN = json.loads((files("edgefc.generator") / "golden.json").read_text(encoding="utf-8"))
SEEDS = [0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
EDGES = [0, 1, 255, 256, 2**31 - 1, 2**31, 2**32 - 1]
INT = ir.AttributeType.INT


def in_reference(model: ir.Model, feeds: dict[str, Any]) -> NDArray[Any]:
    return ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)[0]


def in_onnxruntime(model: ir.Model, feeds: dict[str, Any]) -> NDArray[Any]:
    content = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


RUNS = [in_reference, in_onnxruntime]


def model_of(
    write: Callable[..., ir.Value], inputs: list[str], seed: int, output: ir.DataType, **sizes: int
) -> ir.Model:
    """One call of a function of our own, which gets the seed as a node's attribute, as layers do."""
    attributes = {"seed": seed - 2**64 if seed >= 2**63 else seed, **sizes}
    written = function("Probe", inputs, dict.fromkeys(attributes, INT), write, 18)
    values = [ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([None])) for name in inputs]
    node = ir.node("Probe", values, attributes=attributes, domain=DOMAIN)
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(output)
    graph = ir.Graph(values, node.outputs, nodes=[node], opset_imports={"": 18, DOMAIN: 1}, name="probe")
    return ir.Model(graph, ir_version=10, functions=[written])


def onnx_words(run: Any, seed: int, rows: list[int], columns: list[int]) -> NDArray[np.uint32]:
    def write(op: Body, rows: ir.Value, columns: ir.Value) -> ir.Value:
        return seeded.words(op, seeded.keys(op, op.attribute("seed")), rows, columns)

    model = model_of(write, ["rows", "columns"], seed, ir.DataType.UINT32)
    found = run(model, {"rows": np.array(rows, np.int64), "columns": np.array(columns, np.int64)})
    assert found.shape == (len(rows), len(columns))
    return found


def onnx_signs(run: Any, seed: int, n: int) -> NDArray[np.float32]:
    def write(op: Body) -> ir.Value:
        return seeded.signs(op, op.attribute("seed"), op.attribute("n"))

    return run(model_of(write, [], seed, ir.DataType.FLOAT, n=n), {})


def numpy_words(seed: int, rows: list[int], columns: list[int]) -> NDArray[np.uint32]:
    return generator.words(seed, np.array(rows, np.uint32), np.array(columns, np.uint32))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("seed", SEEDS)
def test_words_at_the_edges(seed: int, run: Any) -> None:
    actual = onnx_words(run, seed, EDGES, EDGES)
    assert actual.dtype == np.uint32
    np.testing.assert_array_equal(actual, numpy_words(seed, EDGES, EDGES))


@given(seed=st.integers(0, 2**64 - 1), rows=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9))
@settings(max_examples=25, deadline=None)
def test_words_anywhere_in_onnxruntime(seed: int, rows: list[int]) -> None:
    np.testing.assert_array_equal(onnx_words(in_onnxruntime, seed, rows, rows), numpy_words(seed, rows, rows))


@pytest.mark.parametrize("run", RUNS)
def test_words_of_the_golden_file(run: Any) -> None:
    """Vectors that none of today's code wrote."""
    vectors = GOLDEN["words"]
    assert vectors
    for vector in vectors:
        (word,) = onnx_words(run, int(vector["seed"], 0), [vector["row"]], [vector["column"]]).ravel()
        assert int(word) == int(vector["word"], 0), vector


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("seed", SEEDS)
def test_signs_are_row_0_of_the_rademacher_matrix(seed: int, run: Any) -> None:
    for n in (1, 31, 32, 33, 100):
        actual = onnx_signs(run, seed, n)
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, generator.matrix(seed, 1, n, "rademacher")[0])


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("bits", generator.CODE_BITS)
def test_codes_of_every_width(bits: int, run: Any) -> None:
    """cut() after words() is codes(), up to the end of the last word."""

    def write(op: Body, rows: ir.Value, columns: ir.Value) -> ir.Value:
        grid = seeded.words(op, seeded.keys(op, op.attribute("seed")), rows, columns)
        return seeded.cut(op, grid, op.attribute("bits"), op.const(32))

    model = model_of(write, ["rows", "columns"], 7, ir.DataType.INT32, bits=bits)
    actual = run(model, {"rows": np.arange(5), "columns": np.arange(3)}).reshape(5, -1)
    np.testing.assert_array_equal(actual, generator.codes(7, 5, 3 * 32 // bits, bits))


# ---- the comparisons can fail


@pytest.mark.parametrize("run", RUNS)
def test_the_neighbouring_seed_shares_no_word(run: Any) -> None:
    """Meta-test: the words of seed 1 are not those of seed 0, at a single place."""
    assert not (onnx_words(run, 1, EDGES, EDGES) == numpy_words(0, EDGES, EDGES)).any()


def test_one_wrong_shift_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeded, "WORD_SHIFTS", (16, 15, 15))
    assert (onnx_words(in_onnxruntime, 1, EDGES, EDGES) != numpy_words(1, EDGES, EDGES)).any()

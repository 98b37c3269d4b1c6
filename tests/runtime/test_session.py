"""Session runs models, checks feeds, and tells failures in one sentence without a word on stderr."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from edgefc.errors import EdgefcError, ModelError, UsageError
from edgefc.runtime import Session
from tests.support import onnx_models as models

X = np.ones((2, 8), np.float32)


def test_run_computes_the_product(tmp_path: Path) -> None:
    path = models.matmul(tmp_path / "m.onnx")
    expected = X @ (np.arange(8)[:, None] + np.arange(4) / 10)

    np.testing.assert_allclose(Session(path).run({"x": X})["y"], expected, rtol=1e-6)


@pytest.mark.parametrize("preset", ["latency", "memory", "battery"])
def test_every_preset_gives_the_same_answer(tmp_path: Path, preset: str) -> None:
    path = models.matmul(tmp_path / "m.onnx")

    actual = Session(path, preset=preset, threads=2).run({"x": X})["y"]

    np.testing.assert_array_equal(actual, Session(path).run({"x": X})["y"])


def test_settings_say_what_was_set(tmp_path: Path) -> None:
    session = Session(models.matmul(tmp_path / "m.onnx"), preset="memory", threads=2)

    assert session.settings == {
        "intra_op_num_threads": 2, "session.disable_prepacking": "1", "enable_cpu_mem_arena": False,
    }  # fmt: skip


def test_ports_name_open_sizes(tmp_path: Path) -> None:
    session = Session(models.embedding(tmp_path / "m.onnx"))

    assert [(p.name, p.dtype, p.shape) for p in session.inputs] == [("ids", "int64", ("n", 5))]
    assert [(p.name, p.dtype, p.shape) for p in session.outputs] == [("y", "float32", ("n", 5, 4))]


def test_an_empty_batch_is_a_batch(tmp_path: Path) -> None:
    assert Session(models.matmul(tmp_path / "m.onnx")).run({"x": X[:0]})["y"].shape == (0, 4)


FEEDS = {"a": np.ones((1, 3), "f"), "b": np.full((1, 3), 2, "f"), "c": np.array([True])}


def test_feeds_alone_give_a_dict(tmp_path: Path) -> None:
    session = Session(models.two_in_two_out(tmp_path / "m.onnx"))

    for found in (session.run(FEEDS), session.run(feeds=FEEDS)):
        assert {name: value.tolist() for name, value in found.items()} == {"total": [[3, 3, 3]], "flipped": [False]}


@pytest.mark.parametrize("names", [None, ["flipped"], ("flipped", "total"), ["total", "total"], []], ids=str)
def test_output_names_and_feeds_give_what_onnxruntime_gives(tmp_path: Path, names: Any) -> None:
    path = models.two_in_two_out(tmp_path / "m.onnx")
    expected = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(names, FEEDS)

    for found in (Session(path).run(names, FEEDS), Session(path).run(output_names=names, feeds=FEEDS)):
        assert [value.tolist() for value in found] == [value.tolist() for value in expected]


_TWO = "Call run(feeds), which returns a dict, or run(output_names, feeds), which returns a list."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param((FEEDS, ["total"]), f"got the feeds first and output names second. {_TWO}", id="swapped"),
        pytest.param((FEEDS, FEEDS), f"run() got feeds twice. {_TWO}", id="twice"),
        pytest.param((), f"run() got no feeds. {_TWO}", id="nothing"),
        pytest.param((None, None), f"run() got no feeds. {_TWO}", id="none"),
        pytest.param((["total"],), f"run() got no feeds. {_TWO}", id="names alone"),
        pytest.param((X,), f"run() got one argument of type ndarray. {_TWO}", id="an array"),
        pytest.param(([X],), f"run() got one argument of type list. {_TWO}", id="a list of arrays"),
        pytest.param(("total", FEEDS), "output_names must be a list of names, got the string 'total'.", id="text"),
        pytest.param((3, FEEDS), "output_names must be a list of names or None, got 3.", id="a number"),
        pytest.param(([3], FEEDS), "output_names must be a list of names or None, got [3].", id="numbers"),
        pytest.param((["totals"], FEEDS), "no output 'totals' (did you mean 'total'?). Its outputs: ", id="unknown"),
        pytest.param((["total"], X), "feeds must be a dict", id="an array as feeds"),
    ],
)
def test_arguments_of_run_that_do_not_fit(tmp_path: Path, arguments: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Session(models.two_in_two_out(tmp_path / "m.onnx")).run(*arguments)

    assert said in str(caught.value)


def test_old_names_warn(tmp_path: Path) -> None:
    session = Session(models.two_in_two_out(tmp_path / "m.onnx"))

    with pytest.warns(FutureWarning, match=r"run\(feeds, outputs=names\) is now run\(names, feeds\)") as heard:
        assert list(session.run(FEEDS, outputs=["flipped"])) == ["flipped"]
    with pytest.warns(FutureWarning, match=r"Session\.native is now Session\.native_variant\.") as heard_too:
        assert session.native == session.native_variant
    assert {each.filename for each in (*heard, *heard_too)} == {__file__}


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        pytest.param({}, "missing input 'x'. Pass all of: x float32['batch', 8]", id="missing"),
        pytest.param({"x": X, "xx": X}, "no input 'xx' (did you mean 'x'?)", id="unknown"),
        pytest.param({"x": X.astype("d")}, "must have dtype float32, got float64. Cast it: x.astype(", id="dtype"),
        pytest.param({"x": X[0]}, "must have 2 dimensions, shape ['batch', 8], got 1 dimensions, shape [8]", id="rank"),
        pytest.param({"x": X[:, :7]}, "must have shape ['batch', 8], got [2, 7]", id="size"),
    ],
)
def test_feeds_that_do_not_fit(tmp_path: Path, feeds: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Session(models.matmul(tmp_path / "m.onnx")).run(feeds)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"preset": "fast"}, {"threads": 0}, {"threads": 257}, {"threads": True}, {"threads": 1.5}], ids=str
)
def test_options_that_do_not_exist(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"preset 'fast'|threads is"):
        Session(models.matmul(tmp_path / "m.onnx"), **options)


def _node(op: str, **attributes: Any) -> Any:
    return helper.make_node(op, ["x"], ["y"], **attributes)


def _model(path: Path, *nodes: Any, **options: Any) -> Path:
    port = (models.FLOAT, ["batch", 8])
    return models.write(path, nodes, {"x": port}, {"y": port}, {}, **options)


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


BROKEN = {
    "absent": (lambda p: p, UsageError, "No such file"),
    "folder": (lambda p: p.parent, UsageError, "it is a folder"),
    "empty": (lambda p: _bytes(p, b""), ModelError, "the file is empty"),
    "text": (lambda p: _bytes(p, b"not a model, at all\n" * 9), ModelError, "not an ONNX file, or it is truncated"),
    "cut": (lambda p: _bytes(p, models.matmul(p).read_bytes()[:100]), ModelError, "not an ONNX file, or it is trunc"),
    "no weights": (models.missing_weights, ModelError, "its weights file 'weights.bin' does not exist"),
    "unknown op": (lambda p: _model(p, _node("Nonsense")), ModelError, "has no operator Nonsense at opset 20"),
    "unknown domain": (
        lambda p: _model(p, _node("Op", domain="edgefc"), opsets={"": 20, "edgefc": 1}),
        ModelError,
        "defines edgefc:Op",
    ),
    "new opset": (lambda p: _model(p, _node("Identity"), opsets={"": 99}), ModelError, "needs opset 99 of ai.onnx"),
    "new ir": (lambda p: _model(p, _node("Identity"), ir_version=99), ModelError, "its IR version is 99"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_files_that_do_not_load(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One line with the file's name, one next step, and silence on stderr."""
    make, kind, said = BROKEN[case]
    path = make(tmp_path / "model.onnx")

    with pytest.raises(kind) as caught:
        Session(path)

    _check_sentence(caught.value, said, path)
    assert capfd.readouterr().err == ""


def test_a_node_that_fails_while_running(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"], name="fold")]
    ports = {"x": (models.FLOAT, ["batch", 8])}, {"y": (models.FLOAT, ["p", "q"])}
    path = models.write(tmp_path / "m.onnx", nodes, *ports, {"shape": np.array([3, 5])})

    with pytest.raises(ModelError) as caught:
        Session(path).run({"x": X})

    _check_sentence(caught.value, "its Reshape node 'fold' failed:", path)
    assert capfd.readouterr().err == ""


def _check_sentence(error: EdgefcError, said: str, path: Path) -> None:
    text = str(error)
    assert said in text
    assert os.fspath(path) in text
    assert "\n" not in text and "ONNXRuntimeError" not in text and ".cc" not in text
    assert len(text) < 300 + len(str(path))


def test_an_operator_that_is_not_computed_on_a_type(tmp_path: Path) -> None:
    """As an older onnxruntime does with uint32."""
    port = (onnx.TensorProto.DOUBLE, ["n"])
    node = onnx.helper.make_node("Erf", ["x"], ["y"], name="gelu/Erf")
    path = models.write(tmp_path / "m.onnx", [node], {"x": port}, {"y": port}, {})

    with pytest.raises(ModelError, match=r"does not support its operator Erf on these types\. Use a release that has"):
        Session(path)

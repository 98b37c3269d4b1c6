"""The kernels compute version 1 of the domain edgefc. Nodes of another version run by the file's own functions."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper

import edgefc
from edgefc.errors import ModelError, UsageError
from edgefc.export import export
from edgefc.runtime import Session, native, profile
from edgefc.runtime.operators import versions_of
from tests.support import native_models
from tests.support import onnx_models as models

X = np.ones((2, 24), np.float32)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return native_models.library(tmp_path_factory)


@pytest.fixture(autouse=True)
def loaded(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Session loads the library of this test."""
    monkeypatch.setattr(native, "library_path", lambda: library)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    export(edgefc.CirculantLinear(24, 24, seed=1).eval(), torch.randn(2, 24), path, verify=False)
    return onnx.load(path)


def write(
    path: Path, model: onnx.ModelProto, versions: tuple[int, ...], *, functions: bool = True, nested: int | None = None
) -> Path:
    """The model with these imports of the domain. `nested` puts the node into a function that imports that version.

    Where there are functions, they add 1000: what a later version could mean, and no kernel of version 1 computes.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.opset_import[:]
    changed.opset_import.extend([helper.make_opsetid("", 20), *(helper.make_opsetid("edgefc", v) for v in versions)])
    (body,), (node,) = changed.functions, changed.graph.node
    body.node.extend([
        helper.make_node("Constant", [], ["thousand"], value=onnx.numpy_helper.from_array(np.float32(1000))),
        helper.make_node("Add", ["before", "thousand"], [body.output[0]]),
    ])  # fmt: skip
    for each in body.node[:-1]:
        each.output[:] = ["before" if name == body.output[0] else name for name in each.output]
    if not functions:
        changed.ClearField("functions")
    if nested is not None:
        inner = helper.make_node(node.op_type, ["a", "b", "c"], ["z"], domain="edgefc")
        inner.attribute.extend(node.attribute)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("edgefc", nested)]
        outer = helper.make_function("mine", "Outer", ["a", "b", "c"], ["z"], [inner], opsets)
        node.CopyFrom(helper.make_node("Outer", list(node.input), list(node.output), domain="mine"))
        changed.functions.append(outer)
        changed.opset_import.append(helper.make_opsetid("mine", 1))
    path.write_bytes(changed.SerializeToString())
    return path


def by_functions(path: Path) -> Any:
    """onnxruntime's answer without the library."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X})[0]


def answer(session: Session) -> Any:
    return next(iter(session.run({session.inputs[0].name: X}).values()))


OTHERS: dict[str, tuple[tuple[int, ...], int | None, str]] = {
    "0": ((0,), None, "none"),
    "2": ((2,), None, "2"),
    "99": ((99,), None, "99"),
    "-1": ((-1,), None, "-1"),
    "1 and 2": ((1, 2), None, "2"),
    "2 and 1": ((2, 1), None, "2"),
    "2 in a function": ((1,), 2, "2"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_version_runs_by_its_functions(tmp_path: Path, exported: onnx.ModelProto, case: str) -> None:
    versions, nested, said = OTHERS[case]
    path = write(tmp_path / "m.onnx", exported, versions, nested=nested)

    with pytest.warns(UserWarning, match="of the domain edgefc") as told:
        session = Session(path)

    assert session.native_variant is None
    np.testing.assert_array_equal(answer(session), by_functions(path))
    assert answer(session).min() > 900
    assert str(told[0].message) == (
        f"{path} has nodes of the domain edgefc whose version is {said}, but the native kernels implement version 1. "
        "The functions in the file run instead."
    )


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_another_version_without_functions_is_refused(
    tmp_path: Path, exported: onnx.ModelProto, case: str, mode: str
) -> None:
    versions, nested, said = OTHERS[case]
    path = write(tmp_path / "m.onnx", exported, versions, functions=False, nested=nested)

    with pytest.raises(ModelError) as caught:
        Session(path, native=mode)

    assert f"whose version is {said}, but" in str(caught.value)
    assert "the file does not define edgefc:CirculantLinear" in str(caught.value)


@pytest.mark.parametrize("asked", [{"native": "on"}, {"activation_dtype": "int8"}])
def test_what_insists_on_kernels_is_refused(tmp_path: Path, exported: onnx.ModelProto, asked: dict[str, str]) -> None:
    path = write(tmp_path / "m.onnx", exported, (2,))

    with pytest.raises(UsageError, match=r"^(native is 'on'|activation_dtype is 'int8'), but .* whose version is 2"):
        Session(path, **asked)


@pytest.mark.parametrize("nested", [None, 1])
def test_version_1_runs_by_the_kernel(tmp_path: Path, exported: onnx.ModelProto, nested: int | None) -> None:
    path = write(tmp_path / "m.onnx", exported, (1,), functions=False, nested=nested)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = Session(path)

    assert session.native_variant is not None
    assert np.isfinite(answer(session)).all()


def test_other_domains_do_not_matter(tmp_path: Path, exported: onnx.ModelProto) -> None:
    """An import without nodes, and a model without structured layers."""
    dense = models.matmul(tmp_path / "m.onnx")
    unused = onnx.load(dense)
    unused.opset_import.append(helper.make_opsetid("edgefc", 7))
    (tmp_path / "u.onnx").write_bytes(unused.SerializeToString())

    for path in (dense, tmp_path / "u.onnx"):
        assert versions_of(path, "edgefc") == frozenset()
        assert Session(path, native="on").native_variant is not None


def test_nodes_without_an_import_have_version_0(tmp_path: Path, exported: onnx.ModelProto) -> None:
    path = write(tmp_path / "m.onnx", exported, ())

    assert versions_of(path, "edgefc") == {0}
    with pytest.raises(UsageError, match="whose version is none"):
        Session(path, native="on")


@pytest.mark.slow
def test_a_record_says_that_no_kernel_ran(tmp_path: Path, exported: onnx.ModelProto) -> None:
    """What a child process warns of on stderr is not seen; a warning of the record is."""
    paths = [write(tmp_path / f"{version}.onnx", exported, (version,)) for version in (1, 2)]
    quick: dict[str, Any] = {"min_time_s": 0.01, "processes": 1, "rounds": 1, "launches": 1, "memory": False}

    first, second = profile(paths, **quick).cells
    (off,) = profile(paths[1], native="off", **quick).cells

    said = (
        "the file has nodes of the domain edgefc whose version is 2, but the native kernels implement version 1, "
        "so its own"
    )
    assert [any(said in warning for warning in cell.warnings) for cell in (first, second, off)] == [False, True, False]
    assert second.native_variant is None and off.native_variant is None


def test_a_group_hides_nothing(tmp_path: Path, exported: onnx.ModelProto) -> None:
    """protobuf skips unknown groups, and so does onnxruntime."""
    path = write(tmp_path / "m.onnx", exported, (2,))
    path.write_bytes(bytes([0xFB, 0x3F, 0x08, 0x01, 0xFC, 0x3F]) + path.read_bytes())  # field 1023, with a field in it

    assert versions_of(path, "edgefc") == {2}
    with pytest.warns(UserWarning, match="whose version is 2"):
        assert Session(path).native_variant is None

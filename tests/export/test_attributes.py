"""Attributes of edgefc nodes that no layer has: every reader of a file refuses them in one sentence."""

import copy
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from torch import Tensor

import edgefc
from edgefc.attributes import CODE_BITS, fault, rules
from edgefc.errors import ModelError, UsageError
from edgefc.export.inspecting.inspector import inspect
from edgefc.export.registry import operators
from edgefc.export.verifying.running import open_session
from edgefc.runtime import Session
from edgefc.testing import layer_model
from tests.support.layer_entries import of_one_node

SEEDS = ("seed", "sign_seed")


@functools.cache
def models() -> dict[str, tuple[onnx.ModelProto, Tensor]]:
    """One small model of every operator that has a layer of one input, and an input of it."""
    found: dict[str, tuple[onnx.ModelProto, Tensor]] = {}
    torch.manual_seed(0)
    for entry in of_one_node():
        layer, x = entry.make(12).eval(), entry.example(12)
        model = ir.to_proto(layer_model(layer, x))
        found.setdefault(model.graph.node[0].op_type, (model, x))
    return found


@functools.cache
def heads() -> dict[str, onnx.ModelProto]:
    """The models with functions that are empty: a reader that refuses a node does not come to them."""
    found = {op: copy.deepcopy(model) for op, (model, _) in models().items()}
    for model in found.values():
        for function in model.functions:
            del function.node[:]
    return found


def mutants(name: str, value: Any, path: Path, *, bodies: bool = False) -> Iterator[tuple[str, Path]]:
    """The models with that attribute, each with another value of it, or without it."""
    for op, model in ((op, model) for op, (model, _) in models().items()) if bodies else heads().items():
        if name not in {each.name for each in model.graph.node[0].attribute}:
            continue
        changed = copy.deepcopy(model)
        (node,) = changed.graph.node
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, *([] if value is None else [helper.make_attribute(name, value)])])
        path.write_bytes(changed.SerializeToString())
        yield op, path


def test_every_attribute_has_a_rule() -> None:
    """And every rule an attribute: a new operator states what its attributes may hold."""
    used = {each.name for model, _ in models().values() for each in model.graph.node[0].attribute}

    assert used | {"transB"} == set(rules())  # that of TiedProjection, which attention alone makes
    assert set(models()) | {"TiedProjection"} == set(operators())


VALUES = {
    "gone": None, "text": "\x1b[31m", "number": 1.5, "list": [7, 7, 7], "numbers": [math.nan] * 16, "low": -(2**63),
    "high": 2**62,
}  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", sorted(rules().keys() - {"transB"}))
def test_a_value_that_no_layer_has(name: str, value: str, tmp_path: Path) -> None:
    """Session refuses it in every mode, and so do inspect and verify: the sentence names the node and the attribute."""
    allowed = rules()[name].holds(VALUES[value])
    count = 0
    for op, path in mutants(name, VALUES[value], tmp_path / "m.onnx"):
        count += 1
        for read in (inspect, open_session, *(functools.partial(Session, native=mode) for mode in ("auto", "off"))):
            if allowed:  # a seed
                inspect(path)
                break
            if read in (inspect, open_session) and VALUES[value] is None:
                continue  # which attributes a file needs is for its functions to say
            with pytest.raises(ModelError, match=rf"(?s)edgefc::{op}, has .*\b{name}\b") as caught:
                read(path)
            assert "gave no reason" not in str(caught.value)
            assert "\n" not in str(caught.value)
    assert count


@pytest.mark.parametrize("op", ["CirculantLinear", "PRPLinear"])
def test_an_attribute_given_twice(op: str, tmp_path: Path) -> None:
    """onnxruntime then says that the operator is defined nowhere, which is not so."""
    changed, path = copy.deepcopy(models()[op][0]), tmp_path / "m.onnx"
    changed.graph.node[0].attribute.append(changed.graph.node[0].attribute[0])
    path.write_bytes(changed.SerializeToString())
    name = changed.graph.node[0].attribute[0].name

    for read in (lambda: Session(path, native="off"), lambda: Session(path), lambda: inspect(path)):
        with pytest.raises(ModelError, match=f"has the attribute '{name}' more than once"):
            read()


@pytest.mark.parametrize("bits", CODE_BITS)
def test_bits_and_a_codebook_of_another_size(bits: int) -> None:
    levels = [0.5] * 16

    said = fault("PRPLinear", {"bits": bits, "codebook": levels}, {})

    assert said == (None if bits == 4 else f"has bits {bits} and a codebook of 16 levels, which must be {2**bits}")


@pytest.mark.parametrize("name", ["in_features", "out_features", "features", "d_model", "num_embeddings"])
def test_a_size_that_the_weights_do_not_have(name: str, tmp_path: Path) -> None:
    """2**31 - 1 is a size, and a body would draw a matrix of it."""
    for op, path in mutants(name, 2**31 - 1, tmp_path / "m.onnx"):
        if op in ("PRPConv2d", "BilinearEmbedding", "HadamardRotation"):  # no input has an axis of that size alone
            continue
        said = rf"edgefc::{op}, has {name} 2147483647( and order 1)?, which do(es)? not fit its input \d"
        with pytest.raises(ModelError, match=said):
            Session(path)


@pytest.mark.parametrize("options", [{}, {"shared": False}, {"projection": "trained"}], ids=str)
def test_an_axis_that_is_a_product(options: dict[str, Any], tmp_path: Path) -> None:
    """The weight of EUGen has features * order columns; a file of any order is loaded."""
    layer = edgefc.EUGenLinear(13, 9, features=6, order=3, **options).eval()
    model = ir.to_proto(layer_model(layer, 13))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    x = torch.randn(2, 13)
    answer = Session(tmp_path / "m.onnx", native="off").run({"x": x.numpy()})["y"]
    np.testing.assert_allclose(answer, layer(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    next(each for each in model.graph.node[0].attribute if each.name == "order").i = 2
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        ModelError, match=r"has features 6 and order 2, which do not fit its input \d of shape \[9, 18\]"
    ):
        Session(tmp_path / "m.onnx")


def test_an_input_of_another_width_is_no_batch(tmp_path: Path) -> None:
    """The body of EUGen cuts its input in rows of in_features: 2 rows of 12 would become 24 of 1."""
    for op, path in mutants("in_features", 1, tmp_path / "m.onnx"):
        if op == "EUGenLinear":
            for mode in ("auto", "off"):
                with pytest.raises(ModelError, match="has in_features 1, which does not fit its input 0 of shape"):
                    Session(path, native=mode)


def test_right_attributes_compute(tmp_path: Path) -> None:
    """The same models, unchanged, run with the kernels and without; their answers agree."""
    for op, (model, x) in models().items():
        path = tmp_path / f"{op}.onnx"
        path.write_bytes(model.SerializeToString())
        answers = []
        for mode in ("auto", "off"):
            session = Session(path, native=mode)
            answers.append(next(iter(session.run({session.inputs[0].name: x.numpy()}).values())))
        np.testing.assert_allclose(answers[0], answers[1], rtol=1e-4, atol=1e-5)


def test_nodes_of_another_version_are_not_checked(tmp_path: Path) -> None:
    """Their attributes may mean something else; their own functions run."""
    (_, path) = next(mutants("distribution", 7, tmp_path / "m.onnx", bodies=True))
    model = onnx.load(path)
    next(each for each in model.opset_import if each.domain == "edgefc").version = 2
    for function in model.functions:
        for each in function.opset_import:
            if each.domain == "edgefc":
                each.version = 2
    path.write_bytes(model.SerializeToString())

    with pytest.warns(UserWarning, match="version is 2"):
        Session(path, native="auto")


def test_native_on_without_a_library_is_another_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefc.runtime.native.library_path", lambda: None)
    with pytest.raises(UsageError, match="native is 'on'"):
        Session(next(mutants("in_features", -1, tmp_path / "m.onnx"))[1], native="on")

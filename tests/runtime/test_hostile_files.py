"""What a file of unknown origin may hold, and the sentence that refuses it before onnxruntime reads it."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgefc.devices.estimating.work import work_of
from edgefc.errors import EdgefcError, ModelError, UsageError
from edgefc.export import verify
from edgefc.export.inspecting.inspector import inspect
from edgefc.modelfile import functions
from edgefc.modelfile.admission import admit
from edgefc.modelfile.protobuf import Malformed, fields, opened
from edgefc.modelfile.weights import weight_files, weights
from edgefc.runtime import Session, profile
from edgefc.runtime.operators import versions_of
from tests.support import hostile_models as models
from tests.support import store_models

SHAPE = models.SHAPE
X = np.arange(8, dtype=np.float32).reshape(SHAPE)
Read = Callable[[Path], object]
READS: dict[str, Read] = {
    "Session": lambda path: Session(path, native="off"),
    "inspect": inspect,
    "verify": lambda path: verify(path, nn.Identity(), torch.zeros(SHAPE)),
    "estimate": work_of,
    "profile": lambda path: profile(path, min_time_s=0.01, processes=1, rounds=1, launches=1, memory=False),
}


def saved(path: Path, model: onnx.ModelProto | bytes) -> Path:
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def onnxruntime(path: Path) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)


def loads(path: Path) -> bool:
    try:
        onnxruntime(path)
    except Exception:
        return False
    return True


@pytest.fixture
def no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """These files end the process there: a guard that is gone must fail a test, not the run of all tests."""

    def reached(*args: object, **options: object) -> None:
        raise AssertionError("onnxruntime was given the file")

    monkeypatch.setattr(ort, "InferenceSession", reached)
    monkeypatch.setattr("edgefc.runtime.probes.child.ask", reached)


# ---- functions

DEEP = models.chain(3000).SerializeToString()


@pytest.mark.usefixtures("no_onnxruntime")
@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_nested_functions_are_refused_everywhere(tmp_path: Path, read: Read) -> None:
    with pytest.raises(ModelError, match=r"cannot load .*m\.onnx: more than 64 function calls .* nested within each"):
        read(saved(tmp_path / "m.onnx", DEEP))


MANY = numpy_helper.from_array(np.zeros(1 << 18, np.float32))
REFUSED: dict[str, tuple[onnx.ModelProto, str]] = {
    "65 calls": (models.chain(65), "more than 64 function calls and subgraphs are nested within each other"),
    "21 calls with 3 subgraphs": (models.calls_in_branches(17, 3), "more than 64 function calls and subgraphs"),
    "3 calls with 30 subgraphs": (models.calls_in_branches(3, 30), "more than 64 function calls and subgraphs"),
    "doubling": (models.doubling(24), "onnxruntime would copy at least [0-9,]+ nodes and names"),
    "copies of a tensor": (models.copies(600, MANY), "take [0-9,]+ bytes more than the file, and the limit is 536,"),
}


@pytest.mark.parametrize(("model", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_functions_that_are_too_much(tmp_path: Path, model: onnx.ModelProto, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        admit(saved(tmp_path / "m.onnx", model))


def test_functions_with_many_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "MOST_NAMES", 100)
    model = models.model(models.call("F", "x", "y"))
    models.add_function(model, "F", models.node("Identity", "a0"), inputs=[f"a{index}" for index in range(100)])

    with pytest.raises(ModelError, match="its functions declare more than 100 inputs"):
        admit(saved(tmp_path / "m.onnx", model))


@pytest.mark.parametrize("names", [["F"], ["F", "G"], ["F", "G", "H"]])
def test_functions_that_call_themselves(tmp_path: Path, names: list[str]) -> None:
    model = models.model(models.call("F", "x", "y"))
    for name, called in zip(names, names[1:] + names[:1], strict=True):
        models.add_function(model, name, models.call(called))

    with pytest.raises(ModelError, match="its function d::F calls itself, which ONNX does not allow"):
        admit(saved(tmp_path / "m.onnx", model))


def test_an_overload_is_another_function(tmp_path: Path) -> None:
    model = models.model(models.call("F", "x", "y"))
    model.graph.node[0].overload = "1"
    models.add_function(model, "F", models.node("Neg"))
    models.add_function(model, "F", models.call("F"), overload="1")

    assert np.array_equal(Session(saved(tmp_path / "m.onnx", model)).run({"x": X})["y"], -X)


@pytest.mark.parametrize(
    "model", [models.chain(64), models.calls_in_branches(32, 1), models.calls_in_branches(2, 30), models.doubling(10)]
)
def test_functions_within_the_limits_run(tmp_path: Path, model: onnx.ModelProto) -> None:
    assert np.array_equal(Session(saved(tmp_path / "m.onnx", model), native="off").run({"x": X})["y"], X)


@pytest.mark.slow
@pytest.mark.parametrize("model", [models.chain(64), models.calls_in_branches(32, 1), models.calls_in_branches(2, 30)])
def test_the_limits_leave_room_on_a_small_stack(tmp_path: Path, model: onnx.ModelProto) -> None:
    """Of a thread with 256 KB."""
    program = (
        "import sys, threading; from edgefc.runtime import Session; threading.stack_size(256 << 10)\n"
        "one = threading.Thread(target=lambda: print(Session(sys.argv[1], native='off').inputs))\n"
        "one.start(); one.join()"
    )
    done = subprocess.run([sys.executable, "-c", program, saved(tmp_path / "m.onnx", model)], capture_output=True)

    assert (done.returncode, b"name='x'" in done.stdout) == (0, True), done.stderr


# ---- names


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
@pytest.mark.parametrize(("old", "what"), [(b"input", "input 'i\ufffdput'"), (b"batch", "axis 'b\ufffdtch'")])
def test_names_that_python_cannot_hold(tmp_path: Path, read: Read, old: bytes, what: str) -> None:
    model = models.model(models.node("Neg", "input", "output"))
    model.graph.input[0].name, model.graph.output[0].name = "input", "output"
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    broken = model.SerializeToString().replace(old, old[:1] + b"\xfe" + old[2:])

    with pytest.raises(ModelError, match=f"the name of its {what} is not UTF-8"):
        read(saved(tmp_path / "m.onnx", broken))


def test_names_in_an_ort_file(tmp_path: Path) -> None:
    model = models.model(models.node("Neg", "input", "y"))
    model.graph.input[0].name = "input"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (tmp_path / "m.ort").write_bytes((tmp_path / "m.ort").read_bytes().replace(b"input", b"in\xfeut"))

    with pytest.raises(ModelError, match="the name of an input or output is not UTF-8"):
        Session(tmp_path / "m.ort")


OTHERS = [b"NODE", b"KEY", b"VALUE", b"GRAPH", b"DOC", b"PRODUCER", b"MIDDLE", b"SIZE", b"FUNCTION", b"OPSET", b"Neg"]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("read", ["Session", "inspect", "verify"])
def test_other_names(tmp_path: Path, read: str, name: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Each is read, or refused in one sentence; nothing else is printed."""
    function = models.call("FUNCTION", "MIDDLE", "y")
    model = models.model(models.node("Neg", "x", "MIDDLE", name="NODE"), function)
    models.add_function(model, "FUNCTION", models.node("Neg"))
    model.graph.name, model.graph.doc_string, model.producer_name = "GRAPH", "DOC", "PRODUCER"
    model.metadata_props.add(key="KEY", value="VALUE")
    model.opset_import.add(domain="OPSET", version=1)
    model.graph.value_info.append(helper.make_tensor_value_info("MIDDLE", TensorProto.FLOAT, ["SIZE", 4]))
    broken = model.SerializeToString().replace(name, name[:-1] + b"\xfe")

    said = ""
    try:
        READS[read](saved(tmp_path / "m.onnx", broken))
    except EdgefcError as error:
        said = str(error)
    assert "\n" not in said and "codec" not in said
    assert capfd.readouterr().out == ""


def test_the_steps_of_a_model_with_such_a_name_are_counted(tmp_path: Path) -> None:
    data = models.model(models.node("Neg", "x", "y", name="NODE")).SerializeToString()

    assert [step.op for step in work_of(saved(tmp_path / "m.onnx", data.replace(b"NODE", b"NOD\xfe"))).steps] == ["Neg"]


# ---- the file itself


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_a_pipe_is_no_model(tmp_path: Path, read: Read) -> None:
    """To open one waits until someone writes to it."""
    os.mkfifo(tmp_path / "m.onnx")

    with pytest.raises(UsageError, match=r"m\.onnx: it is not a regular file|no file .*m\.onnx"):
        read(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["m" * 5000, "m/" * 2500, "m\0"])
def test_paths_that_the_system_refuses(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot load .{,320}\. Check the path\.$"):
        Session(name)


def test_a_file_that_is_larger_than_protobuf_reads(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", models.model(models.node("Neg", "x", "y")))
    os.truncate(path, 1 << 31)  # a hole on the disk

    with pytest.raises(ModelError, match="it has 2,147,483,648 bytes, and the limit of an ONNX file is 2,147,483,647"):
        Session(path)


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path: Path) -> None:
    """A mapped one ends the process."""
    path = saved(tmp_path / "m.onnx", models.copies(5000, MANY))
    with opened(path) as source:
        found = fields(source, source.whole)
        next(found)
        os.truncate(path, 100)
        with pytest.raises(Malformed):
            list(found)


# ---- where weights lie

Entries = list[tuple[str, str]]
PLACES: list[Entries] = [
    [("location", "w.bin")],
    [("location", "./w.bin")],
    [("location", "sub/../w.bin")],
    [("location", "sub//v.bin")],
    [("location", "link")],
    [("location", "a%20b")],
    [("location", "a b")],
    [("location", "sub\\v.bin")],
    [("location", "w.bin"), ("offset", "32")],
    [("location", "w.bin"), ("offset", "032"), ("length", "32")],
    [("location", "w.bin"), ("length", "0")],
    [("location", "w.bin"), ("offset", "32"), ("offset", "16")],
    [("length", "32"), ("offset", "64"), ("location", "w.bin")],
    [("location", "w.bin"), ("checksum", "?")],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every file holds other numbers."""
    (tmp_path / "sub").mkdir()
    for index, name in enumerate(("w.bin", "sub/v.bin", "a%20b", "a b", "sub\\v.bin", "linked")):
        (np.arange(24, dtype=np.float32) + 100 * index).tofile(tmp_path / name)
    (tmp_path / "link").symlink_to("linked")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def added(*entries: tuple[str, str]) -> onnx.ModelProto:
    return models.model(helper.make_node("Add", ["x", "w"], ["y"]), weights=[models.external("w", *entries)])


@pytest.mark.parametrize("entries", PLACES, ids=str)
def test_what_is_told_is_what_onnxruntime_reads(folder: Path, entries: Entries) -> None:
    path = saved(folder / "m.onnx", added(*entries))
    (place,) = weights(path)

    told = np.fromfile(place.file, np.float32, offset=place.offset, count=(place.length or 0) // 4)

    assert np.array_equal(Session(path).run({"x": 0 * X})["y"], told.reshape(SHAPE))
    assert inspect(path).data_bytes == place.file.stat().st_size


NOT_READ: list[tuple[Entries, str]] = [
    ([("location", "w.bin"), ("location", "w.bin")], "tensor 'w' names two files for its weights"),
    (
        [("location", "w.bin"), ("offset", "65")],
        "the data of tensor 'w' extend beyond the end of its weights file 'w.bin'",
    ),
    ([("location", "w.bin"), ("offset", "-4")], "tensor 'w' has the invalid offset or length '-4'"),
    ([("location", "w.bin"), ("offset", "+4")], "tensor 'w' has the invalid offset or length '+4'"),
    ([("location", "w.bin"), ("offset", "x")], "tensor 'w' has the invalid offset or length 'x'"),
    ([("location", "w.bin"), ("offset", "")], "tensor 'w' has the invalid offset or length ''"),
    ([("location", "w.bin"), ("offset", "9" * 5000)], "tensor 'w' has the invalid offset or length '999"),
    ([("location", "w.bin"), ("length", "12")], "tensor 'w' has 12 bytes in its weights file and needs 32"),
    ([("location", "w.bin"), ("length", "-1")], "tensor 'w' has the invalid offset or length '-1'"),
    ([("location", "nosub/../w.bin")], "its weights file 'nosub/../w.bin' does not exist"),
    ([("location", "w.bin/")], "its weights file 'w.bin/' does not exist"),
    ([("location", "gone")], "its weights file 'gone' does not exist"),
    ([("location", "loop")], "its weights file 'loop' cannot be used: Too many levels of symbolic links"),
    ([("location", "w" * 5000)], f"its weights file '{'w' * 80} ...' cannot be used: File name too long"),
    ([("location", "w/" * 2500)], "cannot be used: File name too long"),
    ([("location", ".")], "its weights file '.' is not a regular file"),
    ([("location", "sub")], "its weights file 'sub' is not a regular file"),
    ([("location", "pipe")], "its weights file 'pipe' is not a regular file"),
    ([("location", "socket")], "its weights file 'socket' is not a regular file"),
    ([("location", "")], "tensor 'w' names no file for its weights"),
    ([("location", "../w.bin")], "its weights file '../w.bin' is outside the model's folder"),
    ([("location", "/dev/zero")], "its weights file '/dev/zero' is outside the model's folder"),
]


@pytest.mark.parametrize(("entries", "sentence"), NOT_READ, ids=[str(each)[:80] for each, _ in NOT_READ])
def test_what_onnxruntime_does_not_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, entries: Entries, sentence: str
) -> None:
    monkeypatch.chdir(folder)
    path = saved(Path("m.onnx"), added(*entries))
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")

        assert not loads(path)
        for read in (weight_files, READS["Session"], inspect):
            with pytest.raises(ModelError, match=rf"cannot load m\.onnx: .*{re.escape(sentence)}.*\. \w.*[^.]\.$"):
                read(path)


@pytest.mark.parametrize(("name", "why"), [(b"w.bin\0.x", "contains a NUL"), (b"w\xfe.bin", "is not UTF-8")])
def test_names_of_weights_that_are_refused_though_onnxruntime_reads_them(folder: Path, name: bytes, why: str) -> None:
    """It reads w.bin for w.bin, NUL, .x; and a name that is not UTF-8 has no place in a record or on a board."""
    np.zeros(24, np.float32).tofile(os.fsencode(folder) + b"/w\xfe.bin")
    data = added(("location", "w" * len(name))).SerializeToString().replace(b"w" * len(name), name)
    path = saved(folder / "m.onnx", data)

    assert loads(path)
    for read in (weight_files, READS["Session"], inspect):
        with pytest.raises(ModelError, match=rf"the name of its weights file, .*, {why}"):
            read(path)


def sparse(name: str = "w") -> onnx.SparseTensorProto:
    values = models.external(name)
    values.dims[:] = [8]
    indices = numpy_helper.from_array(np.arange(8), "at")
    return onnx.SparseTensorProto(values=values, indices=indices, dims=SHAPE)


def in_a_branch() -> onnx.ModelProto:
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["b"])], "g", [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)], [models.external()],
    )  # fmt: skip
    true = numpy_helper.from_array(np.array(True), "c")
    return models.model(helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner), weights=[true])


def in_a_function() -> onnx.ModelProto:
    return models.copies(1, models.external())


def in_a_default_of_a_function() -> onnx.ModelProto:
    made = models.model(models.call("F", "x", "y"))
    constant = models.node("Constant", "", "c")
    constant.attribute.add(name="value", ref_attr_name="v", type=onnx.AttributeProto.TENSOR)
    models.add_function(made, "F", constant, helper.make_node("Add", ["a", "c"], ["b"]))
    made.functions[0].attribute_proto.add(name="v", type=onnx.AttributeProto.TENSOR, t=models.external())
    return made


def in_a_constant() -> onnx.ModelProto:
    value = models.node("Constant", "", "w", value=models.external())
    return models.model(value, helper.make_node("Add", ["x", "w"], ["y"]))


def in_a_sparse_constant() -> onnx.ModelProto:
    value = models.node("Constant", "", "w", sparse_value=sparse())
    return models.model(value, helper.make_node("Add", ["x", "w"], ["y"]))


def in_a_sparse_initializer() -> onnx.ModelProto:
    made = models.model(helper.make_node("Add", ["x", "w"], ["y"]))
    made.graph.sparse_initializer.append(sparse())
    return made


def behind_a_group() -> bytes:
    """An unknown field of wire type 3, which protobuf skips."""
    return bytes([0xFB, 0x3F, 0xFC, 0x3F]) + added().SerializeToString()


def _rebuilt(tensor: bytes) -> bytes:
    made = added()
    del made.graph.initializer[:]
    graph = made.graph.SerializeToString() + models.field(5, tensor)
    made.ClearField("graph")
    return made.SerializeToString() + models.field(7, graph)


def with_high_bits() -> bytes:
    """protobuf keeps 32 bits of a key, and of an enumeration."""
    plain = models.external()
    plain.ClearField("data_location")
    return _rebuilt(plain.SerializeToString() + models.varint(14 << 3 | 1 << 32) + models.varint(1 | 1 << 32))


def with_an_unknown_location_after() -> bytes:
    """protobuf passes over values that an enumeration lacks."""
    return _rebuilt(models.external().SerializeToString() + models.varint(14 << 3) + models.varint(7))


def in_two_parts() -> bytes:
    """The value of an attribute in two fields, which are one message: where it lies, and that it lies outside."""
    made = in_a_constant()
    attribute = made.graph.node[0].attribute[0]
    first = TensorProto.FromString(attribute.t.SerializeToString())
    first.ClearField("data_location")
    second = TensorProto(data_location=TensorProto.EXTERNAL)
    attribute.ClearField("t")
    whole = attribute.SerializeToString() + b"".join(models.field(5, t.SerializeToString()) for t in (first, second))
    del made.graph.node[0].attribute[:]
    node = made.graph.node[0].SerializeToString() + models.field(5, whole)
    del made.graph.node[0]
    rest = made.graph.SerializeToString()
    made.ClearField("graph")
    return made.SerializeToString() + models.field(7, models.field(1, node)) + models.field(7, rest)


def without_saying_so() -> onnx.ModelProto:
    """A place without data_location: the numbers lie in the file."""
    made = added()
    made.graph.initializer[0].ClearField("data_location")
    made.graph.initializer[0].raw_data = X.tobytes()
    return made


HIDDEN: list[Callable[[], onnx.ModelProto | bytes]] = [
    added, in_a_branch, in_a_function, in_a_default_of_a_function, in_a_constant, in_a_sparse_constant,
    in_a_sparse_initializer, behind_a_group, with_high_bits, with_an_unknown_location_after, in_two_parts,
    without_saying_so,
]  # fmt: skip


@pytest.mark.parametrize("make", HIDDEN)
def test_weights_are_told_where_onnxruntime_reads_them(tmp_path: Path, make: Callable[[], Any]) -> None:
    """It reads a file when a model loads that does not load without it."""
    path = saved(tmp_path / "m.onnx", make())
    X.tofile(tmp_path / "w.bin")
    found, loaded = weight_files(path), loads(path)
    os.unlink(tmp_path / "w.bin")

    if loaded:
        assert found == ([] if loads(path) else [tmp_path / "w.bin"])
    else:
        pytest.skip(f"this onnxruntime does not load it: {found}")


# ---- inspect, which onnxruntime does not guard


def test_weights_that_are_passed_on_again_and_again(tmp_path: Path) -> None:
    """Each Concat of a value with itself doubles the ways by which it is reached."""
    steps = [helper.make_node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=0) for i in range(60)]
    steps[0].input[:] = ["w", "w"]
    model = models.model(*steps, models.node("Neg", "x", "y"), weights=[store_models.tensor("w", 2, 4)])

    assert inspect(saved(tmp_path / "m.onnx", model)).numbers == 8


def test_more_uses_than_can_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefc.export.inspecting.stored._MOST_USES", 99)
    steps = [models.node("Identity", f"v{i}" if i else "w", f"v{i + 1}") for i in range(100)]
    model = models.model(*steps, models.node("Neg", "x", "y"), weights=[store_models.tensor("w", 2, 4)])

    with pytest.raises(ModelError, match="its nodes use its weights more than 99 times"):
        inspect(saved(tmp_path / "m.onnx", model))


@pytest.mark.parametrize("dims", [[1 << 62] * 300, [2, -4]])
def test_shapes_that_no_tensor_has(tmp_path: Path, dims: list[int]) -> None:
    model = models.model(models.node("Neg", "x", "y"))
    model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=dims)

    with pytest.raises(ModelError, match="tensor 'w' has the invalid shape"):
        inspect(saved(tmp_path / "m.onnx", model))


MUTATED = [
    make().SerializeToString() for make in (in_a_branch, in_a_function, in_a_sparse_constant, store_models.blocks)
]


@given(st.sampled_from(MUTATED), st.integers(0, 10**6), st.binary(max_size=4), st.integers(0, 4))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_files_are_read_or_refused(tmp_path: Path, data: bytes, at: int, new: bytes, dropped: int) -> None:
    at %= len(data)
    X.tofile(tmp_path / "w.bin")
    path = saved(tmp_path / "m.onnx", data[:at] + new + data[at + dropped :])

    for read in (inspect, weight_files, lambda path: versions_of(path, "edgefc")):
        with contextlib.suppress(EdgefcError):
            read(path)

"""Hostile external data: each function takes the path of a model and writes the model and its files."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from onnx import AttributeProto, TensorProto, helper

from tests.attack.files_graph_models import Write, function, model, port, weight

EXTERNAL: dict[str, Write] = {}
_DATA = bytes(range(64))


def external(*entries: tuple[str, str], name: str = "w") -> TensorProto:
    made = weight(name)
    made.ClearField("raw_data")
    made.data_location = TensorProto.EXTERNAL
    for key, value in entries:
        made.external_data.add(key=key, value=value)
    return made


def _write(path: Path, *entries: tuple[str, str]) -> None:
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], weights=[external(*entries)])
    path.write_bytes(made.SerializeToString())


def _named(make: Callable[[Path], None]) -> Callable[[Path], None]:
    EXTERNAL[make.__name__] = make
    return make


def _located(name: str, location: str, *more: tuple[str, str], data: bytes | None = None) -> None:
    def write(path: Path) -> None:
        if data is not None:
            (path.parent / location).write_bytes(data)
        _write(path, ("location", location), *more)

    EXTERNAL[f"external_{name}"] = write


_located("missing", "nothing.bin")
_located("absolute", "/etc/passwd")
_located("proc", "/proc/self/environ")
_located("above", "../secret.bin")
_located("above_by_detour", "a/../../secret.bin")
_located("device", "/dev/zero")
_located("long", "w" * 5000)
_located("long_path", "d/" * 2500 + "w")
_located("nul", "w\0.bin")
_located("empty_name", "")
_located("dot", ".")
_located("slashes", "//w.bin")
_located("windows", "C:\\w.bin")
_located("url", "https://example.com/w.bin")
_located("in_memory", "*/_ORT_MEM_ADDR_/*", ("offset", "12345678"), ("length", "64"))
_located("newline", "w\n.bin", data=_DATA)
_located("escape", "w\x1b[31m.bin", data=_DATA)
_located("unicode", "wäß.bin", data=_DATA)
_located("truncated", "w.bin", data=_DATA[:63])
_located("empty_file", "w.bin", data=b"")
_located("offset_beyond", "w.bin", ("offset", "4096"), data=_DATA)
_located("offset_overflow", "w.bin", ("offset", str(2**63 - 10)), ("length", "64"), data=_DATA)
_located("offset_of_many_digits", "w.bin", ("offset", "9" * 5000), data=_DATA)
_located("offset_negative", "w.bin", ("offset", "-1"), data=_DATA)
_located("offset_text", "w.bin", ("offset", "none"), data=_DATA)
_located("length_short", "w.bin", ("length", "3"), data=_DATA)
_located("length_huge", "w.bin", ("length", str(2**62)), data=_DATA)
_located("length_negative", "w.bin", ("length", "-64"), data=_DATA)
_located("length_overflow", "w.bin", ("length", str(2**64 + 64)), data=_DATA)
_located("checksum", "w.bin", ("checksum", "wrong"), data=_DATA)
_located("unknown_key", "w.bin", ("colour", "blue"), data=_DATA)
_located("two_locations", "w.bin", ("location", "/etc/passwd"), data=_DATA)
_located("model_itself", "model.onnx")


@_named
def external_no_location(path: Path) -> None:
    _write(path, ("offset", "0"))


@_named
def external_not_utf8(path: Path) -> None:
    _write(path, ("location", "MARK.bin"))
    path.write_bytes(path.read_bytes().replace(b"MARK", b"\xff\xfe\x80w"))
    (path.parent / os.fsdecode(b"\xff\xfe\x80w.bin")).write_bytes(_DATA)


@_named
def external_fifo(path: Path) -> None:
    os.mkfifo(path.parent / "w.bin")
    _write(path, ("location", "w.bin"))


@_named
def external_folder(path: Path) -> None:
    (path.parent / "w.bin").mkdir()
    _write(path, ("location", "w.bin"))


@_named
def external_link_outside(path: Path) -> None:
    (path.parent / "w.bin").symlink_to("/etc/hostname")
    _write(path, ("location", "w.bin"))


@_named
def external_link_to_itself(path: Path) -> None:
    (path.parent / "w.bin").symlink_to("w.bin")
    _write(path, ("location", "w.bin"))


@_named
def external_link_to_a_device(path: Path) -> None:
    (path.parent / "w.bin").symlink_to("/dev/zero")
    _write(path, ("location", "w.bin"))


@_named
def external_link_inside(path: Path) -> None:
    (path.parent / "real.bin").write_bytes(_DATA)
    (path.parent / "w.bin").symlink_to("real.bin")
    _write(path, ("location", "w.bin"))


@_named
def external_hard_link(path: Path) -> None:
    (path.parent / "real.bin").write_bytes(_DATA)
    os.link(path.parent / "real.bin", path.parent / "w.bin")
    _write(path, ("location", "w.bin"))


@_named
def external_unreadable(path: Path) -> None:
    (path.parent / "w.bin").write_bytes(_DATA)
    (path.parent / "w.bin").chmod(0)
    _write(path, ("location", "w.bin"))


@_named
def external_sparse_file(path: Path) -> None:
    """A sparse file: 4 GiB of zeros, then the weights. A larger one would only take longer to hash."""
    with (path.parent / "w.bin").open("wb") as file:
        file.truncate((1 << 32) + 4096)
    _write(path, ("location", "w.bin"), ("offset", str(1 << 32)), ("length", "64"))


@_named
def external_in_a_subfolder(path: Path) -> None:
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "w.bin").write_bytes(_DATA)
    _write(path, ("location", "sub/w.bin"))


@_named
def external_in_a_branch(path: Path) -> None:
    """Existing files: onnxruntime reads them, so they are hashed and sent."""
    _in_branches(path, ["t.bin", "e.bin"])


@_named
def external_in_a_branch_outside(path: Path) -> None:
    _in_branches(path, ["t.bin", "/etc/passwd"])


def _in_branches(path: Path, locations: Sequence[str]) -> None:
    graphs = []
    for index, location in enumerate(locations):
        if not location.startswith("/"):
            (path.parent / location).write_bytes(_DATA)
        w = external(("location", location), name=f"w{index}")
        node = helper.make_node("MatMul", ["x", f"w{index}"], [f"o{index}"])
        graphs.append(helper.make_graph([node], f"g{index}", [], [port(f"o{index}")], [w]))
    node = helper.make_node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1])
    path.write_bytes(model([node], inputs=[port("x"), port("c", (), TensorProto.BOOL)]).SerializeToString())


@_named
def external_in_a_constant(path: Path) -> None:
    _in_constant(path, "k.bin")


@_named
def external_in_a_constant_outside(path: Path) -> None:
    _in_constant(path, "../secret.bin")


def _in_constant(path: Path, location: str) -> None:
    if ".." not in location:
        (path.parent / location).write_bytes(_DATA)
    node = helper.make_node("Constant", [], ["w"])
    attribute = node.attribute.add(name="value", type=AttributeProto.TENSOR)
    attribute.t.CopyFrom(external(("location", location)))
    path.write_bytes(model([node, helper.make_node("MatMul", ["x", "w"], ["y"])]).SerializeToString())


@_named
def external_in_a_function(path: Path) -> None:
    (path.parent / "f.bin").write_bytes(_DATA)
    node = helper.make_node("Constant", [], ["w"])
    attribute = node.attribute.add(name="value", type=AttributeProto.TENSOR)
    attribute.t.CopyFrom(external(("location", "f.bin")))
    made = function("F", [node, helper.make_node("MatMul", ["a", "w"], ["b"])])
    path.write_bytes(model([helper.make_node("F", ["x"], ["y"], domain="d")], functions=[made]).SerializeToString())


@_named
def external_behind_a_group(path: Path) -> None:
    """Weights of an initializer that follows an unknown group."""
    (path.parent / "w.bin").write_bytes(_DATA)
    _write(path, ("location", "w.bin"))
    path.write_bytes(b"\xa3\x06\x08\x01\xa4\x06" + path.read_bytes())


@_named
def external_many_files(path: Path) -> None:
    names = [f"w{i}.bin" for i in range(300)]
    for name in names:
        (path.parent / name).write_bytes(_DATA)
    weights = [external(("location", name), name=f"w{i}") for i, name in enumerate(names)]
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(len(names))]
    path.write_bytes(model([*nodes, helper.make_node("Identity", ["y0"], ["y"])], weights=weights).SerializeToString())


# ---- the model's own path


@_named
def model_is_a_fifo(path: Path) -> None:
    os.mkfifo(path)


@_named
def model_is_a_folder(path: Path) -> None:
    path.mkdir()


@_named
def model_is_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@_named
def model_is_a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@_named
def model_is_a_broken_link(path: Path) -> None:
    path.symlink_to("nothing.onnx")


@_named
def model_is_64_gigabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 36)


@_named
def model_is_a_link_elsewhere(path: Path) -> None:
    """As in the cache of the hub: the model and its weights are links to files in another folder."""
    blobs = path.parent / "blobs"
    blobs.mkdir()
    (blobs / "data").write_bytes(_DATA)
    (path.parent / "w.bin").symlink_to("blobs/data")
    _write(blobs / "graph", ("location", "w.bin"))
    path.symlink_to("blobs/graph")

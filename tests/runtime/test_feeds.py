"""What may be given as an input: arrays of any order and layout, tensors, lists; and what is refused, and how."""

import array
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgefc.errors import UsageError
from edgefc.runtime import Session
from edgefc.runtime.inputs import read_npz
from edgefc.runtime.profiling.request import inputs_file
from tests.support import onnx_models

ROWS, COLUMNS = 3, 4
DTYPES = (
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
VALUES = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 5 - 2.0


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Session]:
    """For each dtype a model that turns its input of (ROWS, COLUMNS) upside down: a wrong layout shows."""
    folder, result = tmp_path_factory.mktemp("models"), {}
    for dtype in (*DTYPES, "str"):
        kind = TensorProto.STRING if dtype == "str" else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        node = helper.make_node("Transpose", ["x"], ["y"])
        ports = {"x": (kind, [ROWS, COLUMNS])}, {"y": (kind, [COLUMNS, ROWS])}
        result[dtype] = Session(onnx_models.write(folder / f"{dtype}.onnx", [node], *ports, {}))
    return result


def values(dtype: str) -> NDArray[Any]:
    """Of the dtype, with -2 to 2 where there are signs; halves and NaN where there are fractions."""
    result: NDArray[Any] = np.abs(VALUES) if dtype.startswith("u") else VALUES.copy()
    if dtype.startswith("float"):
        result = result / 2
        result[0, 0] = np.nan
    return result.astype(dtype)


LAYOUTS = {
    "big endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "little endian": lambda x: x.astype(x.dtype.newbyteorder("<")),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "every second": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "a view with an offset": lambda x: np.pad(x, 1)[1:-1, 1:-1],
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "matrix": lambda x: x.view(np.matrix),
    "a subclass": lambda x: x.view(type("Subclass", (np.ndarray,), {})),
    "memoryview": lambda x: memoryview(x) if x.dtype.kind != "T" else x,
    "a list of arrays": list,
    "a tensor": lambda x: torch.tensor(x),
    "a transposed tensor": lambda x: torch.tensor(x.T.copy()).T,
    "an object with __array__": lambda x: type("Held", (), {"__array__": lambda self, dtype=None, copy=None: x})(),
    "big endian, of every second row": lambda x: np.repeat(x.astype(x.dtype.newbyteorder(">")), 2, 0)[::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(dtype: str, layout: str, sessions: dict[str, Session]) -> None:
    """The model sees the values, whatever their order in memory. Unsigned torch tensors of several bytes are new."""
    x = values(dtype)
    given = LAYOUTS[layout](x)

    y = sessions[dtype].run({"x": given})["y"]

    np.testing.assert_array_equal(y, x.T)
    assert y.dtype == np.dtype(dtype)


def test_what_is_read_only(sessions: dict[str, Session]) -> None:
    x = values("float32")
    x.flags.writeable = False

    np.testing.assert_array_equal(sessions["float32"].run({"x": x})["y"], x.T)


TENSORS = {
    "with a gradient": lambda x: x.requires_grad_(),
    "a parameter": torch.nn.Parameter,
    "with the negative bit": lambda x: torch._neg_view(-x),
    "expanded": lambda x: x.clone()[:, None, :].expand(-1, 2, -1)[:, 1],
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_numpy_does_not_take_as_they_are(kind: str, sessions: dict[str, Session]) -> None:
    x = values("float32")

    y = sessions["float32"].run({"x": TENSORS[kind](torch.tensor(x))})["y"]

    np.testing.assert_array_equal(y, x.T)


def test_big_endian_against_float64(tmp_path: Path) -> None:
    """y = x @ w: a byte order that is read wrong gives other numbers."""
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(">f4")
    w = np.arange(8)[:, None] + np.arange(4) / 10

    y = Session(onnx_models.matmul(tmp_path / "m.onnx")).run({"x": x})["y"]

    np.testing.assert_allclose(y, x.astype(np.float64) @ w, rtol=1e-5, atol=1e-5)


@given(some.lists(some.lists(some.integers(-(2**70), 2**70) | some.integers(-9, 9), min_size=4, max_size=4),
                  min_size=3, max_size=3))  # fmt: skip
@example(rows=[[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2**63 + 1]])
@settings(max_examples=40)
def test_lists_of_integers_are_kept_or_refused(sessions: dict[str, Session], rows: list[list[int]]) -> None:
    """Never wrapped around, and never rounded."""
    for dtype in ("int8", "uint16", "int64", "uint64", "float32", "float64"):
        try:
            y = sessions[dtype].run({"x": rows})["y"]
        except UsageError:
            if all(abs(each) < 10 for row in rows for each in row) and dtype != "uint64" and dtype != "uint16":
                raise
        else:
            assert [[int(each) for each in row] for row in y.T] == rows


def test_lists_of_fractions_are_rounded_to_the_nearest(sessions: dict[str, Session]) -> None:
    rows = [[0.1, 2.0, -3.5, float("inf")]] * ROWS

    y = sessions["float32"].run({"x": rows})["y"]

    np.testing.assert_array_equal(y.T, np.array(rows, np.float32))


REFUSED = {
    "fractions beyond the dtype": ("float16", [[1e9] * COLUMNS] * ROWS, "must have dtype float16, got float64"),
    "fractions for integers": ("int64", [[0.5] * COLUMNS] * ROWS, "must have dtype int64, got float64"),
    "booleans for numbers": ("float32", [[True] * COLUMNS] * ROWS, "must have dtype float32, got bool"),
    "a numpy number": ("float32", np.float64(1), "must have dtype float32, got float64. Cast it"),
    "rows of different lengths": ("float32", [[1.0], [1.0, 2.0]], "is a list, which numpy cannot convert to an array"),
    "masked": ("float32", np.ma.masked_array(VALUES.astype("f"), VALUES > 0), "is a masked array"),
    "complex": ("float32", VALUES + 0j, "must have dtype float32, got complex128. Pass an array of float32"),
    "dates": (
        "float32",
        VALUES.astype("datetime64[s]"),
        "must have dtype float32, got datetime64[s]. Pass an array of",
    ),
    "records": ("float32", np.zeros((3, 4), "f4,f4"), "must have dtype float32, got void64. Pass an array of float32"),
    "objects": ("float32", VALUES.astype(object), "must have dtype float32, got object. Pass an array of"),
    "None": ("float32", None, "must have dtype float32, got object"),
    "text": ("float32", "1.0", "must have dtype float32"),
    "bytes": ("str", np.full((3, 4), b"a"), "must have dtype str, got bytes8. Cast it"),
    "numbers for text": ("str", VALUES, "must have dtype str, got float64"),
    "None among texts": (
        "str",
        np.array([["a", None, "c", "d"]] * 3, object),
        "must contain only str, got an object of type NoneType",
    ),
    "a tensor on meta": ("float32", torch.zeros(3, 4, device="meta"), ", which numpy cannot convert to an array"),
    "a sparse tensor": ("float32", torch.eye(3).to_sparse(), ", which numpy cannot convert to an array"),
    "bfloat16": ("float32", torch.zeros(3, 4, dtype=torch.bfloat16), ", which numpy cannot convert to an array"),
    "a module": ("float32", torch.nn.Linear(2, 2), "is a Linear, which numpy cannot convert to an array"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, sessions: dict[str, Session]) -> None:
    dtype, value, said = REFUSED[case]

    with pytest.raises(UsageError) as caught:
        sessions[dtype].run({"x": value})

    assert said in str(caught.value)
    assert "'x'" in str(caught.value)


@pytest.mark.parametrize("feeds", [[np.zeros((3, 4))], np.zeros((3, 4)), {1: np.zeros((3, 4))}, None], ids=str)
def test_feeds_that_are_no_dict_of_names(feeds: Any, sessions: dict[str, Session]) -> None:
    with pytest.raises(UsageError, match=r"feeds must be a dict|has no input 1|run\(\) got "):
        sessions["float32"].run(feeds)


@pytest.mark.parametrize("dtype", ["U5", ">U5", "<U5", object])
def test_texts(dtype: Any, sessions: dict[str, Session]) -> None:
    x = np.array([["a", "é", "", "日本"]] * ROWS).astype(dtype)

    assert sessions["str"].run({"x": x})["y"].T.tolist() == x.tolist()


def test_inputs_for_profile_are_written_as_they_are(tmp_path: Path) -> None:
    """The child reads what was given, and gets the same from the same check."""
    x = values("float32")
    texts = np.array([["a", "é"]], object)
    with inputs_file({"big": x.astype(">f4"), "tensor": torch.tensor(x, requires_grad=True), "t": texts}) as (path, _):
        assert path is not None
        read = read_npz(path)

    np.testing.assert_array_equal(read["big"], x)
    np.testing.assert_array_equal(read["tensor"], x)
    assert read["t"].tolist() == texts.tolist()


@pytest.mark.parametrize(
    "value",
    [VALUES.astype(object), np.ma.masked_array(VALUES, VALUES > 0), VALUES.astype("datetime64[s]"), [[1], [1, 2]]],
)
def test_inputs_for_profile_that_are_no_arrays(value: Any) -> None:
    with pytest.raises(UsageError, match="input 'x' is a"), inputs_file({"x": value}):
        pass


def header(shape: str, dtype: str = "<f4", data: bytes = b"") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


MEMBERS = {
    "a shape beyond 64 bits": {"x.npy": header(f"({2**70},)")},
    "a product beyond 64 bits": {"x.npy": header(f"({2**40}, {2**40})")},
    "a negative size": {"x.npy": header("(-1,)")},
    "a huge shape": {"x.npy": header(f"({2**45},)")},
    "too little data": {"x.npy": header("(4,)", data=b"\0" * 8)},
    "pickled objects": {"x.npy": header("(1,)", "|O", b"cposix\nsystem\n.")},
    "an expression": {"x.npy": header("__import__('os').getpid()")},
    "nested brackets": {"x.npy": header("(" * 3000)},
    "no dtype": {"x.npy": header("(1,)", "nonsense")},
    "a cut header": {"x.npy": header("(4,)")[:20]},
}


@pytest.mark.parametrize("case", MEMBERS)
def test_archives_that_are_broken(case: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in MEMBERS[case].items():
            archive.writestr(name, content)

    with pytest.raises(UsageError, match=r"cannot read .*x\.npz: it is not an \.npz file of plain arrays|bytes"):
        read_npz(str(path))


def test_an_archive_with_two_arrays_of_one_name(tmp_path: Path) -> None:
    """numpy would take the last one."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x.npy", "x"):
            archive.writestr(name, header("(1,)", data=b"\0" * 4))

    with pytest.raises(UsageError, match="two arrays named 'x'"):
        read_npz(str(path))


def test_an_archive_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros pack a thousand to one: the sizes are looked at before anything is unpacked."""
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros(1 << 20, "f"))
    monkeypatch.setattr("edgefc.runtime.inputs._memory", lambda: 1 << 20)

    with pytest.raises(
        UsageError,
        match=r"its arrays have 41944\d\d bytes, but this machine has 1048576 bytes of "
        r"memory",
    ):
        read_npz(str(path))


def test_an_archive_of_right_arrays(tmp_path: Path) -> None:
    """Fortran order, no axes, no elements, names with separators, both byte orders."""
    path = str(tmp_path / "x.npz")
    kept = {
        "f": np.asfortranarray(VALUES),
        "scalar": np.array(3),
        "none": np.zeros((0, 4)),
        "a/b": VALUES.astype(">f8"),
    }
    np.savez(path, **kept)

    read = read_npz(path)

    assert set(read) == set(kept)
    for name, value in kept.items():
        np.testing.assert_array_equal(read[name], value)


def test_python_arrays_are_buffers(sessions: dict[str, Session]) -> None:
    x = values("float64")
    given = memoryview(array.array("d", x.ravel().tolist())).cast("B").cast("d", (ROWS, COLUMNS))

    np.testing.assert_array_equal(sessions["float64"].run({"x": given})["y"], x.T)

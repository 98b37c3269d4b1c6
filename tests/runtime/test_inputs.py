"""Feeds drawn from a signature, and feeds read from .npz files."""

import contextlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgefc.errors import UsageError
from edgefc.runtime.inputs import OPEN, Wanted, feeds_for, read_npz, shapes_for
from edgefc.runtime.signature import TensorInfo

X = TensorInfo("x", "float32", ("batch", 8))
FIXED = TensorInfo("x", "float32", (3, 8))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint32", "int64", "bool"])
def test_drawn_feeds_have_the_signature(dtype: str) -> None:
    feeds, batch = feeds_for([TensorInfo("x", dtype, ("batch", 100))], Wanted(7))

    assert (feeds["x"].dtype.name, feeds["x"].shape, batch) == (dtype, (7, 100), 7)
    assert len(np.unique(feeds["x"])) > 1, "constant inputs would flatter a kernel that skips zeros"


@pytest.mark.parametrize("shape", [(1,) * 300, (2**30,) * 300, (0, 2**62, 4)])
def test_shapes_of_which_numpy_makes_no_array(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="input x") as caught:
        feeds_for((TensorInfo("x", "float32", shape),), Wanted())

    assert len(str(caught.value)) < 500


def test_drawn_feeds_are_the_same_every_time() -> None:
    np.testing.assert_array_equal(feeds_for([X], Wanted(2))[0]["x"], feeds_for([X], Wanted(2))[0]["x"])


def test_integers_are_valid_indices_into_a_table_of_two() -> None:
    ids = feeds_for([TensorInfo("ids", "int64", ("n", 50))], Wanted(4))[0]["ids"]

    assert set(np.unique(ids)) == {0, 1}


def test_a_name_shared_with_the_first_dimension_has_its_size() -> None:
    assert shapes_for(
        [TensorInfo("scores", "float32", ("n", "n")), TensorInfo("x", "float32", ("?", 2))], Wanted(5)
    ) == [
        [5, 5],
        [5, 2],
    ]


def test_a_fixed_batch_is_its_own() -> None:
    assert feeds_for([FIXED], Wanted())[1] == 3
    assert feeds_for([FIXED], Wanted(3))[1] == 3


def test_a_table_among_the_inputs_does_not_fix_the_batch() -> None:
    table = TensorInfo("table", "float32", (10, 8))

    feeds, batch = feeds_for([table, X], Wanted(4))

    assert (feeds["table"].shape, feeds["x"].shape, batch) == ((10, 8), (4, 8), 4)


@pytest.mark.parametrize(
    ("port", "batch", "said"),
    [
        pytest.param(FIXED, 64, "batch 64 does not match .* Omit the batch or use 3", id="fixed batch"),
        pytest.param(TensorInfo("x", "str", ("n",)), 1, "cannot generate values for input x str", id="strings"),
        pytest.param(TensorInfo("x", "seq(tensor(float))", ()), 1, "cannot generate", id="sequence"),
    ],
)
def test_what_cannot_be_drawn(port: TensorInfo, batch: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        feeds_for([port], Wanted(batch))


IDS = TensorInfo("input_ids", "int64", ("batch", "tokens"))
MASK = TensorInfo("attention_mask", "int64", ("batch", "past + tokens"))
PAST = TensorInfo("past.0.key", "float32", ("batch", 2, "past", 4))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), [[1, OPEN], [1, 2 * OPEN], [1, 2, OPEN, 4]]),
        (Wanted(3), [[3, OPEN], [3, 2 * OPEN], [3, 2, OPEN, 4]]),
        (Wanted(3, shapes={"input_ids": (None, 5)}), [[3, 5], [3, OPEN + 5], [3, 2, OPEN, 4]]),
        (Wanted(shapes={"input_ids": (2, 5), "past.0.key": (2, 2, 7, 4)}), [[2, 5], [2, 12], [2, 2, 7, 4]]),
        (
            Wanted(shapes={"input_ids": (2, 5), "past.0.key": (2, 2, 7, 4), "attention_mask": (2, 12)}),
            [[2, 5], [2, 12], [2, 2, 7, 4]],
        ),
    ],
)
def test_open_axes_have_one_size_for_each_name(wanted: Wanted, expected: list[list[int]]) -> None:
    """A name that is a sum of names is the sum of their sizes."""
    assert shapes_for([IDS, MASK, PAST], wanted) == expected


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("a - 1", 4), ("2*a + b//4", 12), ("a*(b-3)", 25), ("-a", OPEN), ("a ** 9 ** 9", OPEN), ("a b", OPEN),
        ("__import__('os')", OPEN), ("a // 0", OPEN), ("(" * 500 + "a", OPEN), ("a - 9", OPEN), ("", OPEN),
    ],
)  # fmt: skip
def test_sizes_that_are_computed(name: str, size: int) -> None:
    """Whatever is no sum, difference, product or quotient is a name like any other."""
    ports = [TensorInfo("x", "float32", ("n", "a", "b")), TensorInfo("y", "float32", ("n", name))]

    assert shapes_for(ports, Wanted(shapes={"x": (None, 5, 8)}))[1] == [1, size]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"input_ids": (2, 5, 1)}, "--shape input_ids=2x5x1 has 3 axes, but input input_ids .* has 2"),
        ({"past.0.key": (1, 3, 7, 4)}, "--shape past.0.key=1x3x7x4 does not match .*: axis 1 is fixed. Use 2 there"),
        ({"input_ids": (2, 5), "past.0.key": (3, 2, 7, 4)}, "the axis 'batch' 3 elements, but another .* has 2"),
        (
            {"input_ids": (1, 5), "past.0.key": (1, 2, 7, 4), "attention_mask": (1, 9)},
            "9 elements, .* parts add up to 12",
        ),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        shapes_for([IDS, MASK, PAST], Wanted(shapes=shapes))


def drawn(name: str, dtype: str, **wanted: Any) -> Any:
    return feeds_for([TensorInfo(name, dtype, ("n", 9))], Wanted(2, **wanted))[0][name]


@pytest.mark.parametrize(
    ("name", "dtype", "row"),
    [
        ("attention_mask", "int64", [1] * 9),
        ("attention_mask", "float32", [1.0] * 9),
        ("pixel_mask", "bool", [True] * 9),
        ("src_key_padding_mask", "bool", [False] * 9),
        ("token_type_ids", "int64", [0] * 9),
        ("position_ids", "int64", list(range(9))),
    ],
)
def test_inputs_of_transformers_have_values_that_work(name: str, dtype: str, row: list[Any]) -> None:
    value = drawn(name, dtype)

    assert value.dtype == dtype and value.tolist() == [row, row]


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int64", 5, 7), ("uint64", 2**64 - 2, 2**64 - 1), ("int8", -128, 127), ("bool", 1, 1), ("int32", 3, 3)],
)
def test_whole_numbers_of_a_range_include_its_ends(dtype: str, low: int, high: int) -> None:
    value = feeds_for(
        [TensorInfo("attention_mask", dtype, ("n", 5000))], Wanted(2, ranges={"attention_mask": (low, high)})
    )
    result = value[0]["attention_mask"]

    assert (int(result.min()), int(result.max())) == (low, high) and result.dtype == dtype


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_of_a_range(dtype: str) -> None:
    value = drawn("x", dtype, ranges={"x": (-2.5, 3)})

    assert value.dtype == dtype and -2.5 <= value.min() < value.max() <= 3


@pytest.mark.parametrize(
    ("dtype", "pair", "said"),
    [
        ("int8", (0, 200), "--range x=0:200 does not match input x int8.* Use integers from -128 to 127"),
        ("uint8", (-1, 2), "Use integers from 0 to 255"),
        ("int64", (0.5, 2), "Use integers from"),
        ("bool", (0, 2), "Use integers from 0 to 1"),
        ("float16", (0, 1e6), "exceeds the range of float16. Use values up to 65504"),
    ],
)
def test_ranges_that_do_not_fit(dtype: str, pair: tuple[float, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        drawn("x", dtype, ranges={"x": pair})


@pytest.mark.parametrize("batch", [10**14, 10**20, 2**63])
def test_sizes_that_no_machine_has(batch: int) -> None:
    with pytest.raises(UsageError, match=r"Give a smaller shape\.$"):
        feeds_for([X], Wanted(batch))


def test_npz_feeds_bring_their_batch(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((6, 8), np.float32))

    feeds, batch = feeds_for([X], Wanted(path=str(tmp_path / "in.npz")))

    assert (feeds["x"].shape, batch) == ((6, 8), 6)


def test_npz_feeds_are_held_against_the_signature(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((6, 8)))

    with pytest.raises(UsageError, match="must have dtype float32, got float64"):
        feeds_for([X], Wanted(path=str(tmp_path / "in.npz")))


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.array([{"a": 1}], dtype=object))

    with pytest.raises(UsageError, match=r"not an \.npz file of plain arrays"):
        read_npz(str(tmp_path / "in.npz"))


@given(cut=st.integers(0, 700), flips=st.dictionaries(st.integers(0, 699), st.integers(1, 255), max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_npz_is_told_in_one_sentence(tmp_path: Path, cut: int, flips: dict[int, int]) -> None:
    """Either it still reads, or it is a UsageError; never numpy's or zipfile's own exception."""
    path = tmp_path / "in.npz"
    np.savez(path, x=np.ones((6, 8), np.float32))
    data = bytearray(path.read_bytes())
    for place, change in flips.items():
        data[place % len(data)] ^= change
    path.write_bytes(data[: max(1, len(data) - cut)])

    with contextlib.suppress(UsageError):
        read_npz(str(path))


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones(3))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("readme.txt", "text")

    with pytest.raises(UsageError, match=r"x\.npz: its member 'readme\.txt' is not an array"):
        read_npz(str(tmp_path / "x.npz"))

"""Feeds drawn from a signature, and feeds read from .npz files."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgefc.errors import UsageError
from edgefc.runtime.inputs import feeds_for, read_npz, shapes
from edgefc.runtime.signature import Port

X = Port("x", "float32", ("batch", 8))
FIXED = Port("x", "float32", (3, 8))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint32", "int64", "bool"])
def test_drawn_feeds_have_the_signature(dtype: str) -> None:
    feeds, batch = feeds_for([Port("x", dtype, ("batch", 100))], 7, None)

    assert (feeds["x"].dtype.name, feeds["x"].shape, batch) == (dtype, (7, 100), 7)
    assert len(np.unique(feeds["x"])) > 1, "constant inputs would flatter a kernel that skips zeros"


def test_drawn_feeds_are_the_same_every_time() -> None:
    np.testing.assert_array_equal(feeds_for([X], 2, None)[0]["x"], feeds_for([X], 2, None)[0]["x"])


def test_integers_are_valid_indices_into_a_table_of_two() -> None:
    ids = feeds_for([Port("ids", "int64", ("n", 50))], 4, None)[0]["ids"]

    assert set(np.unique(ids)) == {0, 1}


def test_a_name_shared_with_the_first_dimension_has_its_size() -> None:
    assert shapes([Port("scores", "float32", ("n", "n")), Port("x", "float32", ("?", 2))], 5) == [[5, 5], [5, 2]]


def test_a_fixed_batch_is_its_own() -> None:
    assert feeds_for([FIXED], None, None)[1] == 3
    assert feeds_for([FIXED], 3, None)[1] == 3


def test_a_table_among_the_inputs_does_not_fix_the_batch() -> None:
    table = Port("table", "float32", (10, 8))

    feeds, batch = feeds_for([table, X], 4, None)

    assert (feeds["table"].shape, feeds["x"].shape, batch) == ((10, 8), (4, 8), 4)


@pytest.mark.parametrize(
    ("port", "batch", "said"),
    [
        pytest.param(FIXED, 64, "batch 64 does not fit: .* Leave the batch out or give 3", id="fixed batch"),
        pytest.param(Port("x", "float32", ("n", "words")), 1, "dimension 1 of input x .* --inputs", id="open"),
        pytest.param(Port("x", "float32", ("n", "?")), 1, "dimension 1 of input x .* --inputs", id="open, nameless"),
        pytest.param(Port("x", "str", ("n",)), 1, "no way to draw values for input x str", id="strings"),
        pytest.param(Port("x", "seq(tensor(float))", ()), 1, "no way to draw", id="sequence"),
    ],
)
def test_what_cannot_be_drawn(port: Port, batch: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        feeds_for([port], batch, None)


def test_npz_feeds_bring_their_batch(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((6, 8), np.float32))

    feeds, batch = feeds_for([X], None, str(tmp_path / "in.npz"))

    assert (feeds["x"].shape, batch) == ((6, 8), 6)


def test_npz_feeds_are_held_against_the_signature(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((6, 8)))

    with pytest.raises(UsageError, match="given float64; the model takes float32"):
        feeds_for([X], None, str(tmp_path / "in.npz"))


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.array([{"a": 1}], dtype=object))

    with pytest.raises(UsageError, match=r"no \.npz of plain arrays"):
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

"""The seeded matrix, to the bit: numpy, torch, README.md's own code, golden.json and plain Python integers agree.

The oracle below was written from edgefc/generator/README.md with Python integers and shares nothing with the package.
golden.json was made with it, once; no test writes that file.
"""

import hashlib
import json
import math
import os
import re
import struct
import subprocess
import sys
from fractions import Fraction
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefc import generator
from edgefc.errors import UsageError
from edgefc.layers.common import seeded

ROOT = Path(__file__).resolve().parents[2]
README = (files("edgefc.generator") / "README.md").read_text(encoding="utf-8")
GOLDEN = json.loads((files("edgefc.generator") / "golden.json").read_text(encoding="utf-8"))

SEEDS = st.integers(0, 2**64 - 1)
WORDS = st.integers(0, 2**32 - 1)
BITS = st.sampled_from([1, 2, 4, 8])
DISTRIBUTIONS = st.sampled_from(sorted(generator.CODEBOOKS))

EDGES = [0, 1, 255, 256, 2**31 - 1, 2**31, 2**32 - 1]


# ---- the oracle: README.md in plain integers


def nearest_float32(a: int, b: int) -> int:
    """The bit pattern of the float32 nearest to a / sqrt(b), an irrational number within the normal range."""
    exponent = next(e for e in range(127, -127, -1) if Fraction(4) ** e * b < a * a)
    halves = math.isqrt(a * a * 4 ** (24 - exponent) // b)  # how many halves of the last place
    return (exponent + 126) * 2**23 + (halves + 1) // 2


POSITIVE = [0x3DA29229, 0x3E75E806, 0x3ED087DA, 0x3F16260A, 0x3F49635C, 0x3F831D62, 0x3FABA289, 0x3FFEB7B2]
NEGATIVE = [bits + 2**31 for bits in reversed(POSITIVE)]
ORACLE_LEVELS = {  # distribution: (bits of a code, float32 bit patterns)
    "rademacher": (1, [0x3F800000, 0xBF800000]),
    "gaussian": (4, NEGATIVE + POSITIVE),
    "ternary": (8, 43 * [0xBFDCD76E] + 170 * [0] + 43 * [0x3FDCD76E]),
    "ternary_thirds": (8, 85 * [0xBF9D130E] + 86 * [0] + 85 * [0x3F9D130E]),
    "sparse": (2, [0xBFB504F3, 0, 0, 0x3FB504F3]),
    "uniform": (8, [2**31 * (code < 128) + nearest_float32(abs(2 * code - 255), 21845) for code in range(256)]),
}


def oracle_mix(value: int) -> int:
    value ^= value // 2**16
    value = value * 569420461 % 2**32
    value ^= value // 2**15
    value = value * 1935289751 % 2**32
    return value ^ value // 2**15


def oracle_keys(seed: int) -> tuple[int, int]:
    left, right = seed % 2**32, seed // 2**32
    left ^= oracle_mix((right + 2246822507) % 2**32)
    right ^= oracle_mix((left + 3266489909) % 2**32)
    left ^= oracle_mix((right + 668265263) % 2**32)
    return left, right


def oracle_steps(seed: int, row: int, column: int) -> dict[str, int]:
    """Every value on the way to a word, by its name in the README's worked example."""
    key_1, key_2 = oracle_keys(seed)
    start = oracle_mix((row + key_1) % 2**32)
    twist = oracle_mix(row * 2654435769 % 2**32 ^ key_2)
    counter = (start + column * 2654435769) % 2**32
    first = (counter ^ counter // 2**16) * 569420461 % 2**32
    twisted = first ^ twist
    second = (twisted ^ twisted // 2**15) * 1935289751 % 2**32
    return {
        "key_1": key_1,
        "key_2": key_2,
        "start": start,
        "twist": twist,
        "counter": counter,
        "first": first,
        "twisted": twisted,
        "second": second,
        "word": second ^ second // 2**16,
    }


def oracle_word(seed: int, row: int, column: int) -> int:
    return oracle_steps(seed, row, column)["word"]


def oracle_codes(seed: int, rows: int, columns: int, bits: int) -> list[list[int]]:
    per_word = 32 // bits
    rows_of_words = [[oracle_word(seed, row, at) for at in range(-(-columns // per_word))] for row in range(rows)]
    return [
        [row[at // per_word] // 2 ** (at % per_word * bits) % 2**bits for at in range(columns)] for row in rows_of_words
    ]


def oracle_float32(seed: int, rows: int, columns: int, distribution: str) -> list[list[int]]:
    bits, levels = ORACLE_LEVELS[distribution]
    return [[levels[code] for code in row] for row in oracle_codes(seed, rows, columns, bits)]


def little_endian(rows: list[list[int]]) -> bytes:
    return b"".join(struct.pack("<I", value) for row in rows for value in row)


# ---- helpers


def numpy_words(seed: int, rows: list[int], columns: list[int]) -> list[list[int]]:
    return generator.words(seed, np.array(rows, np.uint32), np.array(columns, np.uint32)).tolist()


def torch_words(seed: int, rows: list[int], columns: list[int]) -> list[list[int]]:
    return seeded.words(seed, torch.tensor(rows), torch.tensor(columns)).tolist()


def torch_matrix(seed: int, rows: int, columns: int, distribution: str, dtype: torch.dtype = torch.float32) -> Any:
    return seeded.matrix(seed, rows, columns, distribution, dtype=dtype, device="cpu")


def number(text: str) -> int:
    return int(text, 0)


def section(title: str) -> str:
    """The README from one heading to the next."""
    parts = re.split(r"^## (.+)$", README, flags=re.MULTILINE)
    return parts[parts.index(title) + 1]


# ---- golden vectors


def test_golden_holds_what_it_must() -> None:
    """An empty list would make every check below pass."""
    assert GOLDEN["version"] == generator.VERSION == 1

    seeds = {number(case["seed"]) for case in GOLDEN["keys"]}
    assert seeds >= {0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1}
    for axis in ("row", "column"):
        assert {case[axis] for case in GOLDEN["words"]} >= {0, 1, 2**31, 2**32 - 1}
    for kind in ("matrices", "hashes"):
        assert {case["distribution"] for case in GOLDEN[kind]} == set(generator.CODEBOOKS)


@pytest.mark.parametrize("case", GOLDEN["keys"], ids=lambda case: case["seed"])
def test_golden_keys(case: dict[str, Any]) -> None:
    expected = number(case["key_1"]), number(case["key_2"])
    assert expected == generator.keys(number(case["seed"])) == oracle_keys(number(case["seed"]))


@pytest.mark.parametrize("case", GOLDEN["words"], ids=lambda case: f"{case['seed']}-{case['row']}-{case['column']}")
def test_golden_words(case: dict[str, Any]) -> None:
    seed, row, column, expected = number(case["seed"]), case["row"], case["column"], number(case["word"])
    assert expected == oracle_word(seed, row, column)
    assert [[expected]] == numpy_words(seed, [row], [column]) == torch_words(seed, [row], [column])


@pytest.mark.parametrize("case", GOLDEN["matrices"], ids=lambda case: f"{case['distribution']}-{case['seed']}")
def test_golden_matrices(case: dict[str, Any]) -> None:
    what = number(case["seed"]), case["rows"], case["columns"], case["distribution"]
    bits = generator.codebook(case["distribution"]).bits
    expected = [[number(value) for value in row] for row in case["float32"]]

    assert case["codes"] == generator.codes(*what[:3], bits).tolist() == oracle_codes(*what[:3], bits)
    assert expected == oracle_float32(*what)
    assert expected == generator.matrix(*what).view(np.uint32).tolist()
    assert expected == torch_matrix(*what).numpy().view(np.uint32).tolist()


@pytest.mark.parametrize("case", GOLDEN["hashes"], ids=lambda case: f"{case['distribution']}-{case['seed']}")
def test_golden_hashes(case: dict[str, Any]) -> None:
    what = number(case["seed"]), case["rows"], case["columns"], case["distribution"]
    for data in (
        little_endian(oracle_float32(*what)),
        generator.matrix(*what).astype("<f4").tobytes(),
        torch_matrix(*what).numpy().astype("<f4").tobytes(),
    ):
        assert hashlib.sha256(data).hexdigest() == case["sha256"]


# ---- the README is true


def test_readme_code_is_the_generator() -> None:
    """The README's listing, run as it stands, reproduces golden.json."""
    (listing,) = re.findall(r"```python\n(.*?)```", section("The algorithm"), re.DOTALL)
    scope: dict[str, Any] = {}
    exec(listing, scope)
    for case in GOLDEN["words"]:
        assert scope["word"](number(case["seed"]), case["row"], case["column"]) == number(case["word"])
    for case in GOLDEN["matrices"]:
        bits = generator.codebook(case["distribution"]).bits
        for row, expected in enumerate(case["codes"]):
            seed = number(case["seed"])
            assert [scope["code"](seed, row, at, bits) for at in range(case["columns"])] == expected


def test_readme_worked_example() -> None:
    text = section("Worked example")
    (place,) = re.findall(r"seed = (0x[0-9A-F]{16}), row = (\d+), column word = (\d+)", text)
    steps = dict(re.findall(r"(\w+) +(0x[0-9A-F]{8})\b", text))
    expected = oracle_steps(*map(number, place))
    assert {name: number(value) for name, value in steps.items()} == expected

    cuts = re.findall(r"^(\d) bits? +inputs (\d+) to (\d+) +([\d ]+?)(?: \.\.\.)?$", text, re.MULTILINE)
    assert [int(bits) for bits, *_ in cuts] == [1, 2, 4, 8]
    for bits, first, last, codes in cuts:
        per_word = 32 // int(bits)
        assert (int(first), int(last)) == (int(place[2]) * per_word, (int(place[2]) + 1) * per_word - 1)
        values = [expected["word"] >> at * int(bits) & 2 ** int(bits) - 1 for at in range(per_word)]
        assert [int(code) for code in codes.split()] == values[: len(codes.split())]


UNIFORM_SHOWN = {0, 63, 126, 127, 128, 129, 192, 255}


def test_readme_codebooks() -> None:
    """Decimals and bit patterns are the float32 in the package, and every code has one."""
    rows = re.findall(
        r"^\| (\w+) \| ([\d to]*) ?\| (0x[0-9A-F]{8})? ?\| ([\d to]+) \| (0x[0-9A-F]{8}) \| ([\d.]+) \|$",
        README,
        re.MULTILINE,
    )
    levels: dict[str, dict[int, int]] = {}
    for name, negative, negative_pattern, positive, pattern, decimal in rows:
        book = levels.setdefault(name, {})
        sides = [(positive, pattern, np.float32(decimal))]
        if negative:
            sides.append((negative, negative_pattern, -np.float32(decimal)))
        for codes, bits, value in sides:
            assert value.view(np.uint32) == number(bits), (name, codes)
            first, _, last = codes.strip().partition(" to ")
            book.update(dict.fromkeys(range(int(first), int(last or first) + 1), number(bits)))

    for name, (bits, patterns) in ORACLE_LEVELS.items():
        assert set(levels[name]) == (UNIFORM_SHOWN if name == "uniform" else set(range(2**bits)))
        assert all(patterns[code] == pattern for code, pattern in levels[name].items())
        assert np.array(generator.CODEBOOKS[name].levels, np.float32).view(np.uint32).tolist() == patterns
        assert generator.CODEBOOKS[name].bits == bits


def test_readme_distributions() -> None:
    """In exact arithmetic on the float32 levels."""
    rows = re.findall(
        r"^\| (\w+) \| (\d) \| ([\d.]+) \| (-?\d+)(?: / 2\^(\d+))? \| ([\d.e-]+) \| ([\d.]+) \|$", README, re.MULTILINE
    )
    assert {row[0] for row in rows} == set(generator.CODEBOOKS)
    for name, bits, largest, excess, power, about, fourth in rows:
        levels = [Fraction(float(level)) for level in np.array(generator.CODEBOOKS[name].levels, np.float32)]
        variance = sum(level**2 for level in levels) / len(levels)
        assert int(bits) == generator.CODEBOOKS[name].bits
        assert sum(levels) == 0
        assert f"{float(max(levels)):.4f}" == largest
        assert variance - 1 == Fraction(int(excess), 2 ** int(power or 0))
        assert f"{float(variance - 1):.1e}".replace("0.0e+00", "0") == about
        assert f"{float(sum(level**4 for level in levels) / len(levels)):.4f}" == fourth


def test_gaussian_levels_are_the_means_of_sixteenths() -> None:
    """By definition: the density at a cut, differenced, is the mean between cuts; the nearest float32 of each."""
    normal = NormalDist()
    density = [0.0, *(normal.pdf(normal.inv_cdf(i / 16)) for i in range(1, 16)), 0.0]
    means = np.array([16 * (a - b) for a, b in pairwise(density)])
    expected = (means / np.sqrt(np.square(means).mean())).astype(np.float32)
    assert expected.tolist() == np.array(generator.CODEBOOKS["gaussian"].levels, np.float32).tolist()


@pytest.mark.parametrize(
    ("name", "share", "counts"),
    [
        ("ternary", Fraction(1, 6), [43, 170, 43]),
        ("ternary_thirds", Fraction(1, 3), [85, 86, 85]),
        ("sparse", Fraction(1, 4), [1, 2, 1]),
    ],
)
def test_three_levels_have_the_nearest_probabilities(name: str, share: Fraction, counts: list[int]) -> None:
    levels = np.array(generator.CODEBOOKS[name].levels)
    assert [(levels < 0).sum(), (levels == 0).sum(), (levels > 0).sum()] == counts
    apart = [abs(Fraction(count, len(levels)) - share) for count in range(len(levels) // 2 + 1)]
    assert apart.index(min(apart)) == counts[0]


@pytest.mark.parametrize(
    ("name", "square"),
    [("ternary", Fraction(256, 86)), ("ternary_thirds", Fraction(256, 170)), ("sparse", Fraction(2))],
)
def test_three_levels_have_the_nearest_float32(name: str, square: Fraction) -> None:
    """Of the root of `square`, decided exactly: it lies within half a step of the level on both sides."""
    assert nearest(max(generator.CODEBOOKS[name].levels), square)


def test_uniform_levels_are_the_nearest_float32_at_equal_distances() -> None:
    """The odd numbers from -255 to 255 have the mean square 21845, which makes the variance 1."""
    odd = range(-255, 256, 2)
    assert Fraction(sum(number**2 for number in odd), 256) == 21845
    levels = generator.CODEBOOKS["uniform"].levels
    assert [-level for level in reversed(levels)] == list(levels)
    assert all(
        nearest(level, Fraction(number**2, 21845)) for level, number in zip(levels, odd, strict=True) if number > 0
    )


def nearest(level: float, square: Fraction) -> bool:
    size = np.float32(level)
    below, middle, above = (Fraction(float(np.nextafter(size, np.float32(end)))) for end in (0, size, 9))
    return ((below + middle) / 2) ** 2 < square < ((middle + above) / 2) ** 2


# ---- properties


@given(seed=SEEDS, rows=st.lists(WORDS, min_size=1, max_size=4), columns=st.lists(WORDS, min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_numpy_torch_and_plain_integers_agree(seed: int, rows: list[int], columns: list[int]) -> None:
    expected = [[oracle_word(seed, row, column) for column in columns] for row in rows]
    assert numpy_words(seed, rows, columns) == expected
    assert torch_words(seed, rows, columns) == expected


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
def test_they_agree_at_the_edges(seed: int) -> None:
    expected = [[oracle_word(seed, row, column) for column in EDGES] for row in EDGES]
    assert numpy_words(seed, EDGES, EDGES) == torch_words(seed, EDGES, EDGES) == expected


@given(seed=SEEDS, rows=st.integers(1, 6), columns=st.integers(1, 70), bits=BITS)
@settings(max_examples=60, deadline=None)
def test_codes_are_cut_low_bits_first(seed: int, rows: int, columns: int, bits: int) -> None:
    assert generator.codes(seed, rows, columns, bits).tolist() == oracle_codes(seed, rows, columns, bits)


@given(columns=st.integers(1, 10**6), bits=BITS)
def test_words_per_row_is_the_least_that_holds_the_codes(columns: int, bits: int) -> None:
    count = generator.words_per_row(columns, bits)
    assert (count - 1) * 32 < columns * bits <= count * 32


@given(seed=SEEDS, distribution=DISTRIBUTIONS, top=st.integers(0, 9), left=st.integers(0, 150), data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_entry_can_be_computed_alone(
    seed: int, distribution: str, top: int, left: int, data: st.DataObject
) -> None:
    """An entry depends on seed, row and input only: not on the size, nor on what was computed before."""
    bottom, right = data.draw(st.integers(top + 1, 12)), data.draw(st.integers(left + 1, 160))
    book = generator.codebook(distribution)
    whole = generator.matrix(seed, 12, 160, distribution)

    per_word = 32 // book.bits
    columns = np.arange(left // per_word, (right - 1) // per_word + 1, dtype=np.uint32)
    block = generator.words(seed, np.arange(top, bottom, dtype=np.uint32), columns)
    entry = np.arange(left, right)
    codes = block[:, entry // per_word - columns[0]] >> (entry % per_word * book.bits).astype(np.uint32)
    alone = np.array(book.levels, np.float32)[codes & np.uint32(2**book.bits - 1)]

    assert np.array_equal(alone, whole[top:bottom, left:right])
    assert np.array_equal(generator.matrix(seed, bottom, right, distribution), whole[:bottom, :right])


@given(seed=SEEDS, distribution=DISTRIBUTIONS, rows=st.integers(1, 20), columns=st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_torch_matrix_is_the_numpy_matrix(seed: int, distribution: str, rows: int, columns: int) -> None:
    expected = generator.matrix(seed, rows, columns, distribution)
    assert np.array_equal(torch_matrix(seed, rows, columns, distribution).numpy(), expected)
    assert expected.dtype == np.float32
    assert expected.shape == (rows, columns)


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 513], ids=["one", "below", "band", "above", "three-bands"])
def test_torch_bands_leave_no_seam(rows: int) -> None:
    expected = generator.matrix(2**63 + 5, rows, 33, "gaussian")
    assert np.array_equal(torch_matrix(2**63 + 5, rows, 33, "gaussian").numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("distribution", sorted(generator.CODEBOOKS))
def test_torch_dtype_is_the_float32_matrix_moved(distribution: str, dtype: torch.dtype) -> None:
    moved = torch_matrix(11, 40, 50, distribution).to(dtype)
    built = torch_matrix(11, 40, 50, distribution, dtype)
    assert built.dtype == dtype
    assert torch.equal(built, moved)


@pytest.mark.parametrize("row", [0, 1, 5])
def test_torch_signs_are_a_rademacher_row(row: int) -> None:
    signs = seeded.signs(9, 100, row=row, dtype=torch.float32, device="cpu")
    assert signs.tolist() == generator.matrix(9, 6, 100, "rademacher")[row].tolist()


# ---- structure that the README admits


def test_words_of_a_row_are_all_different() -> None:
    grid = generator.words(3, np.array([0, 77], np.uint32), np.arange(2**18, dtype=np.uint32))
    assert [len(np.unique(row)) for row in grid] == [2**18, 2**18]  # 8 repeats expected by chance in each


def test_each_seed_has_a_twin_half_the_rows_away() -> None:
    """Row r of the one is row r + 2**31 of the other: the only reason not to use rows from 2**31 on."""
    key_1, key_2 = oracle_keys(12345)
    twin = seed_of((key_1 + 2**31) % 2**32, key_2 ^ 2**31)
    assert twin != 12345
    assert numpy_words(twin, [0, 1, 99], EDGES) == numpy_words(12345, [2**31, 2**31 + 1, 2**31 + 99], EDGES)


@given(seed=SEEDS)
def test_no_two_seeds_share_both_keys(seed: int) -> None:
    assert seed_of(*generator.keys(seed)) == seed


def seed_of(left: int, right: int) -> int:
    """The three rounds backwards."""
    left ^= oracle_mix((right + 668265263) % 2**32)
    right ^= oracle_mix((left + 3266489909) % 2**32)
    left ^= oracle_mix((right + 2246822507) % 2**32)
    return right * 2**32 + left


# ---- the ways to be wrong


MAKES = pytest.mark.parametrize("make", [generator.matrix, torch_matrix], ids=["numpy", "torch"])


@pytest.mark.parametrize("size", [(2, 3), (0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize(
    "seed", [-1, 2**64, 1.0, 0.5, True, "1", None, np.int64(-1), np.float64(1), np.bool_(True), [1]], ids=repr
)
@MAKES
def test_a_bad_seed_is_one_sentence(make: Any, seed: Any, size: tuple[int, int]) -> None:
    """Also if the matrix is empty."""
    message = rf"^seed must be an integer from 0 to 2\*\*64 - 1, got {re.escape(repr(seed))}\.$"
    with pytest.raises(UsageError, match=message):
        make(seed, *size, "gaussian")


@pytest.mark.parametrize("words", [numpy_words, torch_words], ids=["numpy", "torch"])
def test_words_refuse_a_bad_seed(words: Any) -> None:
    with pytest.raises(UsageError, match="got -1"):
        words(-1, [0], [0])


@pytest.mark.parametrize("integer", [np.int64, np.uint64, np.int8, np.array, torch.tensor])
@MAKES
def test_any_integer_type_will_do(make: Any, integer: Any) -> None:
    """Small integer types must not wrap inside the arithmetic."""
    expected = generator.matrix(3, 5, 40, "gaussian")
    assert np.array_equal(np.asarray(make(integer(3), integer(5), integer(40), "gaussian")), expected)
    assert generator.keys(integer(3)) == generator.keys(3)


@given(seed=SEEDS, distribution=DISTRIBUTIONS, size=st.sampled_from([(0, 7), (7, 0), (0, 0)]))
@settings(max_examples=20, deadline=None)
def test_an_empty_matrix_keeps_its_shape(seed: int, distribution: str, size: tuple[int, int]) -> None:
    by_numpy, by_torch = generator.matrix(seed, *size, distribution), torch_matrix(seed, *size, distribution)
    assert by_numpy.shape == tuple(by_torch.shape) == size
    assert by_numpy.dtype == np.float32
    assert by_torch.dtype == torch.float32
    codes = generator.codes(seed, *size, generator.codebook(distribution).bits)
    assert codes.shape == size
    assert codes.dtype == np.uint8


@pytest.mark.parametrize("size", [(-1, 3), (3, -1), (-2, 0), (0, -40), (2.0, 3), (2, "3"), (True, 3), (None, 3)])
@MAKES
def test_a_bad_size_is_one_sentence(make: Any, size: tuple[Any, Any]) -> None:
    rows, columns = size
    message = f"rows and columns must be integers from 0 up, got rows={rows!r}, columns={columns!r}."
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        make(0, *size, "gaussian")
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        generator.codes(0, *size, 4)


@pytest.mark.parametrize("bits", [0, -1, 3, 5, 16, 32, 4.0, True, "4", None])
def test_bad_bits_are_one_sentence(bits: Any) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(f'unsupported bits={bits!r}. Choose one of: 1, 2, 4, 8.')}$"):
        generator.codes(0, 2, 3, bits)


@MAKES
def test_a_misspelt_distribution_names_the_choices(make: Any) -> None:
    message = (
        "unknown distribution 'normal'. Choose one of: rademacher, gaussian, ternary, ternary_thirds, sparse, uniform."
    )
    with pytest.raises(UsageError, match=re.escape(message)):
        make(0, 2, 3, "normal")


def test_another_process_makes_the_same_matrix_without_torch() -> None:
    program = (
        "import hashlib, sys; from edgefc import generator\n"
        "print(hashlib.sha256(generator.matrix(2**64 - 1, 70, 90, 'gaussian').tobytes()).hexdigest())\n"
        "print('torch' in sys.modules)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    here = hashlib.sha256(generator.matrix(2**64 - 1, 70, 90, "gaussian").tobytes()).hexdigest()
    assert outputs == {f"{here}\nFalse\n"}


CONSTANTS = ["SHIFT_1", "MULTIPLY_1", "SHIFT_2", "MULTIPLY_2", "SHIFT_3", "STRIDE", "KEY_1", "KEY_2", "KEY_3"]


@pytest.mark.parametrize("constant", CONSTANTS)
def test_golden_vectors_see_every_constant(monkeypatch: pytest.MonkeyPatch, constant: str) -> None:
    """Meta-test: any constant off by two changes some golden word."""
    monkeypatch.setattr(generator, constant, getattr(generator, constant) + 2)
    assert golden_words_differ(numpy_words)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(("module", "words"), [(generator, numpy_words), (seeded, torch_words)], ids=["numpy", "torch"])
def test_golden_vectors_see_every_word_shift(
    monkeypatch: pytest.MonkeyPatch, module: Any, words: Any, place: int
) -> None:
    shifts = [shift + 2 * (at == place) for at, shift in enumerate(generator.WORD_SHIFTS)]
    monkeypatch.setattr(module, "WORD_SHIFTS", tuple(shifts))
    assert golden_words_differ(words)


def golden_words_differ(words: Any) -> bool:
    return any(
        [[number(case["word"])]] != words(number(case["seed"]), [case["row"]], [case["column"]])
        for case in GOLDEN["words"]
    )

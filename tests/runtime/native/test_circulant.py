"""The native circulant kernel, compiled here by itself: every variant against float64, hostile sizes, NaN, threads.

The library that onnxruntime loads, and the op in it, are tested elsewhere.
"""

import ctypes
import re
import shutil
import subprocess
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefc import generator
from edgefc.runtime.native import build
from edgefc.testing import assert_close
from tests.support.native_models import made_once

Floats = NDArray[np.float32]
ROOT = Path(__file__).resolve().parents[3]
PARTS = ("circulant", "cpus.cc", "simd/")
VARIANTS = ("portable", "avx2", "avx512")
SIZES = [  # inputs, outputs, block
    *[(n, n, n) for n in (*range(1, 21), 24, 30, 32, 42, 64, 66, 96, 97, 120, 130, 143, 256, 336, 384, 500)],
    *[(n, n, n) for n in (768, 1000, 1021, 1024, 2002, 3072, 4096)],
    *[(7, 3, 7), (3, 7, 7), (1000, 10, 1000), (10, 1000, 1000), (1, 50, 50), (50, 1, 50)],
    *[(60, 50, 7), (33, 70, 16), (17, 31, 1), (100, 300, 64), (300, 100, 150), (512, 768, 256), (5000, 9, 1)],
]


class Plan:
    """One layer of the compiled kernel, with the kernel, signs and bias that it was made from."""

    def __init__(self, library: ctypes.CDLL, n: int, m: int, block: int, seed: int = 3) -> None:
        self.library, self.sizes, self.seed = library, (n, m, block), seed
        random = np.random.default_rng(n + m + block)
        shape = -(-m // block), -(-n // block), block
        self.kernel: Floats = (random.standard_normal(shape) / np.sqrt(n)).astype(np.float32)
        self.bias: Floats = random.standard_normal(m).astype(np.float32)
        self.handle, self.said = create(library, n, m, block, self.kernel, seed=seed)
        assert self.handle, self.said

    def __call__(self, x: Floats) -> Floats:
        x = np.ascontiguousarray(x)
        y = np.full((len(x), self.sizes[1]), 7, np.float32)
        self.library.circulant_apply(self.handle, x.ctypes.data, len(x), y.ctypes.data, self.bias.ctypes.data)
        return y

    def expected(self, x: Floats) -> NDArray[np.float64]:
        """The same by numpy's FFT in float64."""
        (n, m, b), (p, q, _) = self.sizes, self.kernel.shape
        u = np.zeros((len(x), q * b))
        u[:, :n] = x * generator.matrix(self.seed, 1, n, "rademacher")[0].astype(np.float64)
        spectra = np.fft.rfft(self.kernel.astype(np.float64)), np.fft.rfft(u.reshape(-1, q, b))
        product = np.einsum("pqf,rqf->rpf", *spectra)
        y: NDArray[np.float64] = np.fft.irfft(product, n=b).reshape(len(x), p * b)[:, :m] + self.bias
        return y

    def close(self) -> None:
        self.library.circulant_free(self.handle)


def create(
    library: ctypes.CDLL, n: int, m: int, block: int, kernel: Floats, count: int | None = None, seed: int = 0
) -> tuple[int | None, str]:
    """The plan's address and what it says of itself, or None and the error."""
    said = ctypes.create_string_buffer(400)
    count = kernel.size if count is None else count
    handle = library.circulant_create(n, m, block, seed, kernel.ctypes.data, count, said, len(said))
    return handle, said.value.decode()


def compiled(compiler: str, target: Path) -> None:
    """With -O1, which takes half the time; tests of the whole library have the kernels as users have them."""
    units = {unit.name: unit for unit in build.units(target.parent, build.machine())}
    parts = [unit for name, unit in units.items() if name.startswith(PARTS) and not name.endswith("_op.cc")]
    parts.append(build.Unit("native_circulant.cc", ROOT / "tests/support/native_circulant.cc", ()))
    command = [compiler, *build.FLAGS, "-fvisibility=default", *build.STRICT, f"-I{build.HERE}", "-c"]
    outputs = [target.with_name(part.name.replace("/", "-") + ".o") for part in parts]
    jobs = [
        subprocess.Popen([*command, *part.flags, "-O1", part.path, "-o", output])
        for part, output in zip(parts, outputs, strict=True)
    ]
    assert [job.wait() for job in jobs] == [0] * len(jobs)
    subprocess.run([compiler, "-shared", "-pthread", *outputs, "-o", target], check=True)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("NO C++ COMPILER: the native circulant kernel is not tested.")
    loaded = ctypes.CDLL(str(made_once(tmp_path_factory, "circulant.so", partial(compiled, compiler))))
    address, number = ctypes.c_void_p, ctypes.c_int64
    loaded.circulant_create.restype = address
    loaded.circulant_create.argtypes = [
        *[number] * 3, ctypes.c_uint64, address, number, ctypes.c_char_p, number,
    ]  # fmt: skip
    loaded.circulant_apply.argtypes = [address, address, number, address, address]
    loaded.circulant_free.argtypes = [address]
    return loaded


# Without vectors every size takes seven seconds.
@pytest.fixture(params=[pytest.param(v, marks=pytest.mark.slow) if v == "portable" else v for v in VARIANTS])
def variant(request: pytest.FixtureRequest, library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("EDGEFC_NATIVE_CPU", request.param)
    handle, said = create(library, 1, 1, 1, np.ones((1, 1, 1), np.float32))
    if not handle:
        assert request.param != "portable" and "but this processor supports only portable" in said
        pytest.skip(f"This processor has no {request.param}: {said}")
    library.circulant_free(handle)
    return str(request.param)


def inputs(rows: int, n: int) -> Floats:
    return np.random.default_rng(rows + n).standard_normal((rows, n)).astype(np.float32)


def test_every_size_against_float64(library: ctypes.CDLL, variant: str) -> None:
    """One row, sets of rows that fill the vectors and that do not, none; every radix, padded lengths, blocks."""
    for n, m, block in SIZES:
        plan = Plan(library, n, m, block)
        assert plan.said.startswith(variant)
        assert plan(inputs(0, n)).shape == (0, m)
        for rows in (1, 2, 16, 37):
            x = inputs(rows, n)
            assert_close(plan(x), plan.expected(x), nmse=1e-13, what=f"{n}, {m}, {block}, {rows} rows: {plan.said}")
        plan.close()


def test_signs_are_the_generators(library: ctypes.CDLL) -> None:
    """A kernel of 1 at the front is the identity, so the outputs are the signs, of any 64-bit seed."""
    for seed in (0, 5, 2**63 + 12345, 2**64 - 1):
        plan = Plan(library, 100, 100, 100, seed)
        plan.close()
        kernel = np.zeros((1, 1, 100), np.float32)
        kernel[0, 0, 0] = 1
        plan.handle, _ = create(library, 100, 100, 100, kernel, seed=seed)
        plan.bias[:] = 0
        signs = generator.matrix(seed, 1, 100, "rademacher")[0]
        np.testing.assert_allclose(plan(np.ones((1, 100), np.float32))[0], signs, atol=1e-6)
        plan.close()


@pytest.mark.parametrize("block", [96, 24, 7])
def test_rows_do_not_touch_each_other(library: ctypes.CDLL, variant: str, block: int) -> None:
    """NaN, infinity, and the largest numbers go where a dense layer sends them, and stay in their row."""
    plan = Plan(library, 96, 90, block)
    x = inputs(20, 96)
    alone = plan(x)
    x[1, 5] = np.nan
    x[3, 0] = np.inf
    x[4, [2, 7]] = np.inf, -np.inf
    x[6] *= 1e36
    x[8] *= 1e25
    y = plan(x)
    normal = [row for row in range(20) if row not in (1, 3, 4, 6, 8)]
    np.testing.assert_array_equal(y[normal], alone[normal])
    assert np.isnan(y[1]).all()
    identity = np.eye(96, dtype=np.float32)
    dense = (plan.expected(identity) - plan.bias).astype(np.float32)  # (n, m)
    np.testing.assert_array_equal(y[3], np.copysign(np.inf, dense[0]).astype(np.float32))
    with np.errstate(invalid="ignore"):
        crossed = dense[2] * np.inf - dense[7] * np.inf
    np.testing.assert_array_equal(np.isnan(y[4]), np.isnan(crossed))
    for row in (6, 8):
        assert_close(y[row : row + 1], plan.expected(x[row : row + 1]), nmse=1e-13, what=f"row {row}")
    plan.close()


def test_a_kernel_that_is_not_finite(library: ctypes.CDLL) -> None:
    """A NaN in the kernel reaches every output, as each row of the circulant has it."""
    plan = Plan(library, 12, 12, 12)
    plan.close()
    plan.kernel[0, 0, 3] = np.nan
    plan.handle, _ = create(library, 12, 12, 12, plan.kernel)
    assert np.isnan(plan(inputs(3, 12))).all()
    plan.close()


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        pytest.param((0, 4, 4), 4, id="no-inputs"),
        pytest.param((4, -1, 4), 4, id="negative-outputs"),
        pytest.param((4, 4, 0), 4, id="no-block"),
        pytest.param((4, 4, -(2**63)), 4, id="smallest-block"),
        pytest.param((4, 4, 5), 5, id="block-longer-than-both"),
        pytest.param((2**62, 2**62, 2**61), 4, id="product-overflows"),
        pytest.param((2**30, 2**30, 1), 4, id="more-blocks-than-numbers"),
        pytest.param((2**30, 2**30, 2**30), 4, id="huge-block"),
        pytest.param((4, 4, 4), 3, id="short-kernel"),
        pytest.param((4, 4, 4), -4, id="negative-kernel"),
    ],
)
def test_hostile_sizes(library: ctypes.CDLL, sizes: tuple[int, int, int], count: int) -> None:
    handle, said = create(library, *sizes, np.ones(8, np.float32), count)
    assert not handle
    assert f"{sizes[0]} inputs, {sizes[1]} outputs, blocks of {sizes[2]}" in said


def test_an_unknown_variant(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFC_NATIVE_CPU", "abacus")
    handle, said = create(library, 1, 1, 1, np.ones(1, np.float32))
    assert handle is None
    assert re.fullmatch(r"EDGEFC_NATIVE_CPU is abacus, but this processor supports only portable(, \w+)*\.", said)


def test_one_plan_in_many_threads(library: ctypes.CDLL) -> None:
    """The form for many rows is made by whoever comes first; all get the same numbers."""
    plan = Plan(library, 384, 384, 384)
    x = inputs(33, 384)
    results: list[Floats] = []
    threads = [threading.Thread(target=lambda: results.append(plan(x))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    assert_close(results[0], plan.expected(x), nmse=1e-13, what="threads")
    plan.close()

"""Arm64: every kernel, NEON and portable, in the arm64 onnxruntime under qemu; no speed is tested.

The bodies of every layer are in test_devices_emulated.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefc import generator
from edgefc.runtime.native import build
from edgefc.testing import assert_close
from tests.layers.tied.test_ffn import expected as tied_expected
from tests.runtime.native import test_circulant_op, test_eugen, test_int3, test_tied  # fmt: skip
from tests.runtime.native.test_prp import BATCHES, SIZES
from tests.support import arm64, eugen_models, layer_models
from tests.support.arm64 import Case
from tests.support.native_models import Prp, inputs, without_body

pytestmark = pytest.mark.slow

CPUS = ("neon", "portable")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one for arm64: a compiler that is missing skips, one that fails fails."""
    arm64.root()
    try:
        build.compiler("aarch64")
    except build.NoLibrary as error:
        pytest.skip(f"NO ARM64 KERNELS ARE TESTED: {error}")
    return build.build(tmp_path_factory.mktemp("arm64") / "libedgefc.so", target="aarch64", extra=build.STRICT)


def prp() -> Iterator[Case]:
    for distribution in generator.CODEBOOKS:
        for n, m in SIZES:
            layer, xs = Prp(n, m, distribution), [inputs(rows, n) for rows in BATCHES]
            model = layer.model().SerializeToString()
            yield Case(model, xs, [layer.expected(x) for x in xs], f"PRP {distribution} {n} -> {m}")
    levels = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    layer = Prp(50, 30, "uniform", codebook=[float(level) for level in levels])
    codes = np.searchsorted(np.float32(generator.codebook("uniform").levels), generator.matrix(7, 30, 50, "uniform"))
    x, w = inputs(9, 50), layer.weights
    p = levels[codes].astype(np.float64) / np.sqrt(50)
    y = (x.astype(np.float64) * w["in_scale"]) @ p.T * w["out_scale"] + w["bias"]
    yield Case(layer.model().SerializeToString(), [x], [y], "PRP, a codebook of its own")


def circulant() -> Iterator[Case]:
    for n, m, block in (*test_circulant_op.SIZES, (768, 384, None), (509, 509, None)):
        layer = test_circulant_op.make(n, m, block)
        xs = [layer_models.inputs(rows, n) for rows in (0, 1, 3, 70)]
        model = without_body(layer, n).SerializeToString()
        yield Case(model, xs, [layer_models.expected(layer, x) for x in xs], f"circulant {n} -> {m}, block {block}")


def tied() -> Iterator[Case]:
    for d, h in test_tied.SIZES[:-2]:
        layer, xs = test_tied.make(d, h), [inputs(65, d)[:rows] for rows in (0, 1, 2, 7, 49)]
        model = without_body(layer, d).SerializeToString()
        yield Case(model, xs, [tied_expected(layer, x) for x in xs], f"TiedFFN {d}, {h}")
    for activation in test_tied.ACTIVATIONS:
        layer, x = test_tied.make(31, 130, activation), inputs(9, 31)
        yield Case(without_body(layer, 31).SerializeToString(), [x], [tied_expected(layer, x)], f"TiedFFN {activation}")


def eugen() -> Iterator[Case]:
    shapes = [(n, m, {"features": features}) for n, m, features in test_eugen.SIZES]
    for n, m, options in (*shapes, *((37, 29, each) for each in test_eugen.STRUCTURES)):
        layer, xs = test_eugen.make(n, m, **options), [inputs(65, n)[:rows] for rows in (0, 1, 2, 7, 49)]
        model = without_body(layer, n).SerializeToString()
        yield Case(model, xs, [eugen_models.expected(layer, x) for x in xs], f"EUGen {n} -> {m}, {options}")


def int3() -> Iterator[Case]:
    for n, m in test_int3.SIZES:
        for group, seed in ((32, None), (128, 2**64 - 1)):
            layer, xs = test_int3.Case(n, m, group, seed), [inputs(rows, n) for rows in test_int3.BATCHES]
            model = layer.model().SerializeToString()
            yield Case(model, xs, [layer.expected(x) for x in xs], f"Int3 {n} -> {m}, groups of {group}")


def compare(case: Case, number: int, found: dict[tuple[str, int, int], NDArray[Any]], cpu: str) -> str | None:
    """What is wrong, in one line."""
    for i, wanted in enumerate(case.expected):
        y, what = found[cpu, number, i], f"{cpu}: {case.what}, {len(case.inputs[i])} rows"
        if y.shape != wanted.shape or y.dtype != np.float32:
            return f"{what}: {y.dtype} of shape {y.shape}, not {wanted.shape}"
        try:
            if wanted.any():
                assert_close(y, wanted, nmse=1e-12, what=what)
        except AssertionError as error:
            return str(error)
    return None


def test_every_kernel_in_every_variant(library: Path, tmp_path: Path) -> None:
    cases = [*prp(), *circulant(), *tied(), *eugen(), *int3()]
    assert {case.what.split()[0] for case in cases} >= {"PRP", "circulant", "TiedFFN", "EUGen", "Int3"}

    found = arm64.answers(cases, CPUS, tmp_path, library)

    wrong = [compare(case, number, found, cpu) for cpu in CPUS for number, case in enumerate(cases)]
    assert not [line for line in wrong if line]


def test_threads_change_no_bit(library: Path, tmp_path: Path) -> None:
    layers = [Prp(700, 900, "rademacher"), Prp(700, 900, "gaussian")]
    cases = [Case(layer.model().SerializeToString(), [inputs(33, 700)], [], "") for layer in layers]

    one, three = (arm64.answers(cases, ["neon"], tmp_path, library, threads) for threads in (1, 3))

    for key, y in one.items():
        np.testing.assert_array_equal(three[key], y)

"""What the machine can do at most: plausible, by the native loops and without them."""

import ctypes
import math

import numpy as np
import pytest

from edgefc.bench import limits as module
from edgefc.bench.limits import limits
from edgefc.errors import UsageError
from edgefc.runtime import native
from tests.support import native_models


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer that takes no time to fill."""
    monkeypatch.setattr(module, "_buffer_bytes", lambda: 8 << 20)
    monkeypatch.setattr(module, "_FMA_S", 0.001)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_limits_are_plausible(threads: int) -> None:
    found = limits(threads, passes=3)

    assert (found.threads, found.buffer_bytes) == (threads, 8 << 20)
    assert 1e7 < found.read_bytes_per_s < 1e13
    assert 1e7 < found.operations_per_s < 1e15
    assert found.read_bytes_per_s == found.buffer_bytes / min(found.read_passes_s)
    assert found.operations_per_s == found.operations / min(found.operation_passes_s)
    assert len(found.read_passes_s) == len(found.operation_passes_s) == 3


def test_without_the_library_the_source_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library_path", lambda: None)

    found = limits(2, passes=2)

    assert (found.source, found.variant) == ("numpy", None)
    assert math.isfinite(found.read_bytes_per_s) and found.operations == 2 * 768**3


def test_a_library_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "choose", lambda mode: ("libc.so.6", "portable"))

    with pytest.raises(UsageError, match=r"older than this edgefc and cannot measure limits\. Build them again"):
        limits(1, passes=1)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return native_models.library(tmp_path_factory)


@pytest.mark.parametrize("variant", native_models.CPUS)
@pytest.mark.parametrize("count", [0, 1, 63, 1024, 100_003])
def test_the_native_loop_reads_every_number(
    variant: str, count: int, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    native_models.choose_cpu(variant, monkeypatch, library)
    monkeypatch.setattr(native, "library_path", lambda: library)
    found = native.choose("on")
    assert found is not None
    library = ctypes.CDLL(found[0])
    library.EdgefcRead.restype = ctypes.c_float
    library.EdgefcRead.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    data = np.arange(count, dtype=np.float32) % 7

    assert library.EdgefcRead(data.ctypes.data, count) == data.sum(dtype=np.float64)

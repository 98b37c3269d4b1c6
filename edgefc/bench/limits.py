"""What this machine can do at most with so many threads: read memory, and multiply-add in registers.

    read      every thread sums its part of a buffer that no cache holds, once and in order (as STREAM's kernels do)
    fma       every thread runs independent chains of fused multiply-adds that touch no memory
    numpy     where there is no native library: numpy's sum reads, and its matrix product stands in for fma, on as many
              threads as its BLAS takes

The best of several passes counts: what slows a pass down is not the machine's limit. A layer whose weights stay in a
cache reads faster than `read`.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from edgefc.errors import UsageError
from edgefc.runtime import native
from edgefc.runtime.probes import sysfs
from edgefc.runtime.profiling.parts import Part

PASSES = 7
_OVER_CACHE, _LEAST_BYTES, _MOST_BYTES = 4, 128 << 20, 1 << 30
_FMA_S = 0.01  # of one pass: long beside starting a thread
_SIDE = 768  # of numpy's matrices


class Limits(Part):
    """For `threads` threads. passes are the seconds of each pass; buffer_bytes and operations are what one did.

    The rates are those of the shortest pass.
    """

    threads: int
    source: Literal["native", "numpy"]
    variant: str | None
    read_bytes_per_s: float
    operations_per_s: float
    buffer_bytes: int
    operations: int
    read_passes_s: tuple[float, ...]
    operation_passes_s: tuple[float, ...]

    def joined(self, other: "Limits") -> "Limits":
        """The passes of both: a second measurement, later, catches the machine at another moment."""
        return Limits(
            threads=self.threads, source=self.source, variant=self.variant, buffer_bytes=self.buffer_bytes,
            read_bytes_per_s=max(self.read_bytes_per_s, other.read_bytes_per_s),
            operations_per_s=max(self.operations_per_s, other.operations_per_s),
            read_passes_s=self.read_passes_s + other.read_passes_s,
            operations=self.operations, operation_passes_s=self.operation_passes_s + tuple(
                seconds * self.operations / other.operations for seconds in other.operation_passes_s
            ),
        )  # fmt: skip


def limits(threads: int = 1, *, passes: int = PASSES) -> Limits:
    """Measured now, in well under a second for most machines.

    Raises:
        UsageError: EDGEFC_NATIVE_CPU names no variant of the native kernels.
    """
    found = native.choose("auto")
    buffer = np.ones(_buffer_bytes() // 4, np.float32)  # written, so that every page is there
    parts = np.array_split(buffer, threads)
    read, work, operations = _numpy(parts) if found is None else _native(ctypes.CDLL(found[0]), parts)
    together = threads if found is not None else 1
    read_s = [_wall_s(read, threads) for _ in range(passes)]
    work_s = [_wall_s(work, together) for _ in range(passes)]
    return Limits(
        threads=threads, source="numpy" if found is None else "native", variant=None if found is None else found[1],
        read_bytes_per_s=buffer.nbytes / min(read_s), operations_per_s=together * operations / min(work_s),
        buffer_bytes=buffer.nbytes, operations=together * operations,
        read_passes_s=tuple(read_s), operation_passes_s=tuple(work_s),
    )  # fmt: skip


Work = Callable[[int], object]


def _native(library: Any, parts: list[Any]) -> tuple[Work, Work, int]:
    """What thread number i does to read its part and to calculate, and the operations of the latter."""
    try:
        read, fma, each = library.EdgefcRead, library.EdgefcFma, library.EdgefcFmaEach
    except AttributeError:
        raise UsageError(
            "the native kernels are older than this edgefc and measure no limits. Build them again: "
            "python -m edgefc.runtime.native.build"
        ) from None
    read.restype = fma.restype = ctypes.c_float
    read.argtypes, fma.argtypes = (ctypes.c_void_p, ctypes.c_size_t), (ctypes.c_uint64,)
    each.restype, rounds = ctypes.c_uint64, 1 << 12
    while _seconds(fma, rounds) < _FMA_S and rounds < 1 << 40:
        rounds *= 2
    return lambda i: read(parts[i].ctypes.data, parts[i].size), lambda _: fma(rounds), 2 * each() * rounds


def _numpy(parts: list[Any]) -> tuple[Work, Work, int]:
    a = np.ones((_SIDE, _SIDE), np.float32)
    out = np.empty_like(a)
    return lambda i: parts[i].sum(), lambda _: np.matmul(a, a, out=out), 2 * _SIDE**3


def _wall_s(work: Work, threads: int) -> float:
    """From the moment when all threads are ready to the end of the last one. The work leaves the interpreter's lock."""
    if threads == 1:
        return _seconds(work, 0)
    ready, ends = threading.Barrier(threads), [(0.0, 0.0)] * threads

    def one(index: int) -> None:
        ready.wait()
        start = time.perf_counter()
        work(index)
        ends[index] = start, time.perf_counter()

    running = [threading.Thread(target=one, args=(index,)) for index in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    return max(end for _, end in ends) - min(start for start, _ in ends)


def _seconds(work: Work, argument: int) -> float:
    start = time.perf_counter()
    work(argument)
    return time.perf_counter() - start


def _buffer_bytes() -> int:
    """Some times the largest cache, within bounds."""
    return min(max(_LEAST_BYTES, _OVER_CACHE * max(sysfs.caches().values(), default=0)), _MOST_BYTES)

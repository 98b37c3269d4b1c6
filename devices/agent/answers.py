"""The agent's answers about itself and its board. Part of the agent: standard library only, Python 3.9.

The answers of probes are in runtime/probes/contracts.py. Python 3.9 evaluates the annotations, so they use
Optional[int] instead of int | None.
"""
# ruff: noqa: UP045

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Optional

from edgefc.runtime.probes.heat import Heat
from edgefc.runtime.probes.plain import Range

Count = Annotated[int, Range(0, 2**53)]
Clock = Annotated[float, Range(-1e12, 1e12)]  # seconds since 1970


@dataclass(frozen=True)
class Hello:
    """The answer to "hello".

    swept is the number of old runs that were removed. killed_for_memory is the number of processes that the kernel has
    killed for lack of memory since it started.
    """

    protocol: int
    edgefc: str
    python: str
    machine: str
    clock_s: Clock
    swept: Count
    run: str
    killed_for_memory: Optional[Count]


@dataclass(frozen=True)
class HeatNow:
    """The answer to "heat". waited_s is how long this run has waited for the board to cool."""

    heat: Heat
    waited_s: Annotated[float, Range(0, 1e6)]


@dataclass(frozen=True)
class Facts:
    """The answer to "check". A null could not be read. A field that ends in _missing has the reason."""

    python: str
    machine: str
    os: str
    libc: Optional[str]
    numpy: Optional[str]
    numpy_missing: Optional[str]
    onnxruntime: Optional[str]
    onnxruntime_missing: Optional[str]
    native: bool
    cores: Optional[Count]
    memory_bytes: Optional[Count]
    memory_free_bytes: Optional[Count]
    disk_free_bytes: Count
    governor: Optional[str]
    heat: Heat
    clock_s: Clock
    pip: bool

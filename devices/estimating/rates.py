"""The rates of a device for estimates: computation and data transfer, from a profile or measured on this machine."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from edgefc.devices.profiles import profile as profiles
from edgefc.devices.profiles.profile import Profile
from edgefc.errors import DeviceError, UsageError
from edgefc.runtime.probes import sysfs

_LIMIT_S = 60
REACHED = 0.9
"""The assumed share of peak of a large product. It is used to compute the clock rate, which virtual machines hide."""

_PROGRAM = """
import json, time
import numpy as np

def shortest(work, times):
    seconds = []
    for _ in range(times):
        start = time.thread_time()
        work()
        seconds.append(time.thread_time() - start)
    return min(seconds)

a = np.ones((768, 768), np.float32)
c, d = np.ones(1 << 24, np.float32), np.empty(1 << 24, np.float32)
print(json.dumps({"flop_per_s": 2 * 768**3 / shortest(lambda: a @ a, 40),
                  "copy_bytes_per_s": c.nbytes / shortest(lambda: np.copyto(d, c), 12)}))
"""


@dataclass(frozen=True)
class Rates:
    """The rates of one core of the fastest cluster. An unknown cache has size 0, so that memory is assumed.

    cores                 number of cores in that cluster
    traffic_bytes_per_s   memory traffic of one core, reads plus writes
    total_bytes_per_s     memory traffic of all cores; None if unknown
    memory_bytes          size of the memory; None if unknown
    measured_here         whether the rates were measured on this machine
    """

    device: str
    cores: int
    clock_hz: float
    flop_per_cycle: float
    l2_bytes: int
    l3_bytes: int
    traffic_bytes_per_s: float
    total_bytes_per_s: float | None
    memory_bytes: int | None
    measured_here: bool = False


def of_profile(profile: Profile) -> Rates:
    """The rates according to a profile. For the profile of this machine, they are measured.

    Raises:
        UsageError: the profile lacks a fact that an estimate needs.
        DeviceError: the measurement on this machine failed.
    """
    if profile.kind == "host":
        return of_this_machine()
    missing = [name for name, present in _needed(profile).items() if not present]
    if missing:
        supported = ", ".join(key for key in profiles.names() if usable(profiles.load(key)))
        raise UsageError(
            f"no estimate for {profile.key}: its profile has no public source for {' and '.join(missing)}. "
            f"Measure on the device with edgefc profile, or estimate for one of: {supported}."
        )
    best, memory = profile.clusters[0], profile.memory
    assert memory is not None
    assert best.fp32_flop_per_cycle is not None
    copy, total = memory.copy_bytes_per_s, memory.bandwidth_bytes_per_s
    own, shared = best.l2_bytes_per_core, best.l2_bytes_shared
    one = 2.0 * copy.value if copy else total.value / 2.0 if total else 0.0
    return Rates(
        device=profile.name, cores=best.cores.value, clock_hz=best.max_clock_hz.value,
        flop_per_cycle=best.fp32_flop_per_cycle.value, l2_bytes=own.value if own else shared.value if shared else 0,
        l3_bytes=memory.l3_bytes.value if memory.l3_bytes else 0, traffic_bytes_per_s=one,
        total_bytes_per_s=total.value if total else None, memory_bytes=max(memory.bytes.value),
    )  # fmt: skip


def usable(profile: Profile) -> bool:
    """Whether a profile has the facts that an estimate needs."""
    return profile.kind == "host" or all(_needed(profile).values())


def _needed(profile: Profile) -> dict[str, bool]:
    memory = profile.memory
    return {
        "its float32 operations per cycle": bool(profile.clusters and profile.clusters[0].fp32_flop_per_cycle),
        "its memory's speed": bool(memory and (memory.copy_bytes_per_s or memory.bandwidth_bytes_per_s)),
    }


def of_this_machine() -> Rates:
    """Measure this machine in about one second, in a process with one thread. The kernel reports the cache sizes.

    Raises:
        DeviceError: the measurement failed or timed out.
    """
    one_thread = dict.fromkeys((f"{each}_NUM_THREADS" for each in ("OPENBLAS", "OMP", "MKL")), "1")
    try:
        done = subprocess.run(  # noqa: S603  fixed words
            [sys.executable, "-c", _PROGRAM], env={**os.environ, **one_thread}, capture_output=True, timeout=_LIMIT_S,
            check=True,
        )  # fmt: skip
        answer = json.loads(done.stdout)
        flop, copy = float(answer["flop_per_s"]), float(answer["copy_bytes_per_s"])
    except (subprocess.SubprocessError, OSError, ValueError, KeyError, TypeError) as error:
        raise DeviceError(f"cannot measure the speed of this machine: {type(error).__name__}. Run it again.") from None
    caches = sysfs.caches()
    lanes = 32.0 if "avx512f" in sysfs.flags() else 16.0  # products of two vectors a cycle
    return Rates(
        device="this machine", cores=os.cpu_count() or 1, clock_hz=flop / (lanes * REACHED), flop_per_cycle=lanes,
        l2_bytes=caches.get(2, 0), l3_bytes=caches.get(3, 0), traffic_bytes_per_s=2.0 * copy, total_bytes_per_s=None,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), measured_here=True,
    )  # fmt: skip

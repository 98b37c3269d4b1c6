"""How fast a device computes and moves data, as estimates need it: from a profile, or measured on this machine."""

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
"""What share of its peak a large product is taken to reach: it tells the clock, which a virtual machine hides."""

_PROGRAM = """
import json, time
import numpy as np

def least(work, times):
    found = []
    for _ in range(times):
        start = time.thread_time()
        work()
        found.append(time.thread_time() - start)
    return min(found)

a = np.ones((768, 768), np.float32)
c, d = np.ones(1 << 24, np.float32), np.empty(1 << 24, np.float32)
print(json.dumps({"flop_per_s": 2 * 768**3 / least(lambda: a @ a, 40),
                  "copy_bytes_per_s": c.nbytes / least(lambda: np.copyto(d, c), 12)}))
"""


@dataclass(frozen=True)
class Rates:
    """One core of the fastest cluster, and how many there are. A cache that is not known is 0: memory is assumed.

    traffic_bytes_per_s   what one core reads and writes of memory, together
    total_bytes_per_s     the same of all cores; None: not known
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
    """What a profile's facts say.

    Raises:
        UsageError: it lacks a fact that an estimate needs.
    """
    if profile.kind == "host":
        return of_this_machine()
    lacking = [name for name, there in _needed(profile).items() if not there]
    if lacking:
        able = ", ".join(key for key in profiles.names() if usable(profiles.load(key)))
        raise UsageError(
            f"no estimate for {profile.key}: its profile has no public source for {' and '.join(lacking)}. "
            f"Measure on the device with edgefc profile, or estimate for one of: {able}."
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
    """Whether it has what an estimate needs."""
    return profile.kind == "host" or all(_needed(profile).values())


def _needed(profile: Profile) -> dict[str, bool]:
    memory = profile.memory
    return {
        "its float32 operations per cycle": bool(profile.clusters and profile.clusters[0].fp32_flop_per_cycle),
        "its memory's speed": bool(memory and (memory.copy_bytes_per_s or memory.bandwidth_bytes_per_s)),
    }


def of_this_machine() -> Rates:
    """Measured in a second, in a process with one thread; caches as the kernel tells them.

    Raises:
        DeviceError: the measurement did not end, or not well.
    """
    alone = dict.fromkeys((f"{each}_NUM_THREADS" for each in ("OPENBLAS", "OMP", "MKL")), "1")
    try:
        done = subprocess.run(  # noqa: S603  fixed words
            [sys.executable, "-c", _PROGRAM], env={**os.environ, **alone}, capture_output=True, timeout=_LIMIT_S,
            check=True,
        )  # fmt: skip
        told = json.loads(done.stdout)
        flop, copy = float(told["flop_per_s"]), float(told["copy_bytes_per_s"])
    except (subprocess.SubprocessError, OSError, ValueError, KeyError, TypeError) as error:
        raise DeviceError(f"this machine's speed was not measured: {type(error).__name__}. Try again.") from None
    caches = sysfs.caches()
    lanes = 32.0 if "avx512f" in sysfs.flags() else 16.0  # products of two vectors a cycle
    return Rates(
        device="this machine", cores=os.cpu_count() or 1, clock_hz=flop / (lanes * REACHED), flop_per_cycle=lanes,
        l2_bytes=caches.get(2, 0), l3_bytes=caches.get(3, 0), traffic_bytes_per_s=2.0 * copy, total_bytes_per_s=None,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), measured_here=True,
    )  # fmt: skip

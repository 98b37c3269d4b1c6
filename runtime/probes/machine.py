"""Facts about the machine that affect a timing. A fact that cannot be read is None, and `missing` has the reason.

No fact contains the name of the owner, the network name of the machine, or a folder.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
import onnxruntime as ort

import edgefc
from edgefc.runtime.probes import sysfs

# The names of instruction sets in /proc/cpuinfo, and in records. Matrix kernels choose between these.
_FEATURES: Mapping[str, str] = {
    "sse4_1": "sse4.1", "avx": "avx", "fma": "fma", "avx2": "avx2", "avx_vnni": "avxvnni", "avx512f": "avx512f",
    "avx512_vnni": "avx512vnni", "avx512_bf16": "avx512bf16", "amx_int8": "amxint8",
    "neon": "neon", "asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16", "i8mm": "i8mm",
    "sve": "sve", "sme": "sme",
}  # fmt: skip
_NO_CPUFREQ = "the kernel does not expose cpufreq (usual in virtual machines)"


def environment() -> dict[str, Any]:
    """The fields of profiling.parts.Environment, by name."""
    missing: dict[str, str] = {}

    def fact(name: str, read: Callable[[], Any], reason: str) -> Any:
        try:
            value = read()
        except (OSError, ValueError, LookupError, AttributeError):
            value = None
        if value in (None, "", ()):
            missing[name] = reason
            return None
        return value

    only_linux = "it is read from /proc, which this system does not provide"
    return {
        "machine": platform.machine() or "unknown",
        "board": fact("board", sysfs.board, "neither the device tree nor DMI contains a name"),
        "virtual": fact(
            "virtual", lambda: "hypervisor" in sysfs.cpuinfo()["flags"].split(), "the CPU has no flag for it"
        ),
        "emulated": fact("emulated", _emulated, only_linux),
        "cpu": fact("cpu", _cpu, only_linux),
        "features": fact("features", _features, only_linux),
        "cores": os.cpu_count() or 1,
        "usable_cores": fact("usable_cores", lambda: len(os.sched_getaffinity(0)), "the system does not report it"),
        "governor": fact("governor", sysfs.governor, _NO_CPUFREQ),
        "frequency_hz": fact("frequency_hz", lambda: sysfs.frequency_hz("scaling_cur_freq"), _NO_CPUFREQ),
        "max_frequency_hz": fact("max_frequency_hz", lambda: sysfs.frequency_hz("cpuinfo_max_freq"), _NO_CPUFREQ),
        "memory_bytes": fact("memory_bytes", _memory_bytes, "the system does not report it"),
        "load_1min": fact("load_1min", lambda: os.getloadavg()[0], "the system does not report it"),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "onnxruntime": str(ort.__version__),
        "numpy": np.__version__,
        "edgefc": edgefc.__version__,
        "date": datetime.now(timezone.utc).replace(microsecond=0),
        "missing": missing,
    }


def _emulated() -> bool | None:
    """Whether /proc/cpuinfo describes an x86 CPU although this program is built for another one, as under qemu-user."""
    info = sysfs.cpuinfo()
    return None if not info else "vendor_id" in info and platform.machine() not in ("x86_64", "i686", "i386", "AMD64")


def _cpu() -> str | None:
    """The name of an x86 CPU. On arm the kernel has no name, only an implementer and a part number."""
    info = sysfs.cpuinfo()
    if name := info.get("model name") or info.get("Model"):
        return name
    if "CPU part" in info:
        return f"implementer {info.get('CPU implementer', '?')} part {info['CPU part']}"
    return None


def _features() -> tuple[str, ...]:
    return tuple(dict.fromkeys(_FEATURES[flag] for flag in sysfs.flags() if flag in _FEATURES))


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

"""What a timing depends on besides the model. A fact that cannot be read is None, with its reason in `missing`.

Nothing here names the machine's owner, its network name or a folder.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import edgefc

# /proc/cpuinfo's names for the instruction sets that matrix kernels choose between, and ours.
_FEATURES: Mapping[str, str] = {
    "sse4_1": "sse4.1", "avx": "avx", "fma": "fma", "avx2": "avx2", "avx_vnni": "avxvnni", "avx512f": "avx512f",
    "avx512_vnni": "avx512vnni", "avx512_bf16": "avx512bf16", "amx_int8": "amxint8",
    "neon": "neon", "asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16", "i8mm": "i8mm",
    "sve": "sve", "sme": "sme",
}  # fmt: skip
_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_NO_CPUFREQ = "the kernel shows no cpufreq (usual in virtual machines)"


def environment() -> dict[str, Any]:
    """The fields of record.Environment."""
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

    only_linux = "it is read from /proc, which this system does not fill"
    return {
        "machine": platform.machine() or "unknown",
        "board": fact("board", _board, "neither a device tree nor DMI names one"),
        "virtual": fact("virtual", lambda: "hypervisor" in _cpuinfo()["flags"].split(), "the CPU has no flag for it"),
        "emulated": fact("emulated", _emulated, only_linux),
        "cpu": fact("cpu", _cpu, only_linux),
        "features": fact("features", _features, only_linux),
        "cores": os.cpu_count() or 1,
        "usable_cores": fact("usable_cores", lambda: len(os.sched_getaffinity(0)), "the system does not tell"),
        "governor": fact("governor", lambda: (_CPUFREQ / "scaling_governor").read_text().strip(), _NO_CPUFREQ),
        "frequency_hz": fact("frequency_hz", lambda: _khz("scaling_cur_freq"), _NO_CPUFREQ),
        "max_frequency_hz": fact("max_frequency_hz", lambda: _khz("cpuinfo_max_freq"), _NO_CPUFREQ),
        "memory_bytes": fact("memory_bytes", _memory_bytes, "the system does not tell"),
        "load_1min": fact("load_1min", lambda: os.getloadavg()[0], "the system does not tell"),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "onnxruntime": str(ort.__version__),
        "numpy": np.__version__,
        "edgefc": edgefc.__version__,
        "date": datetime.now(timezone.utc).replace(microsecond=0),
        "missing": missing,
    }


def _cpuinfo() -> dict[str, str]:
    """/proc/cpuinfo of the first core."""
    first = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _emulated() -> bool:
    """Whether the kernel describes an x86 CPU to a program built for another one, as under qemu-user."""
    return "vendor_id" in _cpuinfo() and platform.machine() not in ("x86_64", "i686", "i386", "AMD64")


def _cpu() -> str | None:
    """x86 has a name; arm has an implementer and a part number, which is what the kernel knows."""
    info = _cpuinfo()
    if name := info.get("model name") or info.get("Model"):
        return name
    if "CPU part" in info:
        return f"implementer {info.get('CPU implementer', '?')} part {info['CPU part']}"
    return None


def _features() -> tuple[str, ...]:
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features", "")).split()
    return tuple(dict.fromkeys(_FEATURES[flag] for flag in flags if flag in _FEATURES))


def _board() -> str | None:
    for path in ("/proc/device-tree/model", "/sys/class/dmi/id/product_name"):
        try:
            return Path(path).read_text(errors="replace").strip("\0 \n")
        except OSError:
            continue
    return None


def _khz(name: str) -> int:
    return int((_CPUFREQ / name).read_text()) * 1000


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

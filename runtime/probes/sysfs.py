"""Files of a Linux kernel that tell about the machine. Standard library only: the agent on a board uses it.

A file that does not exist or holds something else than expected gives None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

CPUS = Path("/sys/devices/system/cpu")
_CPUINFO, _MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
_BOARDS = (Path("/proc/device-tree/model"), Path("/sys/class/dmi/id/product_name"))
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

T = TypeVar("T")


def text(path: Path) -> str | None:
    """The content without blanks and zero bytes at both ends."""
    try:
        return path.read_text(errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def number(path: Path) -> int | None:
    return _parsed(int, text(path))


def numbers(folder: Path, pattern: str, of: str = "") -> Iterator[int]:
    """The numbers in the files that match; `of` must be part of the file `type` beside each."""
    for path in sorted(folder.glob(pattern)):
        found = number(path)
        if found is not None and of in ((text(path.with_name("type")) or "") if of else ""):
            yield found


def cpuinfo() -> Mapping[str, str]:
    """/proc/cpuinfo of the first core; empty where there is none."""
    pairs = (line.partition(":") for line in (text(_CPUINFO) or "").split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def flags() -> tuple[str, ...]:
    """The kernel's names for the instruction sets of the first core."""
    info = cpuinfo()
    return tuple((info.get("flags") or info.get("Features", "")).split())


def meminfo_bytes(name: str) -> int | None:
    """A size in /proc/meminfo, such as MemTotal."""
    found = re.search(rf"^{name}: +(\d+) kB$", text(_MEMINFO) or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def board() -> str | None:
    """The name in the device tree (arm), or of the product (DMI)."""
    return next((found for path in _BOARDS if (found := text(path))), None)


def governor() -> str | None:
    """What chooses the frequency of the first core, such as "performance"."""
    return text(CPUS / "cpu0/cpufreq/scaling_governor")


def frequency_hz(name: str) -> int | None:
    """Of the first core: "scaling_cur_freq" or "cpuinfo_max_freq"."""
    khz = number(CPUS / "cpu0/cpufreq" / name)
    return None if khz is None else khz * 1000


def caches() -> dict[int, int]:
    """Bytes of the first core's caches by level; those of data where a level has two."""
    found = {}
    for folder in sorted((CPUS / "cpu0/cache").glob("index*")):
        level, size = number(folder / "level"), _parsed(_bytes, text(folder / "size"))
        if level is not None and size is not None and text(folder / "type") != "Instruction":
            found[level] = size
    return found


def _bytes(size: str) -> int:
    """Of "2048K"."""
    return int(size.rstrip("KMG")) * _UNITS[size[len(size.rstrip("KMG")) :]]


def _parsed(read: Callable[[str], T], content: str | None) -> T | None:
    try:
        return None if content is None else read(content)
    except (ValueError, LookupError):
        return None

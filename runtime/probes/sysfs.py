"""Read facts about the machine from files of the Linux kernel. Standard library only, because the agent uses it.

A value is None if its file does not exist or has unexpected content.
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
    """The content of a file without spaces, newlines and zero bytes at both ends."""
    try:
        return path.read_text(errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def number(path: Path) -> int | None:
    return _parsed(int, text(path))


def numbers(folder: Path, pattern: str, of: str = "") -> Iterator[int]:
    """The numbers in the files that match the pattern. The file `type` beside each one must contain `of`."""
    for path in sorted(folder.glob(pattern)):
        value = number(path)
        if value is not None and of in ((text(path.with_name("type")) or "") if of else ""):
            yield value


def cpuinfo() -> Mapping[str, str]:
    """/proc/cpuinfo of the first core. Empty if there is no such file."""
    pairs = (line.partition(":") for line in (text(_CPUINFO) or "").split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def flags() -> tuple[str, ...]:
    """The kernel's names for the instruction sets of the first core."""
    info = cpuinfo()
    return tuple((info.get("flags") or info.get("Features", "")).split())


def meminfo_bytes(name: str) -> int | None:
    """A size in /proc/meminfo, such as MemTotal."""
    match = re.search(rf"^{name}: +(\d+) kB$", text(_MEMINFO) or "", re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def board() -> str | None:
    """The name of the board in the device tree (arm), or of the product in DMI."""
    return next((name for path in _BOARDS if (name := text(path))), None)


def governor() -> str | None:
    """The frequency governor of the first core, such as "performance"."""
    return text(CPUS / "cpu0/cpufreq/scaling_governor")


def frequency_hz(name: str) -> int | None:
    """A frequency of the first core: "scaling_cur_freq" or "cpuinfo_max_freq"."""
    khz = number(CPUS / "cpu0/cpufreq" / name)
    return None if khz is None else khz * 1000


def caches() -> dict[int, int]:
    """The sizes of the first core's caches in bytes, by level. Instruction caches are left out."""
    sizes = {}
    for folder in sorted((CPUS / "cpu0/cache").glob("index*")):
        level, size = number(folder / "level"), _parsed(_bytes, text(folder / "size"))
        if level is not None and size is not None and text(folder / "type") != "Instruction":
            sizes[level] = size
    return sizes


def _bytes(size: str) -> int:
    """The number of bytes of a size such as "2048K"."""
    return int(size.rstrip("KMG")) * _UNITS[size[len(size.rstrip("KMG")) :]]


def _parsed(read: Callable[[str], T], content: str | None) -> T | None:
    try:
        return None if content is None else read(content)
    except (ValueError, LookupError):
        return None

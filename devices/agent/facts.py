"""What a board has and lacks, for `edgefc devices check`. Part of the agent: standard library only, Python 3.9.

onnxruntime and numpy are asked for in a child process: where they are missing, or crash, the agent still answers.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from typing import Any

from edgefc.devices.agent.answers import Facts
from edgefc.errors import EdgefcError, describe_error, shortened
from edgefc.runtime import native
from edgefc.runtime.probes import child, heat, sysfs

_SAY = (
    "import json\nfound = {}\nfor name in ('numpy', 'onnxruntime'):\n"
    "    try: found[name] = [str(__import__(name).__version__), None]\n"
    "    except BaseException as error: found[name] = [None, f'{type(error).__name__}: {error}']\n"
    "print(json.dumps(found))"
)
_LONGEST = 200  # characters of a reason
_LIMIT_S = 120.0  # an import on an SD card, or under emulation, takes long


def facts(store: Any) -> Facts:
    found = _packages()
    return Facts(
        python=platform.python_version(), machine=platform.machine(), os=platform.system(),
        libc=" ".join(platform.libc_ver()).strip() or None,
        numpy=found["numpy"][0], numpy_missing=found["numpy"][1],
        onnxruntime=found["onnxruntime"][0], onnxruntime_missing=found["onnxruntime"][1],
        native=_native(), cores=os.cpu_count(),
        memory_bytes=sysfs.meminfo_bytes("MemTotal"), memory_free_bytes=sysfs.meminfo_bytes("MemAvailable"),
        disk_free_bytes=shutil.disk_usage(store.root).free, governor=sysfs.governor(),
        heat=heat.state(), clock_s=time.time(), pip=_has_pip(),
    )  # fmt: skip


def _packages() -> dict[str, list[str | None]]:
    try:
        done = subprocess.run(  # noqa: S603  this python, a constant program
            [sys.executable, "-c", _SAY], capture_output=True, text=True, timeout=_LIMIT_S, env=child.environment(),
            check=False,
        )  # fmt: skip
        found: dict[str, list[str | None]] = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:  # it ended before its answer
        last = done.stderr.strip().rpartition("\n")[2]
        reason = _one_line(f"Python ended with exit {done.returncode}: {last or 'it printed nothing'}")
        return {"numpy": [None, reason], "onnxruntime": [None, reason]}
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = _one_line(describe_error(error))
        return {"numpy": [None, reason], "onnxruntime": [None, reason]}
    return {name: [version, missing and _one_line(missing)] for name, (version, missing) in found.items()}


def _one_line(text: str) -> str:
    """Shortened. numpy's reasons have many lines."""
    return shortened(" ".join("".join(each if each.isprintable() else " " for each in text).split()), _LONGEST)


def _native() -> bool:
    """Whether the kernels are there and load: not those of another processor."""
    try:
        return native.choose("auto") is not None
    except EdgefcError:
        return False


def _has_pip() -> bool:
    from importlib.util import find_spec

    return find_spec("pip") is not None

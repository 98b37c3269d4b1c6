"""What a board has and lacks, for `edgefc devices check`. Part of the agent: standard library only, Python 3.9.

A child process imports numpy and onnxruntime. If one is missing or crashes, the agent still answers.
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

_PROGRAM = (
    "import json\nversions = {}\nfor name in ('numpy', 'onnxruntime'):\n"
    "    try: versions[name] = [str(__import__(name).__version__), None]\n"
    "    except BaseException as error: versions[name] = [None, f'{type(error).__name__}: {error}']\n"
    "print(json.dumps(versions))"
)
_LONGEST = 200  # characters of a reason
_LIMIT_S = 120.0  # an import from an SD card or under emulation is slow


def facts(store: Any) -> Facts:
    packages = _packages()
    return Facts(
        python=platform.python_version(), machine=platform.machine(), os=platform.system(),
        libc=" ".join(platform.libc_ver()).strip() or None,
        numpy=packages["numpy"][0], numpy_missing=packages["numpy"][1],
        onnxruntime=packages["onnxruntime"][0], onnxruntime_missing=packages["onnxruntime"][1],
        native=_native(), cores=os.cpu_count(),
        memory_bytes=sysfs.meminfo_bytes("MemTotal"), memory_free_bytes=sysfs.meminfo_bytes("MemAvailable"),
        disk_free_bytes=shutil.disk_usage(store.root).free, governor=sysfs.governor(),
        heat=heat.state(), clock_s=time.time(), pip=_has_pip(),
    )  # fmt: skip


def _packages() -> dict[str, list[str | None]]:
    """By name: the version, or None and the reason why the package cannot be imported."""
    try:
        done = subprocess.run(  # noqa: S603  this python, a constant program
            [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=_LIMIT_S, env=child.environment(),
            check=False,
        )  # fmt: skip
        versions: dict[str, list[str | None]] = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:  # the child ended without an answer
        last = done.stderr.strip().rpartition("\n")[2]
        reason = _one_line(f"Python ended with exit code {done.returncode}: {last or 'it printed nothing'}")
        return {"numpy": [None, reason], "onnxruntime": [None, reason]}
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = _one_line(describe_error(error))
        return {"numpy": [None, reason], "onnxruntime": [None, reason]}
    return {name: [version, missing and _one_line(missing)] for name, (version, missing) in versions.items()}


def _one_line(text: str) -> str:
    """The text on one line, shortened. numpy's import errors have many lines."""
    return shortened(" ".join("".join(each if each.isprintable() else " " for each in text).split()), _LONGEST)


def _native() -> bool:
    """Whether the native library is installed and loads. A library for another processor does not load."""
    try:
        return native.choose("auto") is not None
    except EdgefcError:
        return False


def _has_pip() -> bool:
    from importlib.util import find_spec

    return find_spec("pip") is not None

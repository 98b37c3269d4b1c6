"""The native kernels: a library of onnxruntime operators for nodes of the domain edgefc, in float32.

`pip install` compiles it where there is a C++17 compiler. Where there is none, or with EDGEFC_NATIVE=0, edgefc is
installed without it; in a checkout `python -m edgefc.runtime.native.build` compiles it later. The same file then runs
faster, with the same answers. What the library does not have, other types among it, runs by the bodies in the file.

EDGEFC_LIBRARY=PATH names another library than the one that was installed; the agent on a board uses it.
EDGEFC_NATIVE_CPU=portable, avx2, avx512 (or neon) chooses among what this processor can run; without it, its last one.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from edgefc.errors import UsageError, first_line

DOMAIN, VERSION = "edgefc", 1  # what the kernels compute: nodes of this version of the domain
NAME = "libedgefc.dylib" if sys.platform == "darwin" else "libedgefc.so"
MODES = ("auto", "on", "off")
_BUILD = (
    "Install a C++ compiler and run pip install again without EDGEFC_NATIVE=0, or run "
    "python -m edgefc.runtime.native.build in a checkout"
)


def library_path() -> str | None:
    """The library, for SessionOptions.register_custom_ops_library; None where edgefc was installed without it."""
    path = Path(os.environ.get("EDGEFC_LIBRARY") or Path(__file__).with_name(NAME))
    return str(path) if path.is_file() else None


def check_mode(mode: str) -> None:
    if mode not in MODES:
        raise UsageError(f"native is {mode!r}. Choose one of: {', '.join(MODES)}.")


def choose(mode: str) -> tuple[str, str] | None:
    """The library to load and which of its variants runs here ("portable", "avx2", "avx512", "neon"), or None for none.

    Raises:
        UsageError: no such mode, "on" where no library can be loaded, or EDGEFC_NATIVE_CPU names no variant.
    """
    check_mode(mode)
    path = library_path()
    if mode == "off" or (path is None and mode == "auto"):
        return None
    if path is None:
        raise UsageError(f"native is 'on', and this edgefc was installed without native kernels. {_BUILD}.")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:  # of another processor, or made for a newer system
        if mode == "auto":
            return None
        raise UsageError(f"native is 'on', and the kernels cannot be loaded: {first_line(error)}. {_BUILD}.") from None
    library.EdgefcNativeCpu.restype = ctypes.c_char_p
    variant = library.EdgefcNativeCpu()
    if variant is None:
        raise UsageError(
            "EDGEFC_NATIVE_CPU names no variant of the native kernels that this processor runs. Leave it unset, "
            "or choose among: portable, avx2, avx512 on x86-64, portable, neon on arm64."
        )
    return path, variant.decode()

"""The native kernels: a library of onnxruntime operators for nodes of the domain edgefc, in float32.

`pip install` compiles the library if a C++17 compiler is available. Without a compiler, or with EDGEFC_NATIVE=0, edgefc
is installed without it. In a checkout, `python -m edgefc.runtime.native.build` compiles it later. With the library, the
same file runs faster and gives the same results. Operators and types that the library does not support run with the
bodies in the file.

EDGEFC_LIBRARY=PATH sets the library to load instead of the installed one. The agent on a board uses it.
EDGEFC_NATIVE_CPU=portable, avx2, avx512 or neon selects an instruction set that this processor supports. By default it
is the last one of these.
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
    """The path for SessionOptions.register_custom_ops_library, or None if edgefc was installed without the library."""
    path = Path(os.environ.get("EDGEFC_LIBRARY") or Path(__file__).with_name(NAME))
    return str(path) if path.is_file() else None


def check_mode(mode: str) -> None:
    if mode not in MODES:
        raise UsageError(f"native is {mode!r}. Choose one of: {', '.join(MODES)}.")


def choose(mode: str) -> tuple[str, str] | None:
    """The library to load and the variant that runs here ("portable", "avx2", "avx512", "neon"), or None to load none.

    Raises:
        UsageError: the mode is invalid, it is "on" and no library can be loaded, or EDGEFC_NATIVE_CPU is not a variant
            that this processor supports.
    """
    check_mode(mode)
    path = library_path()
    if mode == "off" or (path is None and mode == "auto"):
        return None
    if path is None:
        raise UsageError(f"native is 'on', but edgefc was installed without native kernels. {_BUILD}.")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:  # built for another processor or a newer system
        if mode == "auto":
            return None
        raise UsageError(f"native is 'on', but the kernels cannot be loaded: {first_line(error)}. {_BUILD}.") from None
    library.EdgefcNativeCpu.restype = ctypes.c_char_p
    variant = library.EdgefcNativeCpu()
    if variant is None:
        raise UsageError(
            "EDGEFC_NATIVE_CPU is not a variant of the native kernels that this processor supports. Unset it or choose "
            "from: portable, avx2, avx512 on x86-64; portable, neon on arm64."
        )
    return path, variant.decode()

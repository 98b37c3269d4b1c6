"""admit(): what is checked of a file before onnxruntime, or the onnx package, reads it.

onnxruntime checks much of a model, and ends the process or takes all memory where it does not. admit() refuses, in one
sentence and in milliseconds:

- what is not a regular file, and what is larger than protobuf reads
- bytes that are no protobuf message
- functions that call themselves, nest too deeply, or come to too much when they are written out (functions.py)
- weights that lie outside the model's folder, that are not there, are not a regular file, or end early (places.py)
- names of inputs, outputs and open sizes that are not UTF-8: Python cannot hold them

A model is a program all the same. One that was admitted may run for ever, or ask for more memory than there is: run a
model of unknown origin in a process of its own, with a limit. A file that another program changes between this check
and the load is not the one that was checked.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgefc.errors import ModelError, UsageError, reason_of, shortened
from edgefc.modelfile.functions import check_functions
from edgefc.modelfile.protobuf import Malformed, Message, Source, fields, inside, merged, opened, strings
from edgefc.modelfile.weights import is_ort_format, no_onnx, places

_PORTS = {11: "input", 12: "output"}  # of a GraphProto
_LARGEST = (1 << 31) - 1  # bytes of a protobuf message


def admit(path: Path) -> None:
    """Refuse a file that onnxruntime cannot be given.

    Raises:
        UsageError: no file can be read there.
        ModelError: it is no ONNX file, or holds what is refused.
    """
    check_file(path)
    if is_ort_format(path):
        return
    try:
        with opened(path) as source:
            if source.size > _LARGEST:
                raise ModelError(
                    f"cannot load {path}: it has {source.size:,} bytes, and an ONNX file has up to {_LARGEST:,}. Save "
                    "it with its weights in a file beside it."
                )
            _check_names(source, path)
            check_functions(source, path)
            for _ in places(source, path):
                pass
    except Malformed:
        raise no_onnx(path) from None


def check_file(path: Path) -> None:
    """
    Raises:
        UsageError: there is no file, or one that cannot be read.
        ModelError: it is empty.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"cannot load {path}: it is a folder. Name the .onnx file in it.")
        if not stat.S_ISREG(mode):  # to open a pipe would wait for its writer
            raise UsageError(f"cannot load {path}: it is not a regular file. Name an .onnx file.")
        with path.open("rb") as file:
            empty = not file.read(1)
    except UsageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"cannot load {shortened(path)}: {reason_of(error)}. Check the path.") from None
    if empty:
        raise ModelError(f"cannot load {path}: the file is empty. Export it or copy it again.")


def _check_names(source: Source, path: Path) -> None:
    """Of inputs and outputs, and of their open sizes."""
    for each in fields(source, merged(source, source.whole, 7)):
        if each.number not in _PORTS or each.value >= 0:
            continue
        port: Message = ((each.start, each.end),)
        dims = (strings(source, dim, 2).get(2, b"") for dim in inside(source, port, 2, 1, 2, 1))
        for kind, name in (
            (_PORTS[each.number], strings(source, port, 1).get(1, b"")),
            *(("axis", dim) for dim in dims),
        ):
            try:
                name.decode()
            except UnicodeDecodeError:
                shown = shortened(name.decode(errors="replace"), 80)
                raise ModelError(
                    f"cannot load {path}: the name of its {kind} {shown!r} is not UTF-8. Export it with other names."
                ) from None

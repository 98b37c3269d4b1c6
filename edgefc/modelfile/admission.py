"""admit(): checks of a model file before onnxruntime or the onnx package reads it.

onnxruntime does not check everything in a model: some files end the process or use all memory. admit() takes
milliseconds. It rejects, with one sentence:

- a path that is not a regular file, and a file that exceeds protobuf's size limit
- bytes that are not a protobuf message
- functions that call themselves, nest too deeply, or become too large when they are inlined (functions.py)
- weights files that are outside the model's folder, missing, not regular files, or too short (places.py)
- names of inputs, outputs and open axes that are not UTF-8, which Python cannot represent

An accepted model may still run forever or allocate more memory than the machine has. Run an untrusted model in its own
process, with limits. admit() gives no protection against a program that changes the file between the check and the
load.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgefc.errors import ModelError, UsageError, reason_of, shortened
from edgefc.modelfile.functions import check_functions
from edgefc.modelfile.protobuf import Malformed, Message, Source, fields, inside, merged, opened, strings
from edgefc.modelfile.weights import is_ort_format, no_onnx, places

_TENSORS = {11: "input", 12: "output"}  # field numbers of GraphProto
_LARGEST = (1 << 31) - 1  # bytes of a protobuf message


def admit(path: Path) -> None:
    """Reject a file that onnxruntime must not load.

    Raises:
        UsageError: the file cannot be read.
        ModelError: the file is not an ONNX file, or fails one of the checks above.
    """
    check_file(path)
    if is_ort_format(path):
        return
    try:
        with opened(path) as source:
            if source.size > _LARGEST:
                raise ModelError(
                    f"cannot load {path}: it has {source.size:,} bytes, and the limit of an ONNX file is {_LARGEST:,}. "
                    "Save it with its weights in a separate file."
                )
            _check_names(source, path)
            check_functions(source, path)
            for _ in places(source, path):
                pass
    except Malformed:
        raise no_onnx(path) from None


def check_file(path: Path) -> None:
    """Check that a regular file exists, can be read and is not empty.

    Raises:
        UsageError: the file does not exist, is not a regular file or cannot be read.
        ModelError: the file is empty.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"cannot load {path}: it is a folder. Name the .onnx file in it.")
        if not stat.S_ISREG(mode):  # opening a pipe would block until a writer opens it
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
    """Check the names of inputs and outputs, and of their open axes."""
    for each in fields(source, merged(source, source.whole, 7)):
        if each.number not in _TENSORS or each.value >= 0:
            continue
        tensor: Message = ((each.start, each.end),)
        dims = (strings(source, dim, 2).get(2, b"") for dim in inside(source, tensor, 2, 1, 2, 1))
        for kind, name in (
            (_TENSORS[each.number], strings(source, tensor, 1).get(1, b"")),
            *(("axis", dim) for dim in dims),
        ):
            try:
                name.decode()
            except UnicodeDecodeError:
                shown = shortened(name.decode(errors="replace"), 80)
                raise ModelError(
                    f"cannot load {path}: the name of its {kind} {shown!r} is not UTF-8. Export it with other names."
                ) from None

"""Converts exceptions of onnxruntime to one sentence each.

Known texts are replaced by our own sentences. The texts change between releases. Unknown texts are shown unchanged,
except for locations in onnxruntime's sources (edgefc/onnxruntime_text.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort

from edgefc.errors import EdgefcError, ModelError, UnknownOperator
from edgefc.onnxruntime_text import bare, node, reason, short, text_of
from edgefc.releases import RIGHT_FROM

_HERE = f"onnxruntime {ort.__version__}"
_OTHER_RUNTIME = "Use a release that has it, or export without it"
_NEWER = "Export it with a lower one, or use a newer onnxruntime"

_UNDEFINED = (
    r"(?P<op>[\w.]+:\w+)\(-?\d+\) is not a registered function/op"
    r'|In Node, \("[^"]*", (?P<name>\w+), "(?P<domain>[\w.]+)", -1\)'
)

_KNOWN: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        r"Protobuf parsing failed|No graph was found|ModelProto does not have a graph",
        lambda _: "it is not an ONNX file, or it is truncated. Export it or copy it again",
    ),
    (
        r"(?i)external data.*does not exist: *\"?(?P<file>[^\"]+?)\"?$|file[_ ]size: [^\[]*\[(?P<old>[^\]]+)\]",
        lambda m: (
            f"its weights file {Path(m['file'] or m['old']).name!r} does not exist. Copy it to the model's folder"
        ),
    ),
    (
        r"while running (?P<op>\S+) node\. Name:'(?P<name>.*?)' Status Message: (?P<why>.*)",
        lambda m: f"its {node(m['op'], m['name'])} failed: {short(bare(m['why'])) or 'it gave no reason'}",
    ),
    (
        r"Type Error: Type 'tensor\((?P<type>\w+)\)' of input parameter .* of operator \((?P<op>\w+)\)",
        lambda m: (
            f"its operator {m['op']} has an input of type {m['type']}, which is not supported by {_HERE} "
            "or the native kernels"
        ),
    ),
    (
        r"Could not find an implementation for (?P<op>\w+)\(\d+\) node",  # such as uint32 arithmetic before 1.20
        lambda m: f"{_HERE} does not support its operator {m['op']} on these types. {_OTHER_RUNTIME}",
    ),
    (
        r"nbits_ == 4 \|\| nbits_ == 8",
        lambda _: (
            f"its weights of 2 bits need onnxruntime {'.'.join(map(str, RIGHT_FROM))}, and {ort.__version__} is "
            "installed. Export it with bodies={'QuantizedLinear': 'dequantized'}, or with 4 bits"
        ),
    ),
    (
        r"No Op registered for (?P<op>\S+) with domain_version of (?P<version>\d+)",
        lambda m: f"{_HERE} has no operator {m['op']} at opset {m['version']}. {_OTHER_RUNTIME}",
    ),
    (
        _UNDEFINED,
        lambda m: f"neither {_HERE} nor the file defines {_undefined(m)}. {_OTHER_RUNTIME}",
    ),
    (
        r"Unsupported model IR version: (?P<ir>\d+), max supported IR version: (?P<max>\d+)",
        lambda m: f"its IR version is {m['ir']}, but {_HERE} reads versions up to {m['max']}. {_NEWER}",
    ),
    (
        r"Opset (?P<opset>\d+) is under development.*domain (?P<domain>\S+) is till opset (?P<max>\d+)",
        lambda m: f"it needs opset {m['opset']} of {m['domain']}, but {_HERE} supports up to {m['max']}. {_NEWER}",
    ),
)


def load_error(path: Path, error: Exception, others: str | None = None) -> EdgefcError:
    """Converts an exception during loading. `others` describes nodes with another version of the domain, or is None."""
    undefined = re.search(_UNDEFINED, text_of(error))
    if others is not None and undefined:
        return UnknownOperator(
            f"cannot load {path}: it {others}, and the file does not define {_undefined(undefined)}. Export it again."
        )
    pattern, sentence = _found(path, error)
    kind = UnknownOperator if pattern is _UNDEFINED else ModelError
    return kind(f"cannot load {path}: {sentence}.")


def is_of_another_type(error: Exception) -> bool:
    """Whether loading failed because of an unsupported type, as for a float64 layer with the native kernels."""
    return bool(re.search(r"Type Error: Type 'tensor\(\w+\)' of input parameter", text_of(error)))


def run_error(path: Path, error: Exception, empty: str | None = None) -> EdgefcError:
    """Converts an exception during a run. `empty` names an input without elements and its shape."""
    if empty is not None:
        return ModelError(
            f"cannot run {path}: input {empty}, which has no elements, and {_sentence(path, error)}. "
            "Pass at least one element along every axis."
        )
    return ModelError(f"cannot run {path}: {_sentence(path, error)}.")


def _undefined(found: re.Match[str]) -> str:
    return found["op"] or f"{found['domain']}:{found['name']}"


def _sentence(path: Path, error: Exception) -> str:
    return _found(path, error)[1]


def _found(path: Path, error: Exception) -> tuple[str | None, str]:
    """Returns the pattern of _KNOWN that matches, or None, and the sentence."""
    flat = bare(text_of(error), path)
    for pattern, say in _KNOWN:
        if found := re.search(pattern, flat):
            return pattern, say(found)
    return None, reason(error, path)

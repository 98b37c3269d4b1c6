"""onnxruntime's exceptions as one sentence each.

Its texts carry status codes, C++ paths and signatures; what a user can act on is one clause of them. Texts change
between releases, so an unknown one is cleaned and shown rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort

from edgefc.errors import EdgefcError, ModelError, decoded, shortened

_LONGEST = 200  # characters of an unknown text
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
        lambda _: "it is no ONNX file, or was cut short. Export it or copy it again",
    ),
    (
        r"(?i)external data.*does not exist: *\"?(?P<file>[^\"]+?)\"?$|file[_ ]size: [^\[]*\[(?P<old>[^\]]+)\]",
        lambda m: f"its weights file {Path(m['file'] or m['old']).name!r} is not there. Put it beside the model",
    ),
    (
        r"(?s)while running (?P<op>\S+) node\. Name:'(?P<name>[^']*)' Status Message: (?P<why>.*)",
        lambda m: f"its {m['op']} node {m['name']!r} failed: {_cleaned(m['why'])}",
    ),
    (
        r"Type Error: Type 'tensor\((?P<type>\w+)\)' of input parameter .* of operator \((?P<op>\w+)\)",
        lambda m: f"its operator {m['op']} has an input of type {m['type']}, which {_HERE} or the native kernels lack",
    ),
    (
        r"Could not find an implementation for (?P<op>\w+)\(\d+\) node",  # uint32 arithmetic before 1.20, say
        lambda m: f"{_HERE} does not compute its operator {m['op']} on these types. {_OTHER_RUNTIME}",
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
        lambda m: f"its IR version is {m['ir']} and {_HERE} reads up to {m['max']}. {_NEWER}",
    ),
    (
        r"Opset (?P<opset>\d+) is under development.*domain (?P<domain>\S+) is till opset (?P<max>\d+)",
        lambda m: f"it needs opset {m['opset']} of {m['domain']} and {_HERE} has up to {m['max']}. {_NEWER}",
    ),
)


def load_error(path: Path, error: Exception, others: str | None = None) -> EdgefcError:
    """`others` is what Session says of a file with another version of the domain edgefc."""
    error = decoded(error)
    if others is not None and (found := re.search(_UNDEFINED, str(error))):
        return ModelError(
            f"cannot load {path}: it {others}, and the file does not define {_undefined(found)}. Export it again."
        )
    return ModelError(f"cannot load {path}: {_sentence(str(error))}.")


def is_of_another_type(error: Exception) -> bool:
    """Did a model not load because an operator has no such type? So ends a float64 layer with the native kernels."""
    return bool(re.search(r"Type Error: Type 'tensor\(\w+\)' of input parameter", str(decoded(error))))


def run_error(path: Path, error: Exception, empty: str | None = None) -> EdgefcError:
    """`empty` names an input without elements and its shape."""
    error = decoded(error)
    if empty is not None:
        return ModelError(
            f"cannot run {path}: input {empty}, which has no elements, and {_sentence(str(error))}. "
            "Give at least one element along every axis."
        )
    return ModelError(f"cannot run {path}: {_sentence(str(error))}.")


def _undefined(found: re.Match[str]) -> str:
    return found["op"] or f"{found['domain']}:{found['name']}"


def _sentence(text: str) -> str:
    flat = " ".join(text.split())
    for pattern, say in _KNOWN:
        if found := re.search(pattern, flat):
            return say(found)
    return _cleaned(flat)


def _cleaned(text: str) -> str:
    """The text without status codes, C++ source positions and signatures, cut at a word."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"(Load model from|Exception during initialization:).*?(failed:|$)", "", text, count=1)
    text = re.sub(r"\S+\.(cc|h|cpp):\d+ .*?\)(?: const)? ", "", text)
    text = re.sub(r"\b\S+\.(cc|h|cpp):\d+ \S+ ?", "", text).strip().rstrip(".")
    return shortened(text, _LONGEST) or "onnxruntime gave no reason"

"""Remove internal details of onnxruntime from the texts of its exceptions.

A text starts with any number of these prefixes, in any order:

    [ONNXRuntimeError] : 1 : FAIL :             a status
    Load model from m.onnx failed:              the path as given
    Exception during initialization:
    /onnxruntime_src/.../reshape_helper.h:84 onnxruntime::ReshapeHelper::ReshapeHelper(const ..., bool)
    conv.cc:261 Compute                         a source location, with or without a signature

Prefixes are removed at the start of the text. A status or source location is also removed after a full stop or a colon:
"Deserialize tensor w failed.endian_utils.cc:66 CopyLittleEndian source and ...". The rest is the reason and is kept
unchanged. The result is never empty.
"""

from __future__ import annotations

import os
import re

from edgefc import errors
from edgefc.errors import shortened

LONGEST = 300  # characters of a text in a message

_STATUS = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_PHASE = re.compile(r"Exception during initialization: ")
_LOCATION = re.compile(r"(?P<file>\S+\.(?:cc|cpp|cxx|h|hpp|inc|mm)):\d+ ")
_INNER = re.compile(r"(?<=[.:]) ?(?=\[ONNXRuntimeError\] : |(?:/\S+/)?\w+\.(?:cc|cpp|cxx|h|hpp|inc|mm):\d+ )")
_SHORT_NAME = re.compile(r"(?:operator\(\)|[A-Za-z_~]\w*) (?=\S)")
_MOST_SIGNATURE = 2000

# Shape inference lists the enclosing nodes before the innermost error.
_INFERENCE = r"\[\w+InferenceError\] (?:Inference error\(s\): )?"
_AROUND = re.compile(r"\(op_type:(?P<op>\w*)(?:, node name: (?P<name>.*?))?\): " + _INFERENCE)
_NODE = re.compile(r"Node \((?P<name>.*?)\) Op \((?P<op>\w+)\) " + _INFERENCE)
_CHECKED = re.compile(
    r'This is an invalid model\. In Node, \("(?P<name>.*?)", (?P<op>\w+), "[^"]*", -?\d+\) : .*, Error (?P<why>\S.*)'
)
_BRANCH = "Graph attribute inferencing failed: "
_NEXT = re.compile(r" \(op_type:")


def text_of(error: BaseException) -> str:
    """The whole text of an exception. If onnxruntime's text is not UTF-8, Python raises a UnicodeDecodeError that
    contains the bytes.
    """
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode(errors="replace")
    return errors.text_of(error)


def reason(error: BaseException, path: str | os.PathLike[str] | None = None) -> str:
    """The reason in one line of at most LONGEST characters, without a full stop."""
    text = short(_nodes(bare(text_of(error), path)))
    return text or f"onnxruntime raised {type(error).__name__} without a message"


def bare(text: str, path: str | os.PathLike[str] | None = None) -> str:
    """The text in one line, without prefixes."""
    loading = None if path is None else "Load model from " + " ".join(os.fspath(path).split()) + " failed:"
    result, at = _without_prefixes(" ".join(text.split()), loading), 0
    while inner := _INNER.search(result, at):
        before, after = result[: inner.start()].rstrip(" .:"), result[inner.end() :]
        rest, at = _without_prefixes(after, None), inner.end()
        if rest != after:
            before = f"{before}: " if before else ""
            result, at = before + rest, len(before)
    return result


def _without_prefixes(text: str, loading: str | None) -> str:
    while True:
        rest = _without_prefix(text, loading)
        if not rest.strip() or rest == text:
            return text
        text = rest.strip()


def _without_prefix(text: str, loading: str | None) -> str:
    if loading is not None and text.startswith(loading):
        return text[len(loading) :]
    for prefix in (_STATUS, _PHASE):
        if match := prefix.match(text):
            return text[match.end() :]
    location = _LOCATION.match(text)
    if location is None:
        return text
    if re.search(r"[/\\]", location["file"]):  # a signature follows a path; a plain name follows a file name
        end = _signature_end(text, location.end())
        return text if end is None else text[end:]
    name = _SHORT_NAME.match(text, location.end())
    return text if name is None else text[name.end() :]


def _signature_end(text: str, at: int) -> int | None:
    """The end index of a C++ signature such as "void f<T>(int) const [with T = int]". None if there is no signature."""
    for _ in range(8):  # nested lambdas have one parameter list each
        opened = text.find("(", at, at + _MOST_SIGNATURE)
        if opened < 0 or (closed := _closing(text, opened)) is None:
            return None
        at = closed + 1
        if text.endswith("<lambda", 0, opened):
            at += text.startswith(">", at)
            break
        if text[at : at + 1] not in (":", "(", ">", "*", "&", ",") and not text[:at].endswith("operator()"):
            break
    for word in (" const", " noexcept"):
        at += len(word) if text.startswith(f"{word} ", at) else 0
    if text.startswith(" [with ", at):
        closed = _closing(text, at + 1)
        at = at if closed is None else closed + 1
    return at


def _closing(text: str, at: int) -> int | None:
    """The index of the bracket that closes the one at `at`."""
    depth, close = 0, {"(": ")", "[": "]"}[text[at]]
    for index in range(at, min(len(text), at + _MOST_SIGNATURE)):
        depth += (text[index] == text[at]) - (text[index] == close)
        if depth == 0:
            return index
    return None


def _nodes(text: str) -> str:
    """Reduce an error of shape inference or of a node check to the innermost error and its node."""
    if checked := _CHECKED.match(text):
        return f"its {node(checked['op'], checked['name'])}: {checked['why']}"
    if not (outer := _NODE.match(text)):
        return text
    inner, at = None, outer.end()
    while around := _AROUND.match(text, at):
        inner, at = around, around.end()
    end = _NEXT.search(text, at)  # later errors are consequences of this one
    why = text[at : end.start() if end else len(text)].strip()
    if not why:
        return text
    within = "" if inner is None else f", in its {node(inner['op'], inner['name'])}"
    if why.startswith(_BRANCH):
        return f"its {node(outer['op'], outer['name'])}{within}: in a branch, {_nodes(why[len(_BRANCH) :])}"
    return f"its {node(outer['op'], outer['name'])}{within}: {why}"


def short(text: str) -> str:
    """Shorten a text to LONGEST characters, without a full stop. The middle of a longer text is removed, because the
    reason may be at either end."""
    if len(text) <= LONGEST:
        return text.rstrip(" .")
    head = shortened(text, LONGEST // 2)
    tail = text[-LONGEST // 2 + 1 :].rstrip(" .")
    return f"{head} {tail.partition(' ')[2] or tail}"


def node(op: str, name: str | None) -> str:
    """Format a node for a message."""
    return f"{op} node {shortened(name or '', 80)!r}"

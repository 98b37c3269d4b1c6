"""The text of onnxruntime's exceptions, without what only its developers read.

A text starts with any number of these, one after another:

    [ONNXRuntimeError] : 1 : FAIL :             a status
    Load model from m.onnx failed:              the path was given
    Exception during initialization:
    /onnxruntime_src/.../reshape_helper.h:84 onnxruntime::ReshapeHelper::ReshapeHelper(const ..., bool)
    conv.cc:261 Compute                         the place in its sources, with or without the signature

They are removed from the start, and where a sentence or a colon ends before a status or a place: "Deserialize tensor w
failed.endian_utils.cc:66 CopyLittleEndian source and ...". Something is always left. What follows is the reason, and
stays whole.
"""

from __future__ import annotations

import os
import re

from edgefc import errors
from edgefc.errors import shortened

LONGEST = 300  # characters of a text that is shown

_STATUS = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_PHASE = re.compile(r"Exception during initialization: ")
_PLACE = re.compile(r"(?P<file>\S+\.(?:cc|cpp|cxx|h|hpp|inc|mm)):\d+ ")
_INNER = re.compile(r"(?<=[.:]) ?(?=\[ONNXRuntimeError\] : |(?:/\S+/)?\w+\.(?:cc|cpp|cxx|h|hpp|inc|mm):\d+ )")
_SHORT_NAME = re.compile(r"(?:operator\(\)|[A-Za-z_~]\w*) (?=\S)")
_MOST_SIGNATURE = 2000

# Shape inference reports the innermost fault behind the nodes around it.
_FOUND = r"\[\w+InferenceError\] (?:Inference error\(s\): )?"
_AROUND = re.compile(r"\(op_type:(?P<op>\w*)(?:, node name: (?P<name>.*?))?\): " + _FOUND)
_NODE = re.compile(r"Node \((?P<name>.*?)\) Op \((?P<op>\w+)\) " + _FOUND)
_CHECKED = re.compile(
    r'This is an invalid model\. In Node, \("(?P<name>.*?)", (?P<op>\w+), "[^"]*", -?\d+\) : .*, Error (?P<why>\S.*)'
)
_BRANCH = "Graph attribute inferencing failed: "
_NEXT = re.compile(r" \(op_type:")


def text_of(error: BaseException) -> str:
    """The whole text. One that is not UTF-8 reaches Python as a UnicodeDecodeError, which holds its bytes."""
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode(errors="replace")
    return errors.text_of(error)


def reason(error: BaseException, path: str | os.PathLike[str] | None = None) -> str:
    """What onnxruntime says in one line of at most LONGEST characters, without a full stop."""
    shown = short(_nodes(bare(text_of(error), path)))
    return shown or f"onnxruntime raised {type(error).__name__} without a text"


def bare(text: str, path: str | os.PathLike[str] | None = None) -> str:
    """The text in one line, from the reason on."""
    loading = None if path is None else "Load model from " + " ".join(os.fspath(path).split()) + " failed:"
    left, at = _without_heads(" ".join(text.split()), loading), 0
    while inner := _INNER.search(left, at):
        before, after = left[: inner.start()].rstrip(" .:"), left[inner.end() :]
        rest, at = _without_heads(after, None), inner.end()
        if rest != after:
            before = f"{before}: " if before else ""
            left, at = before + rest, len(before)
    return left


def _without_heads(left: str, loading: str | None) -> str:
    while True:
        rest = _without_head(left, loading)
        if not rest.strip() or rest == left:
            return left
        left = rest.strip()


def _without_head(text: str, loading: str | None) -> str:
    if loading is not None and text.startswith(loading):
        return text[len(loading) :]
    for head in (_STATUS, _PHASE):
        if found := head.match(text):
            return text[found.end() :]
    place = _PLACE.match(text)
    if place is None:
        return text
    if re.search(r"[/\\]", place["file"]):  # onnxruntime writes signatures after paths, plain names after names
        end = _signature_end(text, place.end())
        return text if end is None else text[end:]
    name = _SHORT_NAME.match(text, place.end())
    return text if name is None else text[name.end() :]


def _signature_end(text: str, at: int) -> int | None:
    """Where a C++ signature ends: "void f<T>(int) const [with T = int]". None where there is no such thing."""
    for _ in range(8):  # a lambda in a function has a list of parameters for each
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
    """The place of the bracket that closes the one at `at`."""
    depth, close = 0, {"(": ")", "[": "]"}[text[at]]
    for place in range(at, min(len(text), at + _MOST_SIGNATURE)):
        depth += (text[place] == text[at]) - (text[place] == close)
        if depth == 0:
            return place
    return None


def _nodes(text: str) -> str:
    """The innermost fault that shape inference or the check of a node found, and the node where it is."""
    if checked := _CHECKED.match(text):
        return f"its {node(checked['op'], checked['name'])}: {checked['why']}"
    if not (found := _NODE.match(text)):
        return text
    inner, at = None, found.end()
    while around := _AROUND.match(text, at):
        inner, at = around, around.end()
    end = _NEXT.search(text, at)  # the next faults follow from this one
    why = text[at : end.start() if end else len(text)].strip()
    if not why:
        return text
    within = "" if inner is None else f", in its {node(inner['op'], inner['name'])}"
    if why.startswith(_BRANCH):
        return f"its {node(found['op'], found['name'])}{within}: in a branch, {_nodes(why[len(_BRANCH) :])}"
    return f"its {node(found['op'], found['name'])}{within}: {why}"


def short(text: str) -> str:
    """At most LONGEST characters, without a full stop. Of a longer text the middle is left out: either end may be the
    reason."""
    if len(text) <= LONGEST:
        return text.rstrip(" .")
    head = shortened(text, LONGEST // 2)
    tail = text[-LONGEST // 2 + 1 :].rstrip(" .")
    return f"{head} {tail.partition(' ')[2] or tail}"


def node(op: str, name: str | None) -> str:
    """A node in a sentence."""
    return f"{op} node {shortened(name or '', 80)!r}"

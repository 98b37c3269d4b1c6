"""The cost of inlining the local functions of an .onnx file. onnxruntime inlines them level by level when it loads it.

A few hundred bytes of functions that call each other can need more memory, time or stack than the machine has.
onnxruntime 1.31 checks only that no function calls itself. Measured with onnxruntime 1.31.1 on x86-64:

- A nested call takes 2 to 3 KB of stack, a nested subgraph about 3 KB. A thread with a stack of 256 KB (smaller than
  every system's default except that of musl's C threads) survives 64 nested calls and subgraphs in any order, and
  crashes at 96. The main thread with 8 MB crashes at 3,000.
- Each level copies all nodes below it, in 4 to 20 microseconds each: 2**14 nodes, doubled level by level, load in 2 s;
  2**16 nodes load in 20 s.
- Each call copies the tensors of the function.
- Each declared input of a function takes 25 microseconds and 5 KB.

The limits exceed what exporters write. torch.onnx 2.1 to 2.4 wrote a function for every module: about 10 nested calls
and tens of thousands of copies. edgefc writes one level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edgefc.errors import ModelError, shortened
from edgefc.modelfile.protobuf import Message, Source, fields, inside, strings

DEEPEST = 64
"""Nested calls and subgraphs."""
MOST_COPIES = 4_000_000
"""Copies of nodes, inputs and outputs: one for every call that encloses them."""
MOST_BYTES = 512 << 20
"""Bytes of inlined nodes and their tensors, beyond the size of the file."""
MOST_NAMES = 100_000
"""Inputs, outputs and attributes declared by all functions together."""

_SMALL = 1 << 14  # nodes of up to this many bytes are searched for a domain name before they are parsed
_INLINE = "Save it with its functions inlined: onnx.inliner.inline_local_functions"
_Key = tuple[bytes, bytes, bytes]  # domain, name, overload
_Wanted = Callable[[Message], bool]


class _Call(NamedTuple):
    key: _Key
    depth: int  # subgraphs around it
    size: int  # bytes of the node, its attributes included


@dataclass
class _Body:
    """The contents of one function or of the graph, including subgraphs."""

    entries: int = 0  # nodes, inputs and outputs
    depth: int = 0  # nested subgraphs
    references: int = 0  # attributes that refer to attributes of the call
    calls: list[_Call] = field(default_factory=list)


class _Total(NamedTuple):
    """The size of one function, including everything that it calls. `copies` counts entries once per enclosing call."""

    entries: int
    copies: int
    bytes: int
    depth: int
    references: int


def check_functions(source: Source, path: Path) -> None:
    """Reject a file whose functions exceed a limit when onnxruntime inlines them.

    Raises:
        ModelError: a limit is exceeded, or a function calls itself.
        Malformed: the file is not a protobuf message.
    """
    functions = {_key(source, function): function for function in inside(source, source.whole, 25)}
    if not functions:
        return
    checked = _Checked(source, functions, path)
    checked.check_names()
    for key in functions:
        checked.total(key)
    checked.check_graph()


class _Checked:
    def __init__(self, source: Source, functions: dict[_Key, Message], path: Path) -> None:
        self._source, self._functions, self._path = source, functions, path
        self._domains = {key[0] for key in functions}
        self._totals: dict[_Key, _Total] = {}
        self._stack: list[_Key] = []  # the functions whose bodies are being counted, outermost first

    def check_names(self) -> None:
        counted = 0
        for message in self._functions.values():
            for each in fields(self._source, message):
                counted += each.number in (4, 5, 6)
                if counted > MOST_NAMES:
                    raise self._refused(
                        f"its functions declare more than {MOST_NAMES:,} inputs, outputs and attributes, the limit"
                    )

    def check_graph(self) -> None:
        body = _Body()
        for graph in inside(self._source, self._source.whole, 7):
            _walk(self._source, graph, 1, 0, body, self._may_call)
        total = self._sum(body, 0)
        more = total.bytes - self._source.size
        if more > MOST_BYTES:
            raise self._refused(
                f"its functions, inlined at every call, take {more:,} bytes more than the file, and the limit is "
                f"{MOST_BYTES:,}"
            )

    def total(self, key: _Key) -> _Total:
        if key not in self._totals:
            if key in self._stack:
                called = "::".join(part.decode(errors="replace") for part in key[:2])
                raise ModelError(
                    f"cannot load {self._path}: its function {shortened(called, 80)} calls itself, which ONNX does not "
                    "allow. Remove the recursive call and save it again."
                )
            if len(self._stack) >= DEEPEST:
                raise self._too_deep()
            self._stack.append(key)
            message, body = self._functions[key], _Body()
            _walk(self._source, message, 7, 0, body)
            for attribute in inside(self._source, message, 11):
                _walk_graphs(self._source, attribute, 0, body)
            self._totals[key] = self._sum(body, sum(end - start for start, end in message))
            self._stack.pop()
        return self._totals[key]

    def _sum(self, body: _Body, size: int) -> _Total:
        """The total of a body and everything that it calls."""
        entries, copies, depth, references = body.entries, 0, body.depth, body.references
        for call in body.calls:
            if call.key not in self._functions:
                continue
            called = self.total(call.key)
            entries += called.entries
            copies += called.copies
            size += called.bytes + call.size * called.references
            depth = max(depth, call.depth + 1 + called.depth)
            references += called.references
        if depth > DEEPEST:
            raise self._too_deep()
        # The graph itself is not copied; a function body is copied once for each call.
        copies += entries if self._stack else 0
        if copies > MOST_COPIES:
            raise self._refused(
                f"onnxruntime would copy at least {copies:,} nodes and names to inline its functions, and the limit "
                f"is {MOST_COPIES:,}",
                "Save it with fewer nested calls",
            )
        return _Total(entries, copies, size, depth, references)

    def _may_call(self, node: Message) -> bool:
        """Whether a node, or a node in its subgraphs, may be a call: its bytes contain a domain name of a function."""
        ((start, end),) = node
        if end - start > _SMALL:
            return True
        data = self._source.read(start, end)
        return any(domain in data for domain in self._domains)

    def _too_deep(self) -> ModelError:
        return self._refused(f"more than {DEEPEST} function calls and subgraphs are nested within each other")

    def _refused(self, reason: str, remedy: str = _INLINE) -> ModelError:
        return ModelError(f"cannot load {self._path}: {reason}. {remedy}.")


def _walk(
    source: Source, message: Message, number: int, depth: int, body: _Body, wanted: _Wanted = lambda _: True
) -> None:
    """Count the nodes of a graph or function. `number` is the field that holds the nodes."""
    body.depth = max(body.depth, depth)
    for node in inside(source, message, number):
        if wanted(node):
            _count(source, node, depth, body)


def _count(source: Source, node: Message, depth: int, body: _Body) -> None:
    texts, attributes = {4: b"", 7: b"", 8: b""}, []
    body.entries += 1
    for each in fields(source, node):
        if each.number in (1, 2):
            body.entries += 1
        elif each.number in texts and each.value < 0:
            texts[each.number] = source.read(each.start, each.end)
        elif each.number == 5 and each.value < 0:
            attributes.append(((each.start, each.end),))
    body.calls.append(_Call((_domain(texts[7]), texts[4], texts[8]), depth, node[0][1] - node[0][0]))
    for attribute in attributes:
        _walk_graphs(source, attribute, depth, body)


def _walk_graphs(source: Source, attribute: Message, depth: int, body: _Body) -> None:
    one: list[tuple[int, int]] = []
    for each in fields(source, attribute):
        if each.number == 6 and each.value < 0:
            one.append((each.start, each.end))
        elif each.number == 11 and each.value < 0:
            _walk(source, ((each.start, each.end),), 1, depth + 1, body)
        elif each.number == 21 and each.value < 0:
            body.references += 1
    if one:
        _walk(source, tuple(one), 1, depth + 1, body)


def _key(source: Source, function: Message) -> _Key:
    texts = strings(source, function, 1, 10, 13)
    return _domain(texts.get(10, b"")), texts.get(1, b""), texts.get(13, b"")


def _domain(name: bytes) -> bytes:
    return b"" if name == b"ai.onnx" else name

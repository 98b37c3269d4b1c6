"""A reader for the fields of a protobuf message in a file.

A message is a sequence of fields. A field is a varint key (number * 8 + wire type) and a value. Unknown fields and
groups are skipped. A field of one message may occur several times. Its occurrences are then concatenated, so a Message
is a tuple of spans.

The file is read in blocks and not mapped. If another program truncates a mapped file, the process ends with SIGBUS; a
read only returns fewer bytes.

Irregular bytes are handled as in protobuf's C++ reader: keys and enumerations keep their low 32 bits.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

VARINT, EIGHT_BYTES, LENGTH, GROUP, GROUP_END, FOUR_BYTES = range(6)  # wire types
DEEPEST = 100  # nested messages; protobuf has the same limit

_BLOCK = 1 << 14
_HEADER = 20  # the length of the longest key and length, in bytes
_STEP = {EIGHT_BYTES: 8, FOUR_BYTES: 4}

Message = tuple[tuple[int, int], ...]
"""The spans of a message in the file: (start, end) of each part."""


class Malformed(ValueError):
    """The bytes are not a protobuf message."""


class Field(NamedTuple):
    """A field. A length-delimited field spans start to end and has the `value` -1. A varint has an empty span."""

    number: int
    start: int
    end: int
    value: int


class Source:
    """A file with random access. The block that was read last is cached."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self._block, self._start = b"", 0

    @property
    def whole(self) -> Message:
        return ((0, self.size),)

    def block(self, at: int) -> tuple[bytes, int]:
        """A block of bytes and its start. It contains the whole header at `at`, unless the file ends within it."""
        end = self._start + len(self._block)
        if not self._start <= at <= end - _HEADER and not (end >= self.size and self._start <= at):
            self._block, self._start = self._from(at, _BLOCK), at
        return self._block, self._start

    def read(self, start: int, end: int) -> bytes:
        """The bytes of a span.

        Raises:
            Malformed: the file has become shorter.
        """
        first = start - self._start
        if first >= 0 and end - self._start <= len(self._block):
            return self._block[first : end - self._start]
        data = self._from(start, end - start)
        if len(data) < end - start:
            raise Malformed("the file ends early")
        return data

    def text(self, start: int, end: int) -> str:
        return self.read(start, end).decode(errors="replace")

    def has(self, what: bytes, start: int, end: int) -> bool:
        """Whether the bytes `what` occur in a span."""
        step = 1 << 20
        return any(what in self.read(at, min(at + step + len(what), end)) for at in range(start, end, step))

    def _from(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    with path.open("rb", buffering=0) as file:
        yield Source(file)


def fields(source: Source, message: Message) -> Iterator[Field]:
    """Each length-delimited field and each varint. Fixed-width numbers and groups are skipped.

    Raises:
        Malformed: the bytes are not a protobuf message.
    """
    for start, end in message:
        yield from _fields(source, start, end)


def inside(source: Source, message: Message, *numbers: int) -> Iterator[Message]:
    """The messages at a path of field numbers. Each field of the path may occur any number of times."""
    for number, start, end, value in fields(source, message):
        if number == numbers[0] and value < 0:
            if len(numbers) == 1:
                yield ((start, end),)
            else:
                yield from inside(source, ((start, end),), *numbers[1:])


def merged(source: Source, message: Message, number: int) -> Message:
    """All occurrences of a field, concatenated into one message."""
    return tuple(span for part in inside(source, message, number) for span in part)


def strings(source: Source, message: Message, *numbers: int) -> dict[int, bytes]:
    """The last value of each of these fields, by field number."""
    return {
        number: source.read(start, end)
        for number, start, end, value in fields(source, message)
        if number in numbers and value < 0
    }


def varints(source: Source, message: Message, number: int) -> Iterator[int]:
    """The values of one repeated varint field, packed or not."""
    for field in fields(source, message):
        if field.number == number:
            yield from [field.value] if field.value >= 0 else packed(source.read(field.start, field.end))


def floats(source: Source, message: Message, number: int) -> Iterator[float]:
    """The values of one repeated float32 field, packed or not.

    Raises:
        Malformed: as for fields(), or the length of a packed list is not a multiple of four.
    """
    for start, end in message:
        for field in _fields(source, start, end, four_bytes=True):
            if field.number == number and field.value < 0:
                if (field.end - field.start) % 4:
                    raise Malformed("a list of numbers ends early")
                yield from (value for (value,) in struct.iter_unpack("<f", source.read(field.start, field.end)))


def packed(data: bytes) -> Iterator[int]:
    """The varints in a packed list."""
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _fields(source: Source, at: int, stop: int, four_bytes: bool = False) -> Iterator[Field]:
    """As fields(), for one span. With four_bytes, 4-byte values are included, with their span."""
    open_groups: list[int] = []
    block, base, ready = b"", 0, -1  # the block contains every header that starts before `ready`
    while at < stop:
        if at >= ready:
            block, base = source.block(at)
            ready = base + len(block) - _HEADER
        key, next_ = _varint(block, at - base)
        number, wire = (key >> 3) & 0x1FFFFFFF, key & 7
        if wire == LENGTH:
            size, next_ = _varint(block, next_)
            at = base + next_ + size
            if at > stop:
                raise Malformed("a field ends outside its message")
            if not open_groups:
                yield Field(number, at - size, at, -1)
            continue
        if wire == VARINT:
            value, next_ = _varint(block, next_)
            at = base + next_
            if not open_groups:
                yield Field(number, at, at, value)
        elif wire in _STEP:
            at = base + next_ + _STEP[wire]
            if four_bytes and wire == FOUR_BYTES and at <= stop and not open_groups:
                yield Field(number, at - 4, at, -1)
        else:
            at = base + next_
            if wire == GROUP:
                open_groups.append(number)
            elif wire != GROUP_END or not open_groups or open_groups.pop() != number:
                raise Malformed(f"unexpected wire type {wire}")
        if at > stop:
            raise Malformed("a field ends outside its message")
    if open_groups:
        raise Malformed("a group does not end")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at a position, and the position after it: seven bits per byte, low bits first."""
    try:
        byte = data[at]
        if byte < 128:
            return byte, at + 1
        value, shift = byte & 127, 7
        while shift < 70:
            at += 1
            byte = data[at]
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (1 << 64) - 1, at + 1
            shift += 7
    except IndexError:
        raise Malformed("a message ends early") from None
    raise Malformed("a varint is longer than ten bytes")

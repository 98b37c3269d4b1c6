"""Models with changed bytes: flipped, truncated, inserted or spliced bytes, and wrong lengths of fields."""

import random
from collections.abc import Callable
from pathlib import Path

from tests.attack import files_models
from tests.attack.files_models import Base
from tests.attack.files_targets import choose
from tests.attack.harness import Case
from tests.attack.outcome import Outcome

COUNT = 2600
prepare = files_models.write_all
Change = Callable[[bytearray, random.Random], str]


def case(rng: random.Random, number: int, folder: Path) -> Case:
    bases = files_models.bases()
    base = bases[number % len(bases)]
    what, target = choose(rng)
    contents = {name: bytearray((folder / name).read_bytes()) for name in base.files}
    said = _changed(contents, base, rng, [folder / other.files[0] for other in bases])

    def act(work: Path) -> int | Outcome | None:
        for name, content in contents.items():
            (work / name).write_bytes(content)
        return target(Path(base.files[0]), base, rng)

    return Case(f"{base.name}: {said}; {what}", act, limit_s=60)


def _changed(contents: dict[str, bytearray], base: Base, rng: random.Random, others: list[Path]) -> str:
    """Change one of the files, in place."""
    name = rng.choices(base.files, [3, 1][: len(base.files)])[0]
    content = contents[name]
    if rng.random() < 0.08:
        return f"{name}: {splice(content, rng, rng.choice(others).read_bytes())}"
    said = [rng.choice(CHANGES)(content, rng) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
    return f"{name}: {', '.join(said)}"


def flip(content: bytearray, rng: random.Random) -> str:
    at = _places(content, rng)
    for place in at:
        content[place] ^= 1 << rng.randrange(8)
    return f"bits of {at} flipped"


def write(content: bytearray, rng: random.Random) -> str:
    at, value = _places(content, rng), rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    for place in at:
        content[place] = value
    return f"{at} = {value}"


def cut(content: bytearray, rng: random.Random) -> str:
    size = rng.choice((rng.randrange(len(content) + 1), max(0, len(content) - rng.randrange(1, 9)), rng.randrange(9)))
    del content[size:]
    return f"cut to {size}"


def remove(content: bytearray, rng: random.Random) -> str:
    start = rng.randrange(len(content) or 1)
    size = rng.choice((1, 2, 8, rng.randrange(1, 200)))
    del content[start : start + size]
    return f"{size} bytes removed at {start}"


def insert(content: bytearray, rng: random.Random) -> str:
    start, size = rng.randrange(len(content) + 1), rng.choice((1, 2, 8, rng.randrange(1, 200)))
    content[start:start] = rng.choice((bytes(size), rng.randbytes(size), b"\xff" * size))
    return f"{size} bytes inserted at {start}"


def repeat(content: bytearray, rng: random.Random) -> str:
    start, size = rng.randrange(len(content) or 1), rng.randrange(1, 2000)
    content[start:start] = content[start : start + size]
    return f"{size} bytes at {start} twice"


def append(content: bytearray, rng: random.Random) -> str:
    more = rng.choice((rng.randbytes(20), b"\x0b", b"\x0c", b"\xff" * 12, bytes(content[:500]), bytes(5000)))
    content += more
    return f"{len(more)} bytes at the end"


def splice(content: bytearray, rng: random.Random, other: bytes) -> str:
    start, size = rng.randrange(len(content) + 1), rng.randrange(1, len(other))
    place = rng.randrange(len(other))
    content[start : start + size] = other[place : place + size]
    return f"{size} bytes of another model at {start}"


def length(content: bytearray, rng: random.Random) -> str:
    """Change the length of a field at any depth, without changing the bytes after it."""
    lengths = list(_lengths(content, 0, len(content)))
    if not lengths:
        return flip(content, rng)
    at, end, value = rng.choice(lengths)
    odd = (0, 1, value + 1, max(0, value - 1), value * 2, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
    changed = rng.choice(odd)
    content[at:end] = _varint(changed) if rng.random() < 0.9 else b"\xff" * 11
    return f"length {value} at {at} = {changed}"


def _places(content: bytearray, rng: random.Random) -> list[int]:
    return [rng.randrange(len(content)) for _ in range(rng.choice((1, 1, 2, 4, 16)))] if content else []


def _lengths(data: bytearray, at: int, stop: int, depth: int = 0) -> list[tuple[int, int, int]]:
    """The start, end and value of the lengths of protobuf fields. Everything that parses as a message counts as one."""
    lengths = []
    while at < stop:
        key, at = _read(data, at, stop)
        if key is None or key >> 3 == 0:
            return []
        if key & 7 == 2:
            size, end = _read(data, at, stop)
            if size is None or end + size > stop:
                return []
            lengths.append((at, end, size))
            if depth < 6:
                lengths += _lengths(data, end, end + size, depth + 1)
            at = end + size
        elif key & 7 == 0:
            value, at = _read(data, at, stop)
            if value is None:
                return []
        elif key & 7 in (1, 5):
            at += 8 if key & 7 == 1 else 4
        else:
            return []
    return lengths if at == stop else []


def _read(data: bytearray, at: int, stop: int) -> tuple[int | None, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= stop:
            return None, at
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    return None, at


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


CHANGES: tuple[Change, ...] = (flip, flip, write, cut, remove, insert, repeat, append, length, length, length)

"""A relay between edgefc and an agent: python relay.py PLAN PROGRAM ARGUMENT... forwards lines and changes one of them.

PLAN is {"line": 3, "how": "json", "seed": 7}. Standard library only.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

_NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 70, 1e308, -1e-300, "", "\x1b[2J\x1b]0;x\x07", "a\nb\r\x9b31m", "x" * 100_000,
    "\u202egnp", [], {}, [[]],
    {"a": {"b": 1}}, "\ud800", 10**400, "../../etc/passwd", "/etc/passwd", [1] * 10_000, "nan", 1 << 62, 5e-324, "\x00",
)  # fmt: skip


def main() -> int:
    plan = json.loads(sys.argv[1])
    rng = random.Random(plan["seed"])
    agent = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    for number, line in enumerate(iter(agent.stdout.readline, b"")):
        if number != plan["line"]:
            _write(line)
        elif plan["how"] in _ENDS:
            return _ENDS[plan["how"]](agent)
        else:
            _write(_CHANGES[plan["how"]](line, rng))
    return agent.wait()


def _write(data: bytes) -> None:
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        os._exit(0)


def _bytes(line: bytes, rng: random.Random) -> bytes:
    data = bytearray(line)
    for _ in range(rng.choice((1, 1, 3, 20))):
        place = rng.randrange(len(data))
        data[place : place + rng.choice((0, 1, 1, 9))] = rng.choice(
            (b"", b"\xff", b"\x00", b"\n", b'"', b"}", b"9" * 30, b"\x1b[2J")
        )
        data += b"\n" * (not data)
    return bytes(data)


def _json(line: bytes, rng: random.Random) -> bytes:
    """Change one value of an answer."""
    try:
        value = json.loads(line)
    except ValueError:
        return line
    places = _places(value)
    path = rng.choice([place for place in places if place[:1] == ("answer",)] or places)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    how = rng.randrange(5)
    if how == 0 and isinstance(holder, dict):
        del holder[path[-1]]
    elif how == 1 and isinstance(holder, dict):
        holder[rng.choice(("more", "\x1b[2J", "id", "error", "beat"))] = rng.choice(_NASTY)
    elif how == 2 and isinstance(holder[path[-1]], (int, float)):
        holder[path[-1]] *= rng.choice((-1, 0, 1e-6, 1e6, 1e30))
    else:
        holder[path[-1]] = rng.choice(_NASTY)
    return json.dumps(value).encode() + b"\n"


def _places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inner for place in ((*above, key), *_places(each, (*above, key)))]


def _kill(agent: "subprocess.Popen[bytes]") -> int:
    agent.kill()
    return agent.wait()


def _shout(agent: "subprocess.Popen[bytes]") -> int:
    os.write(2, b"\x1b[2Jboard on fire\n\x9b31m\xff\xfe" + b"y" * 5000 + b"\n")
    return _kill(agent) and 7


def _stall(agent: "subprocess.Popen[bytes]") -> int:
    time.sleep(45)
    return _kill(agent)


def _close(agent: "subprocess.Popen[bytes]") -> int:
    os.close(1)
    return agent.wait()


_CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes": _bytes,
    "json": _json,
    "lost": lambda line, rng: b"",
    "twice": lambda line, rng: line + line,
    "cut": lambda line, rng: line[: rng.randrange(len(line))] + b"\n",
    "joined": lambda line, rng: line.rstrip(b"\n"),
    "long": lambda line, rng: b"x" * (40 << 20),
    "deep": lambda line, rng: b"[" * 200_000 + b"\n",
    "chatter": lambda line, rng: b"\x1b[2JWelcome!\nLast login: \xff\n" * rng.choice((1, 60)) + line,
    "banner": lambda line, rng: b"Welcome! " + line,
    "endless": lambda line, rng: b'{"beat": 1}\n' * 100_000,
    "garbage": lambda line, rng: rng.randbytes(5000) + b"\n",
}
_ENDS = {"killed": _kill, "shouts": _shout, "stalls": _stall, "closes": _close}

if __name__ == "__main__":
    sys.exit(main())

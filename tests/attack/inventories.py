"""Invalid devices.toml files: the result is the devices, or one sentence."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from tests.attack.commands import Setting, first, forked, judged
from tests.attack.harness import Case
from tests.attack.outcome import Outcome

COUNT = 700
_GOOD = (
    '# The devices of edgefc\n[devices.kitchen]\nprofile = "pi5"\ntransport = "ssh"\naddress = "kitchen"\n\n'
    '[devices.phone]\ntransport = "adb"\naddress = "0123456789"\n\n'
    '[devices.box]\ntransport = "command"\naddress = "docker exec -i box"\n'
)
_VALUES = (
    "1", "-1", "0x10", "1" * 5000, "-" + "9" * 30, "1e400", "nan", "inf", "-inf", "true", "1979-05-27T07:32:00Z",
    "07:32:00", "[]", "[1, [2, [3]]]", "{}", "{a = 1}", '""', "''", '"\\u0000"', '"\\u001b[2J"', '"\\ud800"', '"a b"',
    '"-oProxyCommand=x"', '"a;b"', '"$(id)"', '"../../etc"', '"/srv/../etc"', '"10.0.0.7"', '"::1"',
    '"' + "x" * 100_000 + '"',
    '"""\nmany\nlines\n"""', "[" * 3000, "{a=" * 2000, '"\\x"', '"unended', "1_000", "0b1", "=", "'''", "pi5",
    '"pi5"', '"ssh"',
    '"adb"', '"command"', '"telnet"', '"web"', '"\u202e"', '"\u00e9"', "1979-13-45", "99999-01-01", "+1.0e+99999",
)  # fmt: skip
_KEYS = (
    "devices", "devices.kitchen", "devices.local", "devices.web", 'devices."a b"', 'devices.""', 'devices."\\u001b[2J"',
    "devices.KITCHEN", "devices." + "a" * 41, "devices.-a", "devices.a.b.c", "device", "version", '"devices.kitchen"',
    "devices.kitchen.address", "[devices", "devices.'\u202e'", "a" * 100_000, "devices." + ".".join("a" * 1) * 1,
    "profile",
    ".".join(["devices", *["a"] * 2000]),
)  # fmt: skip
_LINES = (
    ["devices"],
    ["devices", "check", "kitchen"],
    ["devices", "remove", "phone"],
    ["devices", "add", "a", "--ssh", "b"],
)


def case(rng: random.Random, number: int, folder: Path) -> Case:
    how = rng.choice((_value, _value, _key, _bytes, _bytes, _lines, _whole))
    content = how(rng)
    line = _LINES[0] if rng.random() < 0.6 else rng.choice(_LINES)
    return Case(f"{' '.join(line)} with {content[:120]!r}", partial(_act, content, line), limit_s=120)


def _act(content: bytes, line: list[str], work: Path) -> Outcome:
    file = work / "config" / "edgefc" / "devices.toml"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    setting = Setting(cwd=work, env={"XDG_CONFIG_HOME": str(work / "config"), "PATH": "/nonexistent"})
    done = forked(line, setting, work.parent / "said").done()
    return first(lambda: judged(done, {0, 2, 3}), lambda: _kept(file, content, done.code, line))


def _kept(file: Path, content: bytes, code: int | None, line: list[str]) -> Outcome | None:
    """A file that was rejected or only read must be unchanged."""
    if (code == 0 and line[1:2] in (["add"], ["remove"])) or file.read_bytes() == content:
        return None
    return Outcome("torn", "the inventory was changed")


def _value(rng: random.Random) -> bytes:
    lines = _GOOD.split("\n")
    index = rng.choice([index for index, line in enumerate(lines) if "=" in line])
    lines[index] = f"{lines[index].partition('=')[0]}= {rng.choice(_VALUES)}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _key(rng: random.Random) -> bytes:
    added = rng.choice(
        (f"[{rng.choice(_KEYS)}]\n", f"[[{rng.choice(_KEYS)}]]\n", f"{rng.choice(_KEYS)} = {rng.choice(_VALUES)}\n")
    )
    text = rng.choice((added + _GOOD, _GOOD + added, added, _GOOD.replace("[devices.phone]", added.strip())))
    return text.encode("utf-8", "surrogatepass")


def _bytes(rng: random.Random) -> bytes:
    data = bytearray(_GOOD.encode())
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        place = rng.randrange(len(data))
        how = rng.randrange(4)
        if how == 0:
            data[place] = rng.randrange(256)
        elif how == 1:
            del data[place : place + rng.choice((1, 5, 60))]
            data += b" " * (not data)
        elif how == 2:
            data[place:place] = rng.choice(
                (b"\x00", b"\xff\xfe", b"\x1b[2J", b"\r", b"\n", b'"', b"'''", b"\xef\xbb\xbf", b"]", b"#")
            )
        else:
            data[place] ^= 1 << rng.randrange(8)
    return bytes(data)


def _lines(rng: random.Random) -> bytes:
    lines = _GOOD.split("\n") * rng.choice((1, 2))
    rng.shuffle(lines)
    return "\n".join(lines[: rng.randrange(len(lines)) + 1]).encode()


def _whole(rng: random.Random) -> bytes:
    return rng.choice(
        (
            b"", b"\n" * 100_000, b"\xff" * 1000, _GOOD.encode("utf-16"), b"\xef\xbb\xbf" + _GOOD.encode(),
            b"a = 1\n" * 2,
            _GOOD.replace("\n", "\r\n").encode(), _GOOD.replace("\n", "\r").encode(), b"[" * 100_000, b"{}",
            b"a.b = 1\na = 2",
            "".join(f'[devices.d{i}]\ntransport = "ssh"\naddress = "d"\n' for i in range(3000)).encode(),
            b"#" * 1_000_000, b"devices = 3", b"devices = []", b"[[devices]]", b"\x00" * 5000,
            _GOOD.encode()[: rng.randrange(200)],
        )
    )  # fmt: skip

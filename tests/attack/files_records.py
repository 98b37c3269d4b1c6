"""Records, .npz files and inventories with changed bytes and values, for Record.read, --inputs and edgefc devices."""

import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgefc.bench.record import BenchRecord
from edgefc.runtime import Record, Report, profile
from edgefc.runtime.inputs import read_npz
from edgefc.runtime.profiling.table import show
from tests.attack import files_bytes
from tests.attack.harness import Case, command
from tests.attack.outcome import Fault, Outcome
from tests.support import onnx_models

COUNT = 800
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "\x1b[31m", "x" * 100000, "\ud800", [],
    {}, [[]], {"a": 1}, 1.5, "4",
)  # fmt: skip
_INVENTORY = """\
[devices.kitchen]
profile = "pi5"
transport = "ssh"
address = "kitchen"

[devices.phone]
transport = "adb"
address = "0123456789ABCDEF"
"""
_LINES = (
    "x = " + "9" * 5000, "x = 0x" + "f" * 5000, "x = 1e99999", "x = " + "[" * 5000, "x = 9999-99-99", 'x = "\\ud800"',
    "x = nan", "[devices.kitchen]", 'profile = "pi5"', 'profile = "../../etc/passwd"', 'profile = "\\u001b[31m"',
    'address = "-oProxyCommand=touch executed"', 'address = "a;touch executed"', 'address = "root@10.0.0.1"',
    'address = ""', 'address = 7', 'address = "' + "a" * 5000 + '"', 'transport = "telnet"', "transport = []",
    '[devices."\\u001b]0;title\\u0007"]', '[devices.""]', "[devices.local]", "[devices.web]", '["devices"]',
    "devices = 1", "a.b.c.d = 1", "\ufeff", "\x00", "x = '''", "x" * 100000 + " = 1", "[[devices.kitchen]]", "é = 1",
)  # fmt: skip


def prepare(folder: Path) -> None:
    """Write a record of a small model, the model, and its input arrays."""
    model = onnx_models.matmul(folder / "m.onnx")
    record = profile(model, min_time_s=0.001, launches=1, processes=1, memory=False)
    record.write(folder / "record.json")
    Report(schema_version=5, records=(record,), failures=()).write(folder / "report.json")
    np.savez(folder / "x.npz", x=np.ones((2, 8), np.float32))


def case(rng: random.Random, number: int, folder: Path) -> Case:
    return (_json, _json, _npz, _toml)[number % 4](rng, number, folder)


# ---- records


def _json(rng: random.Random, number: int, folder: Path) -> Case:
    name, form = rng.choice((("record.json", Record), ("report.json", Report), ("record.json", BenchRecord)))
    content = bytearray((folder / name).read_bytes())
    if rng.random() < 0.3:
        changes = _bytes(content, rng)
    else:
        record = json.loads(content)
        changes = ", ".join(_value(record, rng) for _ in range(rng.choice((1, 1, 2))))
        content = bytearray(json.dumps(record).encode())

    def act(work: Path) -> Outcome | None:
        Path(name).write_bytes(content)
        read: Any = form.read(name)
        if isinstance(read, Record):
            read.to_json()
            show(read)
        return None

    return Case(f"{form.__name__}.read: {changes}", act)


def _value(record: Any, rng: random.Random) -> str:
    """Change one value, or add or remove one key."""
    place, path = record, []
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(keys)
        path.append(str(key))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.15:
            break
        place = inner
    change = rng.choice(("value", "value", "value", "gone", "more"))
    if change == "value":
        place[key] = rng.choice((*_VALUES, _nested()))
    elif change == "gone":
        del place[key]
    elif isinstance(place, dict):
        place["surplus\x1b[31m"] = 1
    else:
        place.extend(place * 50)
    return f"{'.'.join(path)}: {change} {str(place[key])[:40] if change == 'value' else ''}"


def _nested() -> Any:
    value: Any = 1
    for _ in range(300):
        value = [value]
    return value


def _bytes(content: bytearray, rng: random.Random) -> str:
    special: dict[str, Callable[[], bytes]] = {
        "deep": lambda: b"[" * 1_000_000,
        "empty": lambda: b"",
        "byte order mark": lambda: b"\xef\xbb\xbf" + content,
        "UTF-16": lambda: content.decode().encode("utf-16"),
        "twice": lambda: bytes(content) * 2,
        "many digits": lambda: content.replace(b":1,", b":" + b"1" * 100000 + b","),
    }
    if rng.random() < 0.25:
        name = rng.choice(list(special))
        content[:] = special[name]()
        return name
    return rng.choice(files_bytes.CHANGES[:8])(content, rng)


# ---- .npz


def _npz(rng: random.Random, number: int, folder: Path) -> Case:
    content = bytearray((folder / "x.npz").read_bytes())
    if rng.random() < 0.5:
        changes = _bytes(content, rng) if rng.random() < 0.8 else "twice"
        write: Callable[[Path], None] = lambda path: path.write_bytes(content) and None  # noqa: E731
    else:
        changes, write = rng.choice(list(_ARCHIVES.items()))
    estimated = number % 16 == 2

    def act(work: Path) -> int | Outcome | None:
        write(Path("x.npz"))
        if estimated:
            return command("estimate", folder / "m.onnx", "--device", "pi5", "--inputs", "x.npz")
        for value in read_npz("x.npz").values():
            if not isinstance(value, np.ndarray):
                raise Fault("wrong value", f"read_npz returns a {type(value).__name__}")
        return None

    return Case(f"x.npz: {changes}{'; estimate' * estimated}", act)


def _member(content: bytes, name: str = "x.npy", **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", **options) as archive:
            archive.writestr(name, content)

    return write


def _npy(header: str, data: bytes = bytes(64)) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def _saved(**arrays: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        path.write_bytes(buffer.getvalue())

    return write


def _head(descr: str = "'<f4'", shape: str = "(2, 8)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n"


_ARCHIVES: dict[str, Callable[[Path], None]] = {
    "objects": _saved(x=np.array([{"a": 1}], dtype=object)),
    "huge shape": _member(_npy(_head(shape=f"({2**40}, {2**20})"))),
    "overflowing shape": _member(_npy(_head(shape=f"({2**62}, 8)"))),
    "negative shape": _member(_npy(_head(shape="(-1, 8)"))),
    "odd shape": _member(_npy(_head(shape="('a',)"))),
    "odd type": _member(_npy(_head(descr="'<f3'"))),
    "type of escapes": _member(_npy(_head(descr="'\x1b[31m'"))),
    "objects by hand": _member(_npy(_head(descr="'|O'"))),
    "code in the header": _member(_npy("{'descr': __import__('os').system('touch executed')}\n")),
    "deep header": _member(_npy("(" * 5000 + "\n")),
    "no header": _member(b"\x93NUMPY"),
    "short data": _member(_npy(_head(), b"\0" * 3)),
    "no member": lambda path: zipfile.ZipFile(path, "w").close(),
    "another member": _member(b"text", "readme.txt"),
    "member above": _member(_npy(_head()), "../../x.npy"),
    "member of escapes": _member(_npy(_head()), "\x1b[31mx.npy"),
    "bomb": _member(_npy(_head(shape=f"({2**26}, 8)"), bytes(1 << 28)), compression=zipfile.ZIP_DEFLATED),
    "an .npy": lambda path: path.write_bytes(_npy(_head())) and None,
    "big endian": _saved(x=np.ones((2, 8), ">f4")),
    "texts": _saved(x=np.array([["a"] * 8])),
    "another name": _saved(y=np.ones((2, 8), np.float32)),
    "NaN": _saved(x=np.full((2, 8), np.nan, np.float32)),
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


# ---- inventories


def _toml(rng: random.Random, number: int, folder: Path) -> Case:
    content = bytearray(_INVENTORY.encode())
    if rng.random() < 0.4:
        changes = _bytes(content, rng)
    else:
        lines, line = _INVENTORY.splitlines(), rng.choice(_LINES)
        at = rng.randrange(len(lines) + 1)
        lines[at : at + rng.randrange(2)] = [line]
        changes, content = f"line {at}: {line[:40]!r}", bytearray("\n".join(lines).encode(errors="surrogatepass"))
    action: tuple[object, ...] = rng.choice((
        ("devices",), ("devices", "remove", "kitchen"), ("devices", "add", "desk", "--ssh", "desk"),
        ("devices", "--json", "out.json"),
    ))  # fmt: skip

    def act(work: Path) -> int | Outcome:
        file = work / "edgefc" / "devices.toml"
        file.parent.mkdir()
        file.write_bytes(content)
        os.environ["XDG_CONFIG_HOME"] = str(work)
        code = command(*action)
        if code and file.read_bytes() != content:
            raise Fault("torn", "it was rejected, but the inventory has changed")
        if Path("executed").exists():
            raise Fault("wrong value", "a line of the inventory was executed")
        return code

    return Case(f"devices.toml, {' '.join(map(str, action[:2]))}: {changes}", act)

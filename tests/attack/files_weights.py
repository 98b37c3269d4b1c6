"""Weights files with changed bytes, or tensors of unusual types, shapes and names, for load_model and export --weights.

If a file loads, the model must have the values that safetensors or torch reads from it.
"""

import collections
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from edgefc.export.model.source import load_model
from edgefc.layers.common.checkpoint import holds_weights
from tests.attack import files_bytes
from tests.attack.harness import Case, command
from tests.attack.outcome import Fault, Outcome
from tests.support import cli_models

COUNT = 600
_SOURCE = "tests.support.cli_models:tiny_and_inputs"
_FILES = ("w.safetensors", "w.pt")
State = dict[str, Any]


def prepare(folder: Path) -> None:
    state = _state()
    safetensors.torch.save_file(state, folder / "w.safetensors")
    torch.save(state, folder / "w.pt")


def _state() -> dict[str, Tensor]:
    """The state dict of the model with changed weights, and unchanged seeds and configurations."""
    return {
        name: (value + 0.25 if value.is_floating_point() else value).detach().clone().contiguous()
        for name, value in cli_models.tiny().state_dict().items()
    }


def case(rng: random.Random, number: int, folder: Path) -> Case:
    file = _FILES[number % 2]
    content = bytearray((folder / file).read_bytes())
    write: Callable[[Path], None]
    if number % 3 == 2:
        name, change = rng.choice(list(_STATES.items()))
        what, write = name, lambda path: _save(change(_state(), rng), path)
    elif number % 12 in (0, 1):
        name, make = rng.choice(list(_SPECIAL.items()))
        what, write = name, make
    elif file == "w.safetensors" and number % 4 == 0:
        what, write = _header(content, rng), lambda path: path.write_bytes(content) and None
    else:
        changes = [rng.choice(files_bytes.CHANGES[:8])(content, rng) for _ in range(rng.choice((1, 1, 2)))]
        what, write = ", ".join(changes), lambda path: path.write_bytes(content) and None
    exported = number % 12 == 7

    def act(work: Path) -> int | Outcome | None:
        path = Path(file)
        write(path)
        if exported:
            return command("export", _SOURCE, "--weights", path, "-o", "m.onnx", "--no-verify")
        model, _ = load_model(_SOURCE, path, [])
        _check(model, path)
        return None

    return Case(f"{file}: {what}{'; export' * exported}", act, limit_s=60)


def _check(model: torch.nn.Module, path: Path) -> None:
    read = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    for key in ("state_dict", "model_state_dict", "model"):
        read = read[key] if isinstance(read.get(key), collections.abc.Mapping) else read
    for name, value in model.state_dict().items():
        given = [each for key, each in read.items() if str(key) == name or str(key).endswith(f".{name}")]
        if not given and not holds_weights(name):
            continue  # layers check their own seeds and configurations
        if len(given) != 1 or not torch.equal(given[0].to(value.dtype), value):
            raise Fault("wrong value", f"{name} is {value!r:.150}, but the file has {given!r:.150}")


def _save(state: State, path: Path) -> None:
    """Save with safetensors. Values that are not tensors are saved with torch, under the .safetensors name."""
    if path.suffix == ".safetensors":
        try:
            safetensors.torch.save_file(state, path)
            return
        except Exception:
            pass
    torch.save(state, path)


def _header(content: bytearray, rng: random.Random) -> str:
    """Change the header of a safetensors file."""
    size = struct.unpack("<Q", content[:8])[0]
    if rng.random() < 0.2:
        lie = rng.choice((0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1))
        content[:8] = struct.pack("<Q", lie)
        return f"header of {lie} bytes"
    header = json.loads(content[8 : 8 + size])
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    changes: tuple[Callable[[], Any], ...] = (
        lambda: entry.update(dtype=rng.choice(("F16", "F64", "I64", "BOOL", "BF16", "F8_E4M3", "C64", "X", 7, None))),
        lambda: entry.update(shape=rng.choice(([], [-1], [2**62, 4], [0], [1.5], "x", [entry["shape"]], None))),
        lambda: entry.update(data_offsets=rng.choice(([0, 0], [0, 2**63], [-4, 0], [8, 4], [0], None, [0, 64]))),
        lambda: header.update({rng.choice(("", "x" * 10000, "\x1b[31m", "0.kernel.", "größe")): entry}),
        lambda: header.pop(name),
        lambda: header.update(__metadata__=rng.choice(({"a": 1}, [], None, {"format": "\x1b[2J"}))),
        lambda: header.update({name: rng.choice((None, [], 1, "x"))}),
    )
    rng.choice(changes)()
    changed = json.dumps(header).encode()
    content[8 : 8 + size] = changed
    content[:8] = struct.pack("<Q", len(changed))
    return f"header of {name} changed: {str(header.get(name))[:80]}"


def _with(
    change: Callable[[Tensor, random.Random], Any], *, every: bool = False
) -> Callable[[State, random.Random], State]:
    def changed(state: State, rng: random.Random) -> State:
        names = [name for name, value in state.items() if value.is_floating_point()]
        chosen = names if every else [rng.choice(names)]
        return {name: change(value, rng) if name in chosen else value for name, value in state.items()}

    return changed


def _all(change: Callable[[Tensor, random.Random], Any]) -> Callable[[State, random.Random], State]:
    def changed(state: State, rng: random.Random) -> State:
        name = rng.choice(list(state))
        return {**state, name: change(state[name], rng)}

    return changed


def _renamed(rename: Callable[[str], Any]) -> Callable[[State, random.Random], State]:
    return lambda state, rng: {rename(name): value for name, value in state.items()}


def _poked(value: Tensor, number: float) -> Tensor:
    value.view(-1)[0] = number
    return value


_STATES: dict[str, Callable[[State, random.Random], Any]] = {
    "as it is": lambda state, rng: state,
    "float64": _with(lambda v, _: v.double(), every=True),
    "float16": _with(lambda v, _: v.half()),
    "bfloat16": _with(lambda v, _: v.bfloat16()),
    "float64 beyond float32": _with(lambda v, _: v.double() * 1e300),
    "complex64": _with(lambda v, _: v.to(torch.complex64) + 1j),
    "integers": _with(lambda v, _: v.long()),
    "bools": _with(lambda v, _: v > 0),
    "int8, quantised": _with(lambda v, _: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8)),
    "float8": _with(lambda v, _: v.to(torch.float8_e4m3fn)),
    "sparse": _with(lambda v, _: v.to_sparse()),
    "sparse of a lie": _with(lambda v, _: torch.sparse_coo_tensor([[10**6]], [1.0], (10**7,), check_invariants=False)),
    "meta": _with(lambda v, _: v.to("meta")),
    "nested": _with(lambda v, _: torch.nested.nested_tensor([v.view(-1), v.view(-1)[:1]])),
    "NaN": _with(lambda v, _: _poked(v, float("nan"))),
    "infinity": _with(lambda v, _: _poked(v, float("inf"))),
    "denormal": _with(lambda v, _: _poked(v, 1e-42)),
    "all NaN": _with(lambda v, _: torch.full_like(v, float("nan")), every=True),
    "transposed": _with(lambda v, _: v.T if v.ndim == 2 else v[None]),
    "strided": _with(lambda v, _: torch.stack([v, v], -1)[..., 0]),
    "expanded": _with(lambda v, _: v.view(-1)[:1].expand(2**40)),
    "empty": _with(lambda v, _: v.view(-1)[:0]),
    "one number": _with(lambda v, _: v.view(-1)[0]),
    "a parameter": _with(lambda v, _: torch.nn.Parameter(v)),
    "a number": _all(lambda v, _: 3.5),
    "a text": _all(lambda v, _: "\x1b[31m"),
    "None": _all(lambda v, _: None),
    "a list": _all(lambda v, _: v.tolist()),
    "a dict": _all(lambda v, _: {"a": v}),
    "changed seed or configuration": lambda state, rng: {
        n: v if v.is_floating_point() else v.flip(0) if v.ndim and v.numel() else v + 1 for n, v in state.items()
    },
    "empty seeds": lambda state, rng: {n: v if v.is_floating_point() else v.view(-1)[:0] for n, v in state.items()},
    "float seeds": lambda state, rng: {n: v if v.is_floating_point() else v.float() for n, v in state.items()},
    "one is missing": lambda state, rng: {n: v for i, (n, v) in enumerate(state.items()) if i != 2},
    "one too many": lambda state, rng: {**state, "another.weight": torch.zeros(3)},
    "prefix": _renamed(lambda name: f"module.{name}"),
    "prefix of escapes": _renamed(lambda name: f"\x1b[31m{name}\n"),
    "long prefix": _renamed(lambda name: "x" * 50000 + name),
    "integers as names": _renamed(lambda name: hash(name)),
    "bytes as names": _renamed(lambda name: name.encode()),
    "empty names": lambda state, rng: {"": next(iter(state.values())), **state},
    "surrogates in names": lambda state, rng: {**state, "\udc80": torch.zeros(1)},
    "nested in state_dict": lambda state, rng: {"state_dict": state, "epoch": 3},
    "nested in two": lambda state, rng: {"state_dict": state, "model": state},
    "nested in itself": lambda state, rng: _looped(state),
    "ordered": lambda state, rng: collections.OrderedDict(state),
    "a list of tensors": lambda state, rng: list(state.values()),
    "a tensor": lambda state, rng: torch.zeros(3),
    "a number alone": lambda state, rng: 7,
    "nothing": lambda state, rng: {},
    "a module": lambda state, rng: cli_models.tiny(),
    "a slice of a large storage": _with(lambda v, _: torch.zeros(1 << 20)[: v.numel()].view(v.shape)),
    "shared storage": lambda state, rng: {**state, "0.bias": state["2.bias"], "2.bias": state["2.bias"]},
}  # fmt: skip


def _looped(state: State) -> State:
    looped: State = {**state}
    looped["state_dict"] = looped
    return looped


class _Runs:
    """An object whose code pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def _pickled(path: Path) -> None:
    torch.save({"a": _Runs()}, path)


def _old_format(path: Path) -> None:
    torch.save(_state(), path, _use_new_zipfile_serialization=False)


def _bomb(path: Path) -> None:
    """A zip file that expands to a gigabyte of zeros."""
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data.pkl", "w") as file:
        for _ in range(256):
            file.write(bytes(1 << 20))


_SPECIAL: dict[str, Callable[[Path], None]] = {
    "a pickle that runs code": _pickled,
    "torch's old format": _old_format,
    "a zip bomb": _bomb,
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "64 GB of nothing": lambda path: path.open("wb").truncate(1 << 36) and None,
    "empty": lambda path: path.write_bytes(b"") and None,
    "text": lambda path: path.write_bytes(b"weights\n" * 50) and None,
    "ones": lambda path: path.write_bytes(b"\xff" * 5000) and None,
    "deep JSON": lambda path: path.write_bytes(struct.pack("<Q", 200000) + b"[" * 200000) and None,
}

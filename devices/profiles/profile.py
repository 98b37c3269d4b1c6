"""Profiles: public facts about kinds of devices, each with its source. There is one TOML file per kind in profiles/.

A fact is a table { value, source, note }. source names an entry of the file's [sources], the address of the page that
gives the value. note explains how the value follows from the page if that is not obvious. Facts without a source are
left out. Keys end with the unit.
"""

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgefc.errors import UsageError, first_line, reason_of, shortened

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent

_LARGEST_BYTES = 1 << 20
_KiB, _MiB, _TiB = 1 << 10, 1 << 20, 1 << 40

InstructionSet = Literal[
    "neon", "fp16", "dotprod", "i8mm", "sve", "sme", "avx", "fma", "avx2", "avx512f", "avx512vnni", "avx512bf16"
]
Kind = Literal["host", "board", "phone", "laptop", "browser", "emulated"]
Text = Annotated[str, Field(min_length=1, max_length=200)]
T = TypeVar("T")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Fact(_Part, Generic[T]):
    """A value, and the entry of [sources] that gives it."""

    value: T
    source: Text
    note: Text | None = None


class System(_Part):
    soc: Fact[Text] | None = None
    os: Fact[list[Text]] | None = None
    instruction_sets: Fact[list[InstructionSet]] | None = None


class Cluster(_Part):
    """A group of identical cores. The first cluster of a profile is the fastest one."""

    core: Fact[Text]
    cores: Fact[Annotated[int, Field(ge=1, le=256)]]
    max_clock_hz: Fact[Annotated[int, Field(ge=100_000_000, le=8_000_000_000)]]
    l1d_bytes_per_core: Fact[Annotated[int, Field(ge=4 * _KiB, le=_MiB)]] | None = None
    l2_bytes_per_core: Fact[Annotated[int, Field(ge=32 * _KiB, le=64 * _MiB)]] | None = None
    l2_bytes_shared: Fact[Annotated[int, Field(ge=32 * _KiB, le=64 * _MiB)]] | None = None
    fp32_flop_per_cycle: Fact[Annotated[int, Field(ge=1, le=128)]] | None = None


class Memory(_Part):
    """bytes lists the sizes on sale. copy_bytes_per_s counts each copied byte once, so it is half of the traffic."""

    bytes: Fact[list[Annotated[int, Field(ge=64 * _MiB, le=_TiB)]]]
    type: Fact[Text] | None = None
    bandwidth_bytes_per_s: Fact[Annotated[int, Field(ge=100_000_000, le=2_000_000_000_000)]] | None = None
    copy_bytes_per_s: Fact[Annotated[int, Field(ge=100_000_000, le=500_000_000_000)]] | None = None
    l3_bytes: Fact[Annotated[int, Field(ge=256 * _KiB, le=2048 * _MiB)]] | None = None


class Thermal(_Part):
    throttle_from_celsius: Fact[Annotated[float, Field(ge=30, le=125)]] | None = None
    limit_celsius: Fact[Annotated[float, Field(ge=30, le=125)]] | None = None


class Profile(_Part):
    """One kind of device. `key` is its name in commands, which is the name of the file without .toml."""

    key: Text
    name: Text
    kind: Kind
    sources: dict[str, Annotated[str, Field(pattern=r"^https?://[^\s]+\.[^\s]+$", max_length=500)]]
    system: System = System()
    clusters: list[Cluster] = []
    memory: Memory | None = None
    thermal: Thermal = Thermal()

    @model_validator(mode="after")
    def _sourced(self) -> "Profile":
        """Check that every fact has a source and every source is used."""
        named = {path: fact.source for path, fact in self.facts()}
        for path, source in named.items():
            if source not in self.sources:
                raise ValueError(f"{path} has the source {source!r}, which [sources] does not list")
        if unused := sorted(set(self.sources) - set(named.values())):
            raise ValueError(f"no fact uses the source {unused[0]!r}")
        return self

    def facts(self) -> Iterator[tuple[str, Fact[Any]]]:
        """Every fact with its path: "clusters.0.core"."""
        parts: list[tuple[str, _Part]] = [("system", self.system), ("thermal", self.thermal)]
        parts += [(f"clusters.{index}", cluster) for index, cluster in enumerate(self.clusters)]
        parts += [("memory", self.memory)] if self.memory is not None else []
        for path, part in parts:
            for name in type(part).model_fields:
                fact = getattr(part, name)
                if isinstance(fact, Fact):
                    yield f"{path}.{name}", fact


def names() -> list[str]:
    """The keys of all profiles."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(key: str) -> Profile:
    """Load the profile with a key.

    Raises:
        UsageError: no profile has this key.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", key) or not (FOLDER / f"{key}.toml").is_file():
        raise UsageError(f"no profile {key!r}. Profiles are: {', '.join(names())}.")
    return read(FOLDER / f"{key}.toml")


def read(path: Path) -> Profile:
    """Read a profile from a file.

    Raises:
        UsageError: the file is not TOML, or a key, value or source does not match the classes of this module.
    """
    content = read_toml(path)
    try:
        return Profile.model_validate({**content, "key": path.stem})
    except ValidationError as error:
        raise UsageError(f"cannot use {path}: {first_fault(error)}. Correct that line.") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a small TOML file.

    Raises:
        UsageError: the file cannot be read, exceeds 1 MiB, or is not TOML.
    """
    if path.exists() and not path.is_file():  # opening a pipe would block
        raise UsageError(f"cannot read {path}: it is not a regular file. Check the path.")
    try:
        with open(path, "rb", opener=_nonblocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"cannot read {path}: it is not a regular file. Remove it.")
            content = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason_of(error)}. Check the path.") from None
    if len(content) > _LARGEST_BYTES:
        raise UsageError(f"cannot read {path}: it has more than {_LARGEST_BYTES} bytes. Make it smaller.")
    try:
        return tomllib.loads(content.decode())
    except Exception as error:  # not only TOMLDecodeError: a number of 5,000 digits raises ValueError
        raise UsageError(f"cannot read {path}: it is not valid TOML: {first_line(error)}. Correct it.") from None


def _nonblocking(path: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def first_fault(error: ValidationError) -> str:
    """The location and message of the first validation error."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = shortened(".".join(map(str, first["loc"])), 80)
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message

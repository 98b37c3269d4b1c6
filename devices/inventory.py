"""The user's own devices: $XDG_CONFIG_HOME/edgefc/devices.toml.

    [devices.kitchen]
    profile = "pi5"
    transport = "ssh"
    address = "kitchen"

address is an alias that the user's ssh configuration resolves, a serial that adb lists, a command, such as
"docker exec -i box", that runs a program there, or what the transport of another package takes. User names, host
addresses and keys stay in the ssh configuration; neither they nor anything that a shell would read can be written here.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgefc import folders
from edgefc.devices.profiles import profile as profiles
from edgefc.devices.transports.registry import transports
from edgefc.errors import UsageError, shortened
from edgefc.files import exists, write_text

RESERVED = ("local", "host", "web")  # names that --device knows without an inventory
_NAME = r"[a-z0-9][a-z0-9-]{0,39}"


class Device(BaseModel):
    """One device: the profile of its kind (None: of no known kind), and how it is reached."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    profile: Annotated[str, Field(max_length=64)] | None = None
    transport: Annotated[str, Field(max_length=40)]
    address: Annotated[str, Field(max_length=400)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    devices: dict[str, Device] = {}


def path() -> Path:
    """Where the inventory is, whether or not there is one.

    Raises:
        UsageError: the user has no folder for settings.
    """
    return folders.config() / "devices.toml"


def devices() -> dict[str, Device]:
    """The user's devices by name; none where there is no inventory.

    Raises:
        UsageError: the file cannot be read, or a line of it is not as add() writes it.
    """
    try:
        file = path()
    except UsageError:  # without a folder for settings none was added
        return {}
    if not exists(os.path.realpath(file)):
        return {}
    try:
        found = _File.model_validate(profiles.read_toml(file)).devices
    except ValidationError as error:
        raise UsageError(f"cannot use {file}: {profiles.first_fault(error)}. Correct that line.") from None
    for name, device in found.items():
        try:
            _check(name, device)
        except UsageError as error:
            raise UsageError(f"cannot use {file}: {error}") from None
    return dict(sorted(found.items()))


def device(name: str) -> Device:
    """The device of that name.

    Raises:
        UsageError: no device has that name, or the user has no folder for settings.
    """
    path()
    found = devices()
    if name not in found:
        known = f"Devices are: {shortened(', '.join(found))}" if found else "No devices have been added yet"
        raise UsageError(f"no device {name!r}. {known}; add one with: edgefc devices add NAME --ssh ALIAS.")
    return found[name]


def made(profile: str | None, transport: str, address: str) -> Device:
    """A device of these parts.

    Raises:
        UsageError: one is longer than the inventory keeps.
    """
    try:
        return Device(profile=profile, transport=transport, address=address)
    except ValidationError as error:
        raise UsageError(f"cannot add the device: {profiles.first_fault(error)}. Give a shorter one.") from None


def add(name: str, device: Device) -> None:
    """Write one more device to the inventory.

    Raises:
        UsageError: the name is taken or invalid; the profile is unknown; the address is not an alias, a serial or a
            command; the user has no folder for settings.
    """
    path()
    _check(name, device)
    found = devices()
    if name in found:
        raise UsageError(f"there is a device {name!r} already. Remove it first: edgefc devices remove {name}.")
    _write({**found, name: device})


def remove(name: str) -> None:
    """Take one device out of the inventory.

    Raises:
        UsageError: there is none of that name.
    """
    device(name)
    _write({other: each for other, each in devices().items() if other != name})


def _check(name: str, device: Device) -> None:
    if not re.fullmatch(_NAME, name):
        raise UsageError(
            f"{shortened(name, 80)!r} cannot name a device. Use small letters, digits and hyphens, at most 40."
        )
    if name in RESERVED:
        raise UsageError(f"{name!r} cannot name a device: edgefc calls one of its own so. Choose another name.")
    if device.profile is not None:
        profiles.load(device.profile)
    _check_address(device)


def _check_address(device: Device) -> None:
    known = transports()
    if device.transport not in known:
        raise UsageError(
            f"no transport {shortened(device.transport, 80)!r}. Transports are: {', '.join(known)}; "
            "packages that register others for edgefc.transports must be installed."
        )
    known[device.transport].check_address(device.address)
    if not device.address.isprintable() or {'"', "\\"} & set(device.address):
        raise UsageError(
            f"{shortened(device.address, 80)!r} cannot be written to the inventory. Give an address without quotes, "
            "backslashes and characters that cannot be printed."
        )


def _write(found: Mapping[str, Device]) -> None:
    """Every string was checked to hold nothing that TOML would escape."""
    lines = ["# The devices of edgefc, written by: edgefc devices add"]
    for name, device in sorted(found.items()):
        lines += ["", f"[devices.{name}]"]
        lines += [f'{key} = "{value}"' for key, value in device.model_dump(exclude_none=True).items()]
    try:
        write_text(path(), "\n".join(lines) + "\n")
    except UsageError as error:
        what = str(error).removesuffix("Choose a place that can be written.")
        raise UsageError(f"{what.strip()} Set XDG_CONFIG_HOME to a folder that can be written.") from None

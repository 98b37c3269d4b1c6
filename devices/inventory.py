"""The user's own devices: $XDG_CONFIG_HOME/edgefc/devices.toml.

    [devices.kitchen]
    profile = "pi5"
    transport = "ssh"
    address = "kitchen"

address is an alias of the user's ssh configuration, a serial that adb lists, a command that runs programs on the
device, such as "docker exec -i box", or an address of another package's transport. User names, host addresses and keys
stay in the ssh configuration. This file cannot contain them, or characters that a shell interprets.
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
    """One device: its transport and address, and the profile of its kind (None if the kind is unknown)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    profile: Annotated[str, Field(max_length=64)] | None = None
    transport: Annotated[str, Field(max_length=40)]
    address: Annotated[str, Field(max_length=400)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    devices: dict[str, Device] = {}


def path() -> Path:
    """The path of the inventory. The file need not exist.

    Raises:
        UsageError: the user has no folder for settings.
    """
    return folders.config() / "devices.toml"


def devices() -> dict[str, Device]:
    """The user's devices by name. Empty if the inventory does not exist.

    Raises:
        UsageError: the file cannot be read, or has a line that add() would not write.
    """
    try:
        file = path()
    except UsageError:  # no folder for settings, so no device was added
        return {}
    if not exists(os.path.realpath(file)):
        return {}
    try:
        by_name = _File.model_validate(profiles.read_toml(file)).devices
    except ValidationError as error:
        raise UsageError(f"cannot use {file}: {profiles.first_fault(error)}. Correct that line.") from None
    for name, device in by_name.items():
        try:
            _check(name, device)
        except UsageError as error:
            raise UsageError(f"cannot use {file}: {error}") from None
    return dict(sorted(by_name.items()))


def device(name: str) -> Device:
    """The device with a name.

    Raises:
        UsageError: no device has this name, its transport is not installed, or the user has no folder for settings.
    """
    by_name = _with(name)
    _check_transport(by_name[name])
    return by_name[name]


def _with(name: str) -> dict[str, Device]:
    """The inventory, which has this name."""
    path()
    by_name = devices()
    if name not in by_name:
        known = f"Devices are: {shortened(', '.join(by_name))}" if by_name else "No devices have been added yet"
        raise UsageError(f"no device {name!r}. {known}; add one with: edgefc devices add NAME --ssh ALIAS.")
    return by_name


def made(profile: str | None, transport: str, address: str) -> Device:
    """A device of these parts.

    Raises:
        UsageError: a value is longer than the inventory allows.
    """
    try:
        return Device(profile=profile, transport=transport, address=address)
    except ValidationError as error:
        raise UsageError(f"cannot add the device: {profiles.first_fault(error)}. Give a shorter value.") from None


def add(name: str, device: Device) -> None:
    """Add a device to the inventory.

    Raises:
        UsageError: the name is taken or invalid; the profile is unknown; the address is not an alias, a serial or a
            command; the user has no folder for settings.
    """
    path()
    _check_transport(device)
    _check(name, device)
    by_name = devices()
    if name in by_name:
        raise UsageError(f"the device {name!r} already exists. Remove it first: edgefc devices remove {name}.")
    _write({**by_name, name: device})


def remove(name: str) -> None:
    """Remove a device from the inventory.

    Raises:
        UsageError: no device has this name.
    """
    _write({other: each for other, each in _with(name).items() if other != name})


def _check(name: str, device: Device) -> None:
    if not re.fullmatch(_NAME, name):
        raise UsageError(
            f"{shortened(name, 80)!r} is not a valid device name. Use lowercase letters, digits and hyphens, at most "
            "40 characters."
        )
    if name in RESERVED:
        raise UsageError(f"{name!r} is a reserved device name. Choose another name.")
    if device.profile is not None:
        profiles.load(device.profile)
    _check_address(device)


def _check_transport(device: Device) -> None:
    known = transports()
    if device.transport not in known:
        raise UsageError(
            f"no transport {shortened(device.transport, 80)!r}. Transports are: {', '.join(known)}; "
            "packages that register others for edgefc.transports must be installed."
        )


def _check_address(device: Device) -> None:
    """An address of a transport whose package is not installed is checked when the device is used."""
    known = transports()
    if device.transport in known:
        known[device.transport].check_address(device.address)
    if not device.address.isprintable() or {'"', "\\"} & set(device.address):
        raise UsageError(
            f"{shortened(device.address, 80)!r} cannot be written to the inventory. Give an address without quotes, "
            "backslashes and characters that cannot be printed."
        )


def _write(by_name: Mapping[str, Device]) -> None:
    """Writes the file. The strings were checked and need no escaping in TOML."""
    lines = ["# The devices of edgefc, written by: edgefc devices add"]
    for name, device in sorted(by_name.items()):
        lines += ["", f"[devices.{name}]"]
        lines += [f'{key} = "{value}"' for key, value in device.model_dump(exclude_none=True).items()]
    try:
        write_text(path(), "\n".join(lines) + "\n")
    except UsageError as error:
        failure = str(error).removesuffix("Choose a path that can be written.")
        raise UsageError(f"{failure.strip()} Set XDG_CONFIG_HOME to a folder that can be written.") from None

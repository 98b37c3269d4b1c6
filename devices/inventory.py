"""The user's own devices: $XDG_CONFIG_HOME/edgefc/devices.toml.

    [devices.kitchen]
    profile = "pi5"
    transport = "ssh"
    address = "kitchen"

address is an alias of the user's ssh configuration, a serial that adb lists, or the path of an arm64 folder. User
names, host addresses and keys stay in the ssh configuration. The inventory accepts neither them nor any character that
a shell would interpret.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgefc import folders
from edgefc.devices.profiles import profile as profiles
from edgefc.errors import UsageError, shortened
from edgefc.files import exists, write_text

Transport = Literal["ssh", "adb", "emulated"]

RESERVED = ("local", "host", "web")  # names that --device accepts without an inventory
_NAME = r"[a-z0-9][a-z0-9-]{0,39}"
_ALIAS = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}"
_SERIAL = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}"
_FOLDER = r"/[A-Za-z0-9_./-]{1,399}"
_ADDRESSES = {"ssh": _ALIAS, "adb": _SERIAL, "emulated": _FOLDER}


class Device(BaseModel):
    """One device: its transport and address, and the profile of its kind (None if the kind is unknown)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    profile: Annotated[str, Field(max_length=64)] | None = None
    transport: Transport
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
        UsageError: no device has this name, or the user has no folder for settings.
    """
    path()
    by_name = devices()
    if name not in by_name:
        known = f"Devices are: {shortened(', '.join(by_name))}" if by_name else "No devices have been added yet"
        raise UsageError(f"no device {name!r}. {known}; add one with: edgefc devices add NAME --ssh ALIAS.")
    return by_name[name]


def made(profile: str | None, transport: Transport, address: str) -> Device:
    """Make a device.

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
        UsageError: the name exists already or is invalid; the profile is unknown; the address is not valid for the
            transport; the user has no folder for settings.
    """
    path()
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
    device(name)
    _write({other: each for other, each in devices().items() if other != name})


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


def _check_address(device: Device) -> None:
    address = device.address
    if device.transport == "ssh" and _is_ip(address):
        raise UsageError(
            f"{address!r} is an address, and addresses stay in the ssh configuration. "
            f"Write Host ALIAS and HostName {address} to it, and give ALIAS here."
        )
    if not re.fullmatch(_ADDRESSES[device.transport], address) or ".." in address.split("/"):
        what = {"ssh": "an alias of the ssh configuration", "adb": "a serial of adb devices",
                "emulated": "the path of a folder"}[device.transport]  # fmt: skip
        raise UsageError(
            f"{shortened(address, 80)!r} is not {what}. Use letters, digits and -._, and do not start with a hyphen."
        )


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _write(by_name: Mapping[str, Device]) -> None:
    """Write the inventory. No string needs TOML escapes, because _check() has accepted all of them."""
    lines = ["# The devices of edgefc, written by: edgefc devices add"]
    for name, device in sorted(by_name.items()):
        lines += ["", f"[devices.{name}]"]
        lines += [f'{key} = "{value}"' for key, value in device.model_dump(exclude_none=True).items()]
    try:
        write_text(path(), "\n".join(lines) + "\n")
    except UsageError as error:
        failure = str(error).removesuffix("Choose a path that can be written.")
        raise UsageError(f"{failure.strip()} Set XDG_CONFIG_HOME to a folder that can be written.") from None

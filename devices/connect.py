"""From a device's name to what reaches it and what measures there."""

from edgefc.devices import inventory
from edgefc.devices.board.remote import Remote
from edgefc.devices.browser.runner import headless
from edgefc.devices.transports.adb import AdbTransport
from edgefc.devices.transports.base import Transport
from edgefc.devices.transports.command import CommandTransport
from edgefc.devices.transports.ssh import SshTransport
from edgefc.runtime.profiling.runner import Local, Runner

HERE = ("local", "host")  # this machine, without an agent
WEB = "web"  # a headless browser of this machine


def transport(name: str) -> Transport:
    """How the user's device of that name is reached.

    Raises:
        UsageError: the inventory has none.
    """
    device = inventory.device(name)
    if device.transport == "ssh":
        return SshTransport(name, device.address)
    if device.transport == "adb":
        return AdbTransport(name, device.address)
    return CommandTransport(name, device.address.split())


def connect(name: str) -> Runner:
    """The device of that name, reached and claimed: nobody else measures there until close().

    Raises:
        UsageError: no device has that name.
        DeviceError: it cannot be reached, is busy, or lacks Python.
    """
    if name in HERE:
        return Local()
    if name == WEB:
        return headless(name)
    return Remote(transport(name), profile=inventory.device(name).profile)

"""Find the transport and the runner of a device by its name."""

from edgefc.devices import inventory
from edgefc.devices.board.remote import Remote
from edgefc.devices.browser.runner import headless
from edgefc.devices.transports.base import Transport
from edgefc.devices.transports.registry import transports
from edgefc.runtime.profiling.runner import Local, Runner

HERE = ("local", "host")  # this machine, without an agent
WEB = "web"  # a headless browser of this machine


def transport(name: str) -> Transport:
    """The transport of a device in the inventory.

    Raises:
        UsageError: the inventory has no device of this name.
    """
    device = inventory.device(name)
    return transports()[device.transport].to(name, device.address)


def connect(name: str) -> Runner:
    """Connect to a device and lock it: no other process can measure on it until close().

    Raises:
        UsageError: no device has this name.
        DeviceError: the device cannot be reached, is busy, or has no Python.
    """
    if name in HERE:
        return Local()
    if name == WEB:
        return headless(name)
    return Remote(transport(name), profile=inventory.device(name).profile)

"""From a device's name to a Runner that measures there."""

from edgefc.devices.remote import Remote
from edgefc.devices.transports.local import LocalTransport
from edgefc.errors import UsageError
from edgefc.runtime.runner import Local, Runner


def connect(name: str) -> Runner:
    """The device of that name, reached and ready.

    Raises:
        UsageError: no device has that name.
        DeviceError: it cannot be reached, or lacks what measuring needs.
    """
    if name == "local":
        return Local()
    if name == "agent":
        return Remote(LocalTransport())
    raise UsageError(f"there is no device {name!r}. `edgefc devices` lists those that there are.")

"""Devices other than this machine, and the connections to them. edgefc.runtime measures this machine directly.

    by_name.py     estimate(), check() and provision() of a device by its name
    answers.py     checks what devices answer
    connect.py     from a name to a runner; many.py: several at once; inventory.py: the user's own devices
    profiles/      facts about kinds of devices, one TOML file each
    board/         this side of a connection to a board, devices check and devices provision
    agent/         what runs on a board
    transports/    ways to a board: ssh, adb, a command such as docker exec, this machine
    browser/       the runner of a browser
    estimating/    estimate(): predictions for a device that is not available

The names below are imported on first use. Their packages are in the extra [measure].
Imports runtime/, never torch, layers/ or export/.
"""

from typing import TYPE_CHECKING

from edgefc.lazy import lazy

if TYPE_CHECKING:
    from edgefc.devices.by_name import check as check
    from edgefc.devices.by_name import estimate as estimate
    from edgefc.devices.by_name import provision as provision
    from edgefc.devices.estimating.estimate import Estimate as Estimate
    from edgefc.devices.inventory import Device as Device
    from edgefc.devices.inventory import devices as devices
    from edgefc.devices.many import profile_many as profile_many

_NAMES = {
    "Device": "edgefc.devices.inventory",
    "Estimate": "edgefc.devices.estimating.estimate",
    "check": "edgefc.devices.by_name",
    "devices": "edgefc.devices.inventory",
    "estimate": "edgefc.devices.by_name",
    "profile_many": "edgefc.devices.many",
    "provision": "edgefc.devices.by_name",
}

__all__ = [
    "Device",
    "Estimate",
    "check",
    "devices",
    "estimate",
    "profile_many",
    "provision",
]

if not TYPE_CHECKING:  # type checkers know the names above only
    __getattr__, __dir__ = lazy(__name__, _NAMES, "measure")

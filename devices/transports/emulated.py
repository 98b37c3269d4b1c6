"""Run programs of an arm64 Debian folder with qemu on this machine. userland.py makes such a folder.

Outputs and memory are those of the real instruction set, but timings are not those of a real processor. Records and
tables mark them as emulated.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgefc.devices import userland
from edgefc.devices.transports.base import Transport
from edgefc.errors import DeviceError


class EmulatedTransport(Transport):
    """An emulated device. `folder` is the arm64 folder, `home` the user's home in it, where the agent stores files."""

    kind = "emulated"
    emulated = True

    def __init__(self, name: str, folder: Path, *, home: str = "/root") -> None:
        super().__init__(name)
        self.folder, self.home = folder, home

    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        if missing := userland.missing(self.folder):
            raise DeviceError(f"cannot reach {self.name}: {missing}")
        return subprocess.Popen(  # noqa: S603  a list, no shell
            userland.command(self.folder, argv, {"HOME": self.home}),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def explain(self, code: int, stderr: str) -> str | None:
        if "Exec format error" in stderr:
            return "this machine cannot run arm64 programs. Set up qemu: python -m edgefc.devices.userland"
        return None

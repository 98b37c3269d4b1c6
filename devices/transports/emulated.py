"""An arm64 Debian folder run by qemu on this machine (userland.py makes one): answers and memory of the real
instruction set, times of none. Records say so, and tables too.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgefc.devices import userland
from edgefc.devices.transports.base import LETTERS, Transport
from edgefc.errors import DeviceError


class EmulatedTransport(Transport):
    """`folder` is the arm64 folder; `home` the home of its user there, where the agent keeps what it is sent."""

    kind = "emulated"
    address = r"/(?!(.*/)?\.\.(/|$))[A-Za-z0-9_./-]{1,399}"
    address_is = f"the path of a folder. {LETTERS}"
    emulated = True

    def __init__(self, name: str, folder: Path, *, home: str = "/root") -> None:
        super().__init__(name)
        self.folder, self.home = folder, home

    @classmethod
    def to(cls, name: str, address: str) -> "EmulatedTransport":
        return cls(name, Path(address))

    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        if missing := userland.missing(self.folder):
            raise DeviceError(f"cannot reach {self.name}: {missing}")
        return subprocess.Popen(  # noqa: S603  a list, no shell
            userland.command(self.folder, argv, {"HOME": self.home}),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def explain(self, code: int, stderr: str) -> str | None:
        if "Exec format error" in stderr:
            return "arm64 programs do not run here. Make that so: python -m edgefc.devices.userland"
        return None

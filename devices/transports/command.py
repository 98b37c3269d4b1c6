"""A system behind a command of this machine, such as `docker exec -i box`, `chroot FOLDER` or `podman exec -i box`.

The program to run there and its arguments are appended to the command, each as one word. It must pass stdin,
stdout and stderr through unchanged, without a terminal, and end when the program ends.
"""

import shutil
import subprocess
from collections.abc import Sequence

from edgefc.devices.transports.base import Transport, ended_here
from edgefc.errors import DeviceError


class CommandTransport(Transport):
    """`command` is the program and its first arguments; `python` the program that runs Python there."""

    kind = "command"
    address = r"[A-Za-z0-9_./][A-Za-z0-9_./:=@,+-]*( [A-Za-z0-9_./:=@,+-]+)*"
    address_is = (
        "a command of plain words, separated by single spaces. "
        "Use letters, digits and -._/:=@,+, and do not start with a hyphen"
    )

    def __init__(self, name: str, command: Sequence[str], *, python: str = "python3") -> None:
        super().__init__(name)
        self.command, self.python = list(command), python

    @classmethod
    def to(cls, name: str, address: str) -> "CommandTransport":
        return cls(name, address.split())

    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        if shutil.which(self.command[0]) is None:
            raise DeviceError(f"cannot reach {self.name}: there is no program {self.command[0]!r} here. Install it.")
        return subprocess.Popen(  # noqa: S603  a list, no shell
            [*self.command, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def explain(self, code: int, stderr: str) -> str | None:
        if code < 0:
            return ended_here(self.command[0], code)
        if "Exec format error" in stderr or "exec format error" in stderr:
            return "this machine cannot run programs of that processor. Install qemu-user-static."
        return None

    def by_hand(self, command: str) -> str:
        return " ".join([*self.command, command])

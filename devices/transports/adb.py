"""Connect to a phone with the `adb` program and Python in Termux. Not tested on a phone: none was available.

`adb shell` joins its arguments with spaces and the phone's shell splits them again, so each argument is quoted. Termux
keeps its programs in a private folder, which on most phones only its own user can access. `run-as` gives access if
Termux is a debuggable build; on a rooted phone, `su` does. Otherwise use ssh: pkg install openssh in Termux.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence

from edgefc.devices.transports.base import LETTERS, Transport, ended_here, quoted
from edgefc.errors import DeviceError

_TERMUX = "/data/data/com.termux/files"
_MEANINGS = (
    (r"no devices/emulators found", "no phone is connected. Enable USB debugging and connect it: adb devices"),
    ("device unauthorized", "the phone has not authorised this machine. Accept the key on its screen: adb devices"),
    ("device offline", "the phone is offline. Unlock it, or connect it again: adb devices"),
    ("more than one device", "several phones are connected. Give the serial of one: adb devices"),
    (r"device '.*' not found", "no phone with this serial is connected. List the connected phones: adb devices"),
    ("package not debuggable", "Termux on the phone does not allow access by adb. Use ssh: pkg install openssh there"),
    ("unknown package", "Termux is not installed on the phone. Install Termux, and in it: pkg install python"),
    ("cannot connect to daemon", "the adb server does not start on this machine. To see why: adb start-server"),
)


class AdbTransport(Transport):
    """A phone. `serial` is listed by `adb devices`."""

    kind = "adb"
    address = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}"
    address_is = f"a serial of adb devices. {LETTERS}"
    notes = ("adb: not tested on a phone",)
    python = f"{_TERMUX}/usr/bin/python3"

    def __init__(self, name: str, serial: str) -> None:
        super().__init__(name)
        if not serial or serial.startswith("-"):
            raise DeviceError(f"{serial!r} is not the serial of a phone. Give one that adb devices lists.")
        self.serial = serial

    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603  a list, no shell here
            self.command(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def command(self, argv: Sequence[str]) -> list[str]:
        """The arguments of the adb call. -T: no terminal, so that bytes pass unchanged."""
        program = shutil.which("adb")
        if program is None:
            raise DeviceError(
                f"cannot reach {self.name}: adb is not installed on this machine. Install it: sudo apt install adb."
            )
        home, usr = f"{_TERMUX}/home", f"{_TERMUX}/usr"
        there = ["run-as", "com.termux", "env", f"HOME={home}", f"TMPDIR={home}", f"PATH={usr}/bin",
                 f"LD_LIBRARY_PATH={usr}/lib", *argv]  # fmt: skip
        return [program, "-s", self.serial, "shell", "-T", quoted(there)]

    def explain(self, code: int, stderr: str) -> str | None:
        if code < 0:
            return ended_here("adb", code)
        for pattern, meaning in _MEANINGS:
            if re.search(pattern, stderr):
                return meaning + "."
        return None

    def by_hand(self, command: str) -> str:
        return f"adb -s {self.serial} shell {command}"

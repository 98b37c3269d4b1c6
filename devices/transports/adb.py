"""A phone by the `adb` program and Python in Termux. Not tried on a phone: none was at hand.

`adb shell` joins its words with blanks and the phone's shell splits them again, so each is quoted. Termux keeps its
programs in a folder of its own, which only its own user may enter on most phones: `run-as` opens it where Termux is a
debuggable build, and a rooted phone opens it with `su`. Where neither works, use ssh: pkg install openssh in Termux.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence

from edgefc.devices.transports.base import LETTERS, Transport, ended_here, quoted
from edgefc.errors import DeviceError

_TERMUX = "/data/data/com.termux/files"
_MEANINGS = (
    (r"no devices/emulators found", "no phone is connected. Switch USB debugging on, plug it in: adb devices"),
    ("device unauthorized", "it does not trust this machine yet. Accept the key on its screen: adb devices"),
    ("device offline", "it is offline. Unlock it, or plug it in again: adb devices"),
    ("more than one device", "there are several phones. Give the serial of one: adb devices"),
    (r"device '.*' not found", "no phone of that serial is connected. See those that are: adb devices"),
    ("package not debuggable", "Termux of this phone does not let adb in. Reach it by ssh: pkg install openssh there"),
    ("unknown package", "there is no Termux on it. Install Termux, and in it: pkg install python"),
    ("cannot connect to daemon", "the adb server does not start here. See why: adb start-server"),
)


class AdbTransport(Transport):
    """`serial` is one that `adb devices` lists."""

    kind = "adb"
    address = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}"
    address_is = f"a serial of adb devices. {LETTERS}"
    notes = ("adb: not tried on a phone",)
    python = f"{_TERMUX}/usr/bin/python3"

    def __init__(self, name: str, serial: str) -> None:
        super().__init__(name)
        if not serial or serial.startswith("-"):
            raise DeviceError(f"{serial!r} is no serial of a phone. Give one that adb devices lists.")
        self.serial = serial

    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603  a list, no shell here
            self.command(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def command(self, argv: Sequence[str]) -> list[str]:
        """The words of the adb call. -T: bytes pass unchanged, no terminal; -x keeps stderr and the exit code apart."""
        program = shutil.which("adb")
        if program is None:
            raise DeviceError(f"cannot reach {self.name}: there is no adb here. Install it: sudo apt install adb.")
        home, usr = f"{_TERMUX}/home", f"{_TERMUX}/usr"
        there = ["run-as", "com.termux", "env", f"HOME={home}", f"TMPDIR={home}", f"PATH={usr}/bin",
                 f"LD_LIBRARY_PATH={usr}/lib", *argv]  # fmt: skip
        return [program, "-s", self.serial, "shell", "-T", quoted(there)]

    def explain(self, code: int, stderr: str) -> str | None:
        if code < 0:
            return ended_here("adb", code)
        for said, meaning in _MEANINGS:
            if re.search(said, stderr):
                return meaning + "."
        return None

    def by_hand(self, command: str) -> str:
        return f"adb -s {self.serial} shell {command}"

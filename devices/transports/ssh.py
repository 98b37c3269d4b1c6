"""Connect to a board with the `ssh` program. The user's ssh configuration gives the address, the user and the key.

ssh joins its arguments with spaces and the board's login shell splits them again, so each argument is quoted
(base.quoted). ssh never prompts: if no key is accepted, or the host key is unknown, it exits with an error.
"""

import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Sequence

from edgefc.devices.transports.base import LETTERS, Transport, ended_here, quoted
from edgefc.errors import DeviceError, UsageError, shortened

_OPTIONS = (
    "BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=15", "ServerAliveInterval=10",
    "ServerAliveCountMax=3", "ControlMaster=no", "ControlPath=none", "ClearAllForwardings=yes", "ForwardAgent=no",
    "PermitLocalCommand=no", "RequestTTY=no", "LogLevel=ERROR",
)  # fmt: skip
_OWN_FAULT = 255  # the exit code of ssh's own errors; other codes are those of the program

# Error lines of ssh and their meaning. The patterns match whole lines of ssh, so that output of the board does not
# match by accident. The first match is used.
_MEANINGS = (
    (r"HOST IDENTIFICATION HAS CHANGED", "its host key has changed. If the system was reinstalled, remove the old key "
     "with ssh-keygen -R and log in once by hand: ssh {alias}"),
    (r"^Host key verification failed", "its host key is unknown. Log in once by hand and compare it: ssh {alias}"),
    (r"^\S+@\S+: Permission denied \(", "it accepts none of your keys. Copy one to it: ssh-copy-id {alias}"),
    (r"^ssh: Could not resolve hostname", "the host name cannot be resolved. Add a HostName to your ssh configuration: "
     "Host {alias}"),
    (r"^ssh: connect to .*: Connection refused", "it refuses ssh connections. Start sshd on it, or correct the port in "
     "your ssh configuration"),
    (r"^(ssh: connect to .*|Connection) timed out", "it does not respond. Check that it is on and in the same "
     "network: ssh {alias}"),
    (r"^ssh: connect to .*: (No route to host|Network is unreachable)", "there is no network route to it. Check that "
     "it is on and in the same network: ssh {alias}"),
    (r"Bad configuration option", "your ssh configuration has an invalid line. Correct it: ssh {alias}"),
)  # fmt: skip


class SshTransport(Transport):
    """A board. `alias` is a host of the ssh configuration, or of the file $EDGEFC_SSH_CONFIG if that is set."""

    kind = "ssh"
    address = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}"
    address_is = f"an alias of the ssh configuration. {LETTERS}"

    def __init__(self, name: str, alias: str, *, python: str = "python3") -> None:
        super().__init__(name)
        if not alias or alias.startswith("-"):
            raise DeviceError(f"{alias!r} is not a host of the ssh configuration. Give an alias from it.")
        self.alias, self.python = alias, python

    @classmethod
    def check_address(cls, address: str) -> None:
        if _is_ip(address):
            raise UsageError(
                f"{address!r} is an address, and addresses stay in the ssh configuration. "
                f"Write Host ALIAS and HostName {address} to it, and give ALIAS here."
            )
        super().check_address(address)

    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603  a list, no shell here
            self.command(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,  # after Ctrl-C the agent ends because its stdin closes, not because ssh is killed
        )  # fmt: skip

    def command(self, argv: Sequence[str]) -> list[str]:
        """The arguments of the ssh call."""
        program = shutil.which("ssh")
        if program is None:
            raise DeviceError(
                f"cannot reach {self.name}: ssh is not installed on this machine. Install it: sudo apt install "
                "openssh-client."
            )
        config = os.environ.get("EDGEFC_SSH_CONFIG")
        options = [word for option in _OPTIONS for word in ("-o", option)]
        return [program, "-T", *(["-F", config] if config else []), *options, "--", self.alias, quoted(argv)]

    def explain(self, code: int, stderr: str) -> str | None:
        if code < 0:
            return ended_here("ssh", code)
        if code != _OWN_FAULT:
            return None
        for pattern, meaning in _MEANINGS:
            if re.search(pattern, stderr, re.MULTILINE):
                return meaning.format(alias=self.alias) + "."
        last = shortened(stderr.strip().rpartition("\n")[2])
        if not last:  # without a line, the program on the board was killed; for a lost connection, ssh prints a line
            return None
        return f"the connection was lost ({last.rstrip('.')}). Check that the board is on, and run the command again."

    def by_hand(self, command: str) -> str:
        return f"ssh {self.alias} {command}"


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

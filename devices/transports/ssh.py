"""A board by the `ssh` program. The user's ssh configuration says where it is, who logs in and with which key.

ssh joins its words with blanks and the board's login shell splits them again, so each is quoted (base.quoted). Nothing
is asked for: without a key that works, or with a host key that is not known, ssh ends and says so.
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
_OWN_FAULT = 255  # ssh's own exit code; any other is the program's

# What ssh says, as whole lines of its own, so that words of the board are not taken for them, and what that means.
# The first that fits counts.
_MEANINGS = (
    (r"HOST IDENTIFICATION HAS CHANGED", "its host key is another than the one that is known. Was it set up anew, then "
     "forget the old key with ssh-keygen -R and log in once by hand: ssh {alias}"),
    (r"^Host key verification failed", "its host key is not known. Log in once by hand and compare it: ssh {alias}"),
    (r"^\S+@\S+: Permission denied \(", "it takes none of your keys. Copy one there: ssh-copy-id {alias}"),
    (r"^ssh: Could not resolve hostname", "no host has that name. Give it a HostName in your ssh configuration: "
     "Host {alias}"),
    (r"^ssh: connect to .*: Connection refused", "nothing listens for ssh there. Switch sshd on, or correct the port "
     "in your configuration"),
    (r"^(ssh: connect to .*|Connection) timed out", "it does not answer. Look whether it is on and in the same "
     "network: ssh {alias}"),
    (r"^ssh: connect to .*: (No route to host|Network is unreachable)", "there is no way to it. Look whether it is on "
     "and in the same network: ssh {alias}"),
    (r"Bad configuration option", "your ssh configuration has a line that ssh does not take. Correct it: ssh {alias}"),
)  # fmt: skip


class SshTransport(Transport):
    """`alias` is a host of the ssh configuration, of the file $EDGEFC_SSH_CONFIG where that is set."""

    kind = "ssh"
    address = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}"
    address_is = f"an alias of the ssh configuration. {LETTERS}"

    def __init__(self, name: str, alias: str, *, python: str = "python3") -> None:
        super().__init__(name)
        if not alias or alias.startswith("-"):
            raise DeviceError(f"{alias!r} is no host of the ssh configuration. Give an alias that it has.")
        self.alias, self.python = alias, python

    @classmethod
    def check_address(cls, address: str) -> None:
        if _is_ip(address):
            raise UsageError(
                f"{address!r} is an address, and addresses stay in the ssh configuration. "
                f"Write there: Host ALIAS, HostName {address}; and give ALIAS here."
            )
        super().check_address(address)

    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603  a list, no shell here
            self.command(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is told to the agent by the end of its stdin, not by a cut link
        )  # fmt: skip

    def command(self, argv: Sequence[str]) -> list[str]:
        """The words of the ssh call."""
        program = shutil.which("ssh")
        if program is None:
            raise DeviceError(
                f"cannot reach {self.name}: there is no ssh here. Install it: sudo apt install openssh-client."
            )
        config = os.environ.get("EDGEFC_SSH_CONFIG")
        options = [word for option in _OPTIONS for word in ("-o", option)]
        return [program, "-T", *(["-F", config] if config else []), *options, "--", self.alias, quoted(argv)]

    def explain(self, code: int, stderr: str) -> str | None:
        if code < 0:
            return ended_here("ssh", code)
        if code != _OWN_FAULT:
            return None
        for said, meaning in _MEANINGS:
            if re.search(said, stderr, re.MULTILINE):
                return meaning.format(alias=self.alias) + "."
        last = shortened(stderr.strip().rpartition("\n")[2])
        if not last:  # ssh ends so when the program there was killed; when a link is lost, it prints a line
            return None
        return f"the connection was lost ({last.rstrip('.')}). Look whether it is on, and run again."

    def by_hand(self, command: str) -> str:
        return f"ssh {self.alias} {command}"


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

"""Transport: start a program on a device and connect to its stdin and stdout. The agent does everything else.

Commands are lists of arguments. If the connection passes them through a shell (ssh, adb), the transport quotes each
argument.
"""

import re
import shlex
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence

from edgefc.errors import DeviceError, UsageError, shortened

LETTERS = "Use letters, digits and -._, and do not start with a hyphen"
"""The end of address_is for transports with such addresses."""

_QUOTED_OTHERWISE = frozenset("'\\!")  # csh and fish treat these differently within single quotes


def quoted(argv: Sequence[str]) -> str:
    """Quote arguments so that every login shell splits the line into them: sh, bash, zsh, csh, tcsh, fish and others.

    Raises:
        DeviceError: an argument has a character that these shells treat differently within single quotes.
    """
    for word in argv:
        if not word.isprintable() or not word.isascii() or _QUOTED_OTHERWISE.intersection(word):
            raise DeviceError(f"{word!r} cannot be quoted for every login shell. Remove quotes, ! and \\.")
    return shlex.join(argv)


def ended_here(program: str, code: int) -> str:
    """A message that a program of this machine, such as ssh, was killed. `code` is the negative signal number."""
    return f"{program} on this machine was killed by {signal_name(-code)}. Run the command again."


def signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


class Transport(ABC):
    """One device.

    Attributes:
        kind       the name in records and in the inventory, such as "local", "ssh", "adb" or "command"; an identifier
        address    a regular expression for valid addresses
        address_is a description of an address for messages, such as "an alias of the ssh configuration"; "" if the
                   transport has no address
        notes      limitations that records of the transport state, such as "not tested on a phone"
        python     the program that runs Python on the device
    """

    kind: str
    address: str = ""
    address_is: str = ""
    notes: tuple[str, ...] = ()
    python: str = "python3"

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def to(cls, name: str, address: str) -> "Transport":
        """Creates the transport for a device of the inventory."""
        return cls(name, address)  # type: ignore[call-arg]  # subclasses with an address have this constructor

    @classmethod
    def check_address(cls, address: str) -> None:
        """Checks an address.

        Raises:
            UsageError: the transport does not accept the address.
        """
        if not re.fullmatch(cls.address, address):
            raise UsageError(f"{shortened(address, 80)!r} is not {cls.address_is}.")

    @abstractmethod
    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start a program on the device, with pipes for stdin, stdout and stderr.

        Returns:
            A local process that ends when the program ends.

        Raises:
            DeviceError: the program that makes the connection (ssh, adb) is not installed on this machine.
        """

    @abstractmethod
    def explain(self, code: int, stderr: str) -> str | None:
        """Explain a failure of the connection: what failed, and what would work. None if the program itself failed.

        Args:
            code: the exit code of the process returned by start(), negative for a signal.
            stderr: the last part of stderr, for example "Host key verification failed."
        """

    def by_hand(self, command: str) -> str:
        """The command line with which the user can run a command on the device, for messages."""
        return command

    def close(self) -> None:  # noqa: B027  most transports hold nothing
        """Release the resources of the transport. The programs that it started have ended by then."""

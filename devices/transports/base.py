"""Transport: start a program on a device and talk to it over its stdin and stdout. All else is the agent's work.

Arguments are lists everywhere: where a medium has a shell in between (ssh, adb), the transport quotes each word for it.
"""

import re
import shlex
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence

from edgefc.errors import DeviceError, UsageError, shortened

LETTERS = "Letters, digits and -._ are taken, the first no hyphen"
"""The end of address_is of transports whose addresses are so."""

_QUOTED_OTHERWISE = frozenset("'\\!")  # within single quotes csh and fish read these in their own way


def quoted(argv: Sequence[str]) -> str:
    """One line that every login shell splits into these words: sh, bash, zsh, csh, tcsh, fish and others.

    Raises:
        DeviceError: a word has a character that these shells read differently within single quotes.
    """
    for word in argv:
        if not word.isprintable() or not word.isascii() or _QUOTED_OTHERWISE.intersection(word):
            raise DeviceError(f"{word!r} cannot be passed through every login shell. Leave out quotes, ! and \\.")
    return shlex.join(argv)


def ended_here(program: str, code: int) -> str:
    """That the medium's own program was killed on this machine; `code` is below 0."""
    return f"{program} was ended on this machine by {signal_name(-code)}. Run again."


def signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


class Transport(ABC):
    """One device.

    Attributes:
        kind       "local", "ssh", "adb" or "command", as records and the inventory have it; an identifier
        address    a regular expression of the addresses that it takes
        address_is what an address is, to end a sentence with: "an alias of the ssh configuration"; empty: it takes none
        notes      what a reader of its records must know, such as "not tried on a phone"
        python     the program that runs Python there
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
        """The transport to the device of that name in the inventory."""
        return cls(name, address)  # type: ignore[call-arg]  # as a transport with an address is made

    @classmethod
    def check_address(cls, address: str) -> None:
        """
        Raises:
            UsageError: not an address that it takes.
        """
        if not re.fullmatch(cls.address, address):
            raise UsageError(f"{shortened(address, 80)!r} is not {cls.address_is}.")

    @abstractmethod
    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        """The program under way there, with pipes for stdin, stdout and stderr. Its end is this process's end.

        Raises:
            DeviceError: the medium's own program (ssh, adb) is not installed here.
        """

    @abstractmethod
    def explain(self, code: int, stderr: str) -> str | None:
        """Why a program ended so, when it is the medium's fault: a sentence and what would work. None: the program's.

        `code` is the exit code of the process that start() gave, below 0 for a signal. `stderr` is the last part of
        what was printed, for example "Host key verification failed."
        """

    def by_hand(self, command: str) -> str:
        """How a person runs that command there, for sentences."""
        return command

    def close(self) -> None:  # noqa: B027  most have nothing
        """Give back what the transport itself holds; programs that it started have ended by then."""

"""Transport: start a program on a device and talk to it over its stdin and stdout. All else is the agent's work.

Arguments are lists everywhere: where a medium has a shell in between (ssh, adb), the transport quotes each word for it.
"""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence


class Transport(ABC):
    """One device.

    Attributes:
        kind       "local", "ssh", "adb" or "emulated", as records have it
        emulated   whether its processor is emulated, so that its times are no board's
        notes      what a reader of its records must know, such as "not tried on a phone"
        python     the program that runs Python there
    """

    kind: str
    emulated: bool = False
    notes: tuple[str, ...] = ()
    python: str = "python3"

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        """The program under way there, with pipes for stdin, stdout and stderr. Its end is this process's end.

        Raises:
            DeviceError: the medium's own program (ssh, adb) is not installed here.
        """

    @abstractmethod
    def explain(self, code: int, stderr: str) -> str | None:
        """Why a program ended so, when it is the medium's fault: a sentence and what would work. None: the program's.

        `stderr` is the last part of what was printed, for example "Host key verification failed."
        """

    def close(self) -> None:  # noqa: B027  most have nothing
        """Give back what the transport itself holds; programs that it started have ended by then."""

"""This machine as a device: the agent runs in a child process."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from edgefc.devices.transports.base import Transport
from edgefc.runtime import native


class LocalTransport(Transport):
    """This machine. `environment` replaces the environment of this process, for example to change HOME."""

    kind = "local"

    def __init__(
        self, name: str = "agent", *, python: str = sys.executable, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(name)
        self.python, self.environment = python, environment

    def start(self, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603  a list, no shell
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=None if self.environment is None else dict(self.environment), start_new_session=True,
        )  # fmt: skip

    def explain(self, code: int, stderr: str) -> str | None:
        return None


def this_machine(name: str) -> LocalTransport:
    """A transport whose agent uses the native kernels of this edgefc, as a profile on this machine does."""
    library = native.library_path()
    return LocalTransport(name, environment={**os.environ, **({"EDGEFC_LIBRARY": library} if library else {})})

"""The file of a record that grows while models are measured."""

import os
from typing import Generic, Protocol, TypeVar

from edgefc.errors import UsageError
from edgefc.progress import note


class Writes(Protocol):
    def write(self, path: str | os.PathLike[str]) -> None: ...


R = TypeVar("R", bound=Writes)


class RecordFile(Generic[R]):
    """Keeps the newest record, in the file at `path` too, where there is one.

    keep() is called with what is finished so far. Where that cannot be written, a line on stderr says so once, and the
    measurement goes on: write() tries again at its end.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = path
        self.newest: R | None = None
        self.kept = False  # whether the newest is in the file
        self._warned = False

    def keep(self, record: R) -> None:
        self.newest, self.kept = record, False
        try:
            self.write(record)
            self.kept = self.path is not None
        except UsageError as error:
            if not self._warned:
                note(f"edgefc: {error} The measurement goes on.")
            self._warned = True

    def write(self, record: R) -> None:
        """
        Raises:
            UsageError: it cannot be written.
        """
        if self.path is not None:
            record.write(self.path)

"""The file of a record, which is written again after each batch size."""

import os
from typing import Generic, Protocol, TypeVar

from edgefc.errors import UsageError
from edgefc.progress import note


class Writes(Protocol):
    def write(self, path: str | os.PathLike[str]) -> None: ...


R = TypeVar("R", bound=Writes)


class RecordFile(Generic[R]):
    """Keeps the newest record, and writes it to `path` if that is not None.

    keep() is called with the cells measured so far. If the file cannot be written, one line on stderr reports it, and
    the measurement continues. write() tries again at its end.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = path
        self.newest: R | None = None
        self.kept = False  # whether the newest record is in the file
        self._warned = False

    def keep(self, record: R) -> None:
        self.newest, self.kept = record, False
        try:
            self.write(record)
            self.kept = self.path is not None
        except UsageError as error:
            if not self._warned:
                note(f"edgefc: {error} The measurement continues.")
            self._warned = True

    def write(self, record: R) -> None:
        """Write a record to the file, if there is one.

        Raises:
            UsageError: the file cannot be written.
        """
        if self.path is not None:
            record.write(self.path)

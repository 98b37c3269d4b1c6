"""Read lines and raw bytes from a file descriptor, with limits of size and time. The host and the agent use it.

Part of the agent: standard library only, Python 3.9.
"""

from __future__ import annotations

import os
import select
import time

LONGEST = 32 << 20  # bytes of one line; the largest are outputs of a model


class Ended(Exception):
    """The connection is over: the other side closed it, sent nothing for too long, or sent a line that is too long."""


class Silent(Ended):
    """The other side sent or accepted nothing for too long."""


class TooLong(Ended):
    """The other side sent a line that is too long."""


class Lines:
    def __init__(self, descriptor: int, longest: int = LONGEST) -> None:
        self._descriptor, self._longest, self._rest = descriptor, longest, bytearray()

    def line(self, limit_s: float) -> bytes:
        """The next line without its newline. Each part of it must arrive within limit_s."""
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched > self._longest:
                raise TooLong(f"a line longer than {self._longest} bytes")
            self._more(limit_s)
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    def raw(self, count: int, limit_s: float) -> bytes:
        """The next `count` bytes. Each part of them must arrive within limit_s."""
        while len(self._rest) < count:
            self._more(limit_s)
        data = bytes(self._rest[:count])
        del self._rest[:count]
        return data

    def _more(self, limit_s: float) -> None:
        if not select.select([self._descriptor], [], [], limit_s)[0]:
            raise Silent(f"nothing received for {limit_s:g} s")
        data = os.read(self._descriptor, 1 << 20)
        if not data:
            raise Ended("the connection was closed")
        self._rest += data


def write(descriptor: int, data: bytes, limit_s: float) -> None:
    """Write all data to a descriptor that does not block.

    Raises:
        Ended: the other side closed the connection, or accepted nothing for limit_s.
    """
    view = memoryview(data)
    while view:
        if not select.select([], [descriptor], [], limit_s)[1]:
            raise Silent(f"no data accepted for {limit_s:g} s")
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            raise Ended("the connection was closed") from None

"""Lines and raw bytes from a file descriptor, bounded in size and in time. Both ends of the protocol read by it.

Part of the agent: standard library only, Python 3.9.
"""

from __future__ import annotations

import os
import select
import time

LONGEST = 32 << 20  # bytes of one line; the largest are outputs of a model


class Ended(Exception):
    """Nothing more comes: the other side closed, was silent for too long, or sends a line without an end."""


class Silent(Ended):
    """The other side sent nothing for too long."""


class TooLong(Ended):
    """The other side sends a line without an end."""


class Lines:
    def __init__(self, descriptor: int, longest: int = LONGEST) -> None:
        self._descriptor, self._longest, self._rest = descriptor, longest, bytearray()

    def line(self, limit_s: float) -> bytes:
        """The next one without its end. Each part of it must come within limit_s."""
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
        while len(self._rest) < count:
            self._more(limit_s)
        data = bytes(self._rest[:count])
        del self._rest[:count]
        return data

    def _more(self, limit_s: float) -> None:
        if not select.select([self._descriptor], [], [], limit_s)[0]:
            raise Silent(f"nothing for {limit_s:g} s")
        data = os.read(self._descriptor, 1 << 20)
        if not data:
            raise Ended("the connection was closed")
        self._rest += data


def write(descriptor: int, data: bytes, limit_s: float) -> None:
    """All of it to a descriptor that does not block.

    Raises:
        Ended: the other side closed, or took nothing for limit_s.
    """
    view = memoryview(data)
    while view:
        if not select.select([], [descriptor], [], limit_s)[1]:
            raise Silent(f"nothing was taken for {limit_s:g} s")
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            raise Ended("the connection was closed") from None

"""Exchange of questions and answers: the host asks one question at a time; a page polls for it and posts the answer.

The host and the page's requests run in different threads. A page identifies itself with a random client name. The first
page that sends hello gets the questions, until it sends bye or sends nothing for `silent_s`.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from edgefc.errors import DeviceError

POLL_S = 20.0  # how long a request for a question waits before it returns without one
_LOOK_S = 0.2


class Refused(Exception):
    """A request of a page that is not the current client, or that comes after the end. The page shows the text."""


class Link:
    """The exchange with one page.

    Args:
        silent_s: how long the page may send nothing before it counts as lost, s.
        gone: returns the reason if no page can connect any more, for example because the browser has ended.
    """

    def __init__(self, silent_s: float, gone: Callable[[], str | None] = lambda: None) -> None:
        self.silent_s, self.gone = silent_s, gone
        self.ended = False
        self._changed = threading.Condition()
        self._client: str | None = None
        self._facts: Any = None
        self._heard = 0.0
        self._question: dict[str, Any] | None = None
        self._taken = False
        self._reply: dict[str, Any] | None = None
        self._count = 0

    # The host's side

    def facts(self, limit_s: float, hint: str) -> Any:
        """Wait for a page and return its facts, unchecked.

        Raises:
            DeviceError: no page connected within `limit_s`. The message ends with `hint`.
        """
        end = time.monotonic() + limit_s
        with self._changed:
            while self._client is None:
                if why := self.gone():
                    raise DeviceError(f"no page connected: {why}. {hint}")
                if time.monotonic() > end:
                    raise DeviceError(f"no page connected within {limit_s:g} s. {hint}")
                self._changed.wait(_LOOK_S)
            return self._facts

    def ask(self, question: dict[str, Any], *, about: str, limit_s: float) -> dict[str, Any]:
        """The page's reply, a JSON object with its fields unchecked.

        Raises:
            DeviceError: the page was closed or crashed, or took longer than `limit_s`.
        """
        end = time.monotonic() + limit_s
        with self._changed:
            self._count += 1
            self._question, self._taken, self._reply = {**question, "id": self._count, "about": about}, False, None
            self._changed.notify_all()
            try:
                return self._awaited(about, end, limit_s)
            finally:
                self._question = None

    def _awaited(self, about: str, end: float, limit_s: float) -> dict[str, Any]:
        while self._reply is None:
            self._check(about, end, limit_s)
            self._changed.wait(_LOOK_S)
        return self._reply

    def _check(self, about: str, end: float, limit_s: float) -> None:
        now = time.monotonic()
        if self.ended:
            raise DeviceError(f"{about} was not finished: it was stopped on this machine. Start it again.")
        if why := self.gone():
            raise DeviceError(f"{about} was not finished: {why}. Run it again.")
        if self._client is None:
            raise DeviceError(f"{about} was not finished: the page was closed or reloaded. Keep it open.")
        if now - self._heard > self.silent_s:
            raise DeviceError(
                f"{about} was not finished: the page sent nothing for {self.silent_s:g} s. "
                "Keep the page open and in front, and its device awake; or give a smaller model."
            )
        if now > end:
            raise DeviceError(f"{about} was still running after {limit_s:g} s. Give a smaller batch or model.")

    def end(self, linger_s: float) -> None:
        """End the exchange and wait up to `linger_s` until the page has received the end. A pending question fails."""
        until = time.monotonic() + linger_s
        with self._changed:
            self.ended = True
            self._changed.notify_all()
            while self._client is not None and self.gone() is None and time.monotonic() < until:
                self._changed.wait(_LOOK_S)

    # The page's side

    def hello(self, client: str, facts: Any) -> None:
        with self._changed:
            other = self._client is not None and self._client != client
            if self.ended or (other and time.monotonic() - self._heard < self.silent_s):
                raise Refused(
                    "the measurement has ended" if self.ended else "another page is being measured; close it first"
                )
            self._client, self._facts = client, facts
            self._hear(client)
            self._changed.notify_all()

    def next(self, client: str, wait_s: float = POLL_S) -> dict[str, Any] | None:
        """The pending question; {"verb": "end"} after the end; None if there is no question within `wait_s`."""
        until = time.monotonic() + wait_s
        with self._changed:
            while True:
                self._hear(client)
                if self.ended:
                    self._client = None
                    self._changed.notify_all()
                    return {"verb": "end"}
                if self._question is not None and self._reply is None:
                    self._taken = True  # if the page polls again, the question was lost in transit, so it is sent again
                    return self._question
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def answer(self, client: str, reply: dict[str, Any]) -> None:
        """Accept a reply. A reply to a question that is no longer pending is ignored."""
        with self._changed:
            self._hear(client)
            if self._question is not None and self._taken and reply.get("id") == self._question["id"]:
                self._reply = reply
                self._changed.notify_all()

    def alive(self, client: str) -> bool:
        """Whether the page should continue."""
        with self._changed:
            self._hear(client)
            return not self.ended

    def bye(self, client: str) -> None:
        with self._changed:
            self._hear(client)
            self._client = None
            self._changed.notify_all()

    def _hear(self, client: str) -> None:
        if client != self._client:
            raise Refused(
                "the measurement has ended"
                if self.ended
                else "another page is being measured, or this page sent nothing for too long"
            )
        self._heard = time.monotonic()

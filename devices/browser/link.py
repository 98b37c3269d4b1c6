"""Where the two sides meet: the host asks one question at a time, a page polls for it and posts the answer.

Both sides call from threads of their own. A page is a client by the name that it drew; the first one that says hello
is the one that is asked, until it says bye or is not heard of for `silent_s`.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from edgefc.errors import DeviceError

POLL_S = 20.0  # how long a page waits for a question before it asks again
_LOOK_S = 0.2


class Refused(Exception):
    """A request that is not this page's to make; its text is shown on the page."""


class Link:
    """`gone()` tells in a few words that no page can be there any more, such as that the browser has ended."""

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
        """What the page said of itself, once there is one."""
        end = time.monotonic() + limit_s
        with self._changed:
            while self._client is None:
                if why := self.gone():
                    raise DeviceError(f"no page asked for questions: {why}. {hint}")
                if time.monotonic() > end:
                    raise DeviceError(f"no page asked for questions within {limit_s:g} s. {hint}")
                self._changed.wait(_LOOK_S)
            return self._facts

    def ask(self, question: dict[str, Any], *, about: str, limit_s: float) -> dict[str, Any]:
        """The page's reply, a JSON object with its fields unchecked.

        Raises:
            DeviceError: the page was closed, crashed, or took longer than `limit_s`.
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
            self._look(about, end, limit_s)
            self._changed.wait(_LOOK_S)
        return self._reply

    def _look(self, about: str, end: float, limit_s: float) -> None:
        now = time.monotonic()
        if self.ended:
            raise DeviceError(f"{about} was not finished: it was stopped here. Start it again.")
        if why := self.gone():
            raise DeviceError(f"{about} was not finished: {why}. Run it again.")
        if self._client is None:
            raise DeviceError(f"{about} was not finished: the page was closed or loaded again. Keep it open.")
        if now - self._heard > self.silent_s:
            raise DeviceError(
                f"{about} was not finished: nothing came from the page for {self.silent_s:g} s. "
                "Keep it open and in front, and its device awake; or give a smaller model."
            )
        if now > end:
            raise DeviceError(f"{about} was still running after {limit_s:g} s. Give a smaller batch or model.")

    def end(self, linger_s: float) -> None:
        """Tell the page that all is done, and wait a moment for it to hear. A question under way is given up."""
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
                raise Refused("all is done" if self.ended else "another page is being measured; close that one first")
            self._client, self._facts = client, facts
            self._hear(client)
            self._changed.notify_all()

    def next(self, client: str, wait_s: float = POLL_S) -> dict[str, Any] | None:
        """The question that waits, {"verb": "end"} when there will be none, or None when there is none yet."""
        until = time.monotonic() + wait_s
        with self._changed:
            while True:
                self._hear(client)
                if self.ended:
                    self._client = None
                    self._changed.notify_all()
                    return {"verb": "end"}
                if self._question is not None and self._reply is None:
                    self._taken = True  # a page that asks again has lost it on the way, and gets it again
                    return self._question
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def answer(self, client: str, reply: dict[str, Any]) -> None:
        """A reply to a question that nobody waits for any more is dropped."""
        with self._changed:
            self._hear(client)
            if self._question is not None and self._taken and reply.get("id") == self._question["id"]:
                self._reply = reply
                self._changed.notify_all()

    def alive(self, client: str) -> bool:
        """Whether the page shall go on."""
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
            raise Refused("all is done" if self.ended else "another page is being measured, or this one was given up")
        self._heard = time.monotonic()

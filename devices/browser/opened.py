"""An open page: a server, and a headless browser or a browser that the user opens."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgefc.devices.browser import onnxruntime_web
from edgefc.devices.browser.answers import Facts, page_answers
from edgefc.devices.browser.chromium import Chromium
from edgefc.devices.browser.link import Link
from edgefc.devices.browser.server import Server
from edgefc.progress import elapsed

_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = ("index.html", "style.css", "page.js", "worker.js", "steady.js", "clock.js", "arrays.js")
_FAREWELL_S = 3.0  # for the user's page to receive the end
_START_S, _SILENT_S = 60.0, 30.0  # for a headless browser
_ARRIVAL_S, _ASLEEP_S = 3600.0, 120.0  # for the user's browser: a phone slows down pages in the background


class Opened:
    """An open page, from construction to close(). `facts` are the facts that the page reports.

    Args:
        by_hand: whether the user opens the page. Otherwise a headless browser is started.
        announce: called with the server before the page connects.

    Raises:
        DeviceError: no browser is installed, it does not start, or no page connects.
    """

    def __init__(
        self, *, by_hand: bool = False, host: str = "127.0.0.1", port: int = 0,
        announce: Callable[[Server], None] = lambda server: None,
    ) -> None:  # fmt: skip
        files = {name: _PAGE / name for name in _PAGE_FILES}
        files |= {f"ort/{name}": path for name, path in onnxruntime_web.files().items()}
        self._chromium: Chromium | None = None
        self._closing, self._closed = threading.Lock(), False
        self.link = Link(_ASLEEP_S if by_hand else _SILENT_S, self._gone)
        self.server = Server(self.link, files, host, port)
        try:
            if not by_hand:
                self._chromium = Chromium(self.server.url())
            announce(self.server)
            hint = "Open the address again." if by_hand else "Try again, or set CHROME to another browser."
            with elapsed("waiting for a page" if by_hand else "starting the browser"):
                self.facts = page_answers("description of itself").read(
                    Facts, self.link.facts(_ARRIVAL_S if by_hand else _START_S, hint)
                )
        except BaseException:
            self.close()
            raise

    def ask(self, question: dict[str, Any], *, about: str, limit_s: float) -> dict[str, Any]:
        return self.link.ask(question, about=about, limit_s=limit_s)

    def close(self) -> None:
        """Close the page. A pending question fails with DeviceError. May be called repeatedly and from any thread."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        try:
            self.link.end(_FAREWELL_S if self._chromium is None else 0.0)
        finally:
            if self._chromium is not None:
                self._chromium.close()
            self.server.close()

    def _gone(self) -> str | None:
        return None if self._chromium is None else self._chromium.gone()

"""Pages for the browser's tests: one that answers as a test wishes, over HTTP; and whether there is a real browser."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from edgefc.devices.browser import chromium, onnxruntime_web
from edgefc.errors import DeviceError

CLIENT = "0123456789abcdef"
FACTS: dict[str, Any] = {
    "user_agent": "Test/1", "brands": ["Not A Brand 9", "Test 1.2"], "platform": "Linux", "platform_version": "",
    "architecture": "x86", "bitness": "64", "model": "", "mobile": False, "cores": 2, "isolated": True,
    "secure": True, "timer_step_ns": 5000,
}  # fmt: skip
INPUTS = {"inputs": [{"name": "x", "type": "float32", "shape": ["batch", 4]}]}
Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


class FakePage(threading.Thread):
    """Says hello with `facts`, then replies to each question as `answer` does; None closes the page."""

    def __init__(self, url: str, answer: Answer, facts: Any = FACTS, client: str = CLIENT) -> None:
        super().__init__(daemon=True)
        self.url, self.answer, self.facts, self.client = url, answer, facts, client
        self.questions: list[dict[str, Any]] = []

    def run(self) -> None:
        with suppress(OSError):  # the server was closed: so is the page
            self.post("hello", self.facts)
            self.asked()

    def asked(self) -> None:
        while True:
            status, body = self.get("next")
            question = json.loads(body) if status == 200 else {"verb": "none"}
            if question["verb"] == "end" or status not in (200, 204):
                return
            if question["verb"] != "none":
                self.questions.append(question)
                reply = self.answer(question)
                if reply is None:
                    self.post("bye", {})
                    return
                self.post("answer", {"id": question["id"], "workers": question.get("threads", 1) - 1, **reply})

    def get(self, name: str) -> tuple[int, bytes]:
        return fetch(f"{self.url}{name}?client={self.client}")

    def post(self, name: str, value: Any) -> tuple[int, bytes]:
        return fetch(f"{self.url}{name}?client={self.client}", json.dumps(value).encode())


def fetch(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and content."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=30) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def needs_browser() -> None:
    """Skip where there is no browser or no way to onnxruntime-web; all else that goes wrong with them is a failure."""
    try:
        chromium.find()
    except DeviceError as error:
        pytest.skip(f"NO BROWSER TESTED: {error}")
    try:
        onnxruntime_web.files()
    except DeviceError as error:
        if "cannot download" not in str(error):
            raise
        pytest.skip(f"NO BROWSER TESTED: {error}")

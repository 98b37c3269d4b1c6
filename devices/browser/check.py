"""check(): whether a headless browser on this machine can measure, for `edgefc devices check web`."""

from collections.abc import Callable

from edgefc.devices.board.check import Line, Report
from edgefc.devices.browser import chromium, onnxruntime_web
from edgefc.devices.browser.answers import Facts
from edgefc.devices.browser.opened import Opened
from edgefc.errors import DeviceError


def check(name: str) -> Report:
    """Find the browser, download onnxruntime-web if it is not in the cache, open the page and read its facts.

    Raises:
        DeviceError: the browser and onnxruntime-web are available, but no page connects.
    """
    lines = [
        _tried("browser", chromium.find, "apt install chromium, or set CHROME to the path of one"),
        _tried("onnxruntime-web", _onnxruntime_web, "connect to the npm registry once"),
    ]
    if all(line.state == "ok" for line in lines):
        opened = Opened()
        opened.close()
        lines += _page(opened.facts)
    return Report(name, tuple(lines), ("this is a browser on this machine. For a phone, use edgefc devices serve",))


def _tried(what: str, find: Callable[[], str], fix: str) -> Line:
    try:
        return Line(what, "ok", find())
    except DeviceError as error:
        return Line(what, "missing", str(error), fix)


def _onnxruntime_web() -> str:
    onnxruntime_web.files()
    return f"{onnxruntime_web.VERSION}, with the pinned sha256"


def _page(facts: Facts) -> list[Line]:
    threads = Line("threads", "ok", f"{facts.cores or 'an unknown number of'} cores, in an isolated page")
    if not facts.isolated:
        threads = Line("threads", "slow", "none: the page is not isolated", "open it from https or localhost")
    clock = Line("clock", "ok", f"steps of {facts.timer_step_ns / 1e3:g} us")
    return [Line("page", "ok", ", ".join(facts.brands) or facts.user_agent), threads, clock]

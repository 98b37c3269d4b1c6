"""Finds Chromium or Chrome and starts it headless, with a profile folder of its own that is removed afterwards."""

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from edgefc.devices.browser import keeper
from edgefc.devices.transports.base import signal_name
from edgefc.errors import DeviceError, shortened

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
)
_FLAGS = (
    "--headless=new", "--no-first-run", "--no-default-browser-check", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
    "--disable-breakpad", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--mute-audio",
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows", "--password-store=basic", "--use-mock-keychain",
    "--enable-blink-features=ForceEagerMeasureMemory",  # memory is told at once, not at the next collection
)  # fmt: skip
_END_S = 10.0


def find() -> str:
    """The program: $CHROME, else the first of the usual names.

    Raises:
        DeviceError: there is none.
    """
    wanted = os.environ.get("CHROME")
    if wanted:
        found = shutil.which(wanted)
        if found is None:
            raise DeviceError(f"CHROME is {wanted!r}, which is no program. Set it to Chromium's or Chrome's path.")
        return found
    for name in (*_NAMES, *_PLACES):
        if found := shutil.which(name):
            return found
    raise DeviceError(
        "there is no Chromium or Chrome on the PATH. Install one (apt install chromium), or set CHROME to its path."
    )


class Chromium:
    """A headless browser at one address, from construction to close(). keeper.py owns its process and its folder.

    Raises:
        DeviceError: there is no browser, or it cannot be started.
    """

    def __init__(self, url: str) -> None:
        self.program = find()
        self._end: str | None = None
        as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        self._keeper = subprocess.Popen(  # noqa: S603  no shell
            [sys.executable, "-I", str(Path(keeper.__file__)), self.program, *_FLAGS, *as_root],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,  # what ends the terminal's programs must not end it first
        )  # fmt: skip
        assert self._keeper.stdin is not None
        with suppress(OSError):  # it ended: so it says nothing
            self._keeper.stdin.write(url + "\n")
            self._keeper.stdin.flush()
        self._folder = self._started()
        self._watch = threading.Thread(target=self._wait, daemon=True)
        self._watch.start()

    def gone(self) -> str | None:
        """Why there is no browser any more, None while there is one."""
        return self._end

    def close(self) -> None:
        """Kill it and remove its folder."""
        self._end_keeper()
        self._watch.join()
        shutil.rmtree(self._folder, ignore_errors=True)  # where the keeper was killed

    def _started(self) -> Path:
        """The folder of the browser, which runs then."""
        assert self._keeper.stdout is not None
        try:
            said = json.loads(self._keeper.stdout.readline())
            return Path(said["folder"])
        except (ValueError, KeyError, OSError) as error:
            self._end_keeper()
            self._keeper.stdout.close()
            why = said["error"] if isinstance(error, KeyError) else "its keeper ended at once"
            raise DeviceError(f"cannot start {self.program}: {why}.") from None
        except BaseException:
            self._end_keeper()
            raise

    def _end_keeper(self) -> None:
        assert self._keeper.stdin is not None
        with suppress(OSError):
            self._keeper.stdin.close()
        try:
            self._keeper.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()

    def _wait(self) -> None:
        assert self._keeper.stdout is not None
        code = self._keeper.stdout.readline().strip()
        program = Path(self.program).name
        if not code:
            self._end = f"{program} was ended with the process that keeps it"
        elif code.startswith("-"):
            self._end = f"{program} was ended by {signal_name(-int(code))}"
        else:
            self._end = f"{program} ended with exit {code}{self._last_words()}"
        self._keeper.stdout.close()

    def _last_words(self) -> str:
        try:
            lines = (self._folder / keeper.LOG).read_text(encoding="utf-8", errors="replace")[-4000:].splitlines()
        except OSError:
            return ""
        said = [line.strip() for line in lines if "ERROR" in line or "FATAL" in line or "cannot" in line.lower()]
        return f"; the last line of its log: {shortened(said[-1])}" if said else ""

"""Finds Chromium or Chrome and starts it headless, with a profile folder of its own that is removed afterwards."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from edgefc.devices.browser import keeper
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
    """A headless browser at one address, from construction to close().

    The address holds the token, so it goes through a file in the private profile folder, not the command line.
    """

    def __init__(self, url: str) -> None:
        self.program = find()
        folder = Path(tempfile.mkdtemp(prefix="edgefc-browser-"))
        start = folder / "start.html"
        start.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={url}">', encoding="utf-8")
        self._log = folder / "stderr.txt"
        self._end: str | None = None
        as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        command = [self.program, *_FLAGS, *as_root, f"--user-data-dir={folder / 'profile'}", start.as_uri()]
        self._keeper = subprocess.Popen(  # noqa: S603  no shell
            [sys.executable, "-I", str(Path(keeper.__file__)), str(folder), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._watch = threading.Thread(target=self._wait, daemon=True)
        self._watch.start()

    def gone(self) -> str | None:
        """Why there is no browser any more, None while there is one."""
        return self._end

    def _wait(self) -> None:
        assert self._keeper.stdout is not None
        code = self._keeper.stdout.readline().strip() or "?"
        self._end = f"{Path(self.program).name} ended with code {code}{self._last_words()}"

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace")[-4000:].splitlines()
        except OSError:
            return ""
        said = [line.strip() for line in lines if "ERROR" in line or "FATAL" in line or "cannot" in line.lower()]
        return f" ({shortened(said[-1])})" if said else ""

    def close(self) -> None:
        """Kill it and remove its folder."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self._watch.join()
        self._keeper.stdout.close()

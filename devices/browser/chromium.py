"""Find Chromium or Chrome and start it headless, with a temporary profile folder."""

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
    "--enable-blink-features=ForceEagerMeasureMemory",  # report memory at once, not at the next garbage collection
)  # fmt: skip
_END_S = 10.0


def find() -> str:
    """The path of the browser: $CHROME, or the first of the usual names.

    Raises:
        DeviceError: there is no such program.
    """
    wanted = os.environ.get("CHROME")
    if wanted:
        program = shutil.which(wanted)
        if program is None:
            raise DeviceError(
                f"CHROME is {wanted!r}, which is not a program. Set it to the path of Chromium or Chrome."
            )
        return program
    for name in (*_NAMES, *_PLACES):
        if program := shutil.which(name):
            return program
    raise DeviceError(
        "Chromium or Chrome is not on the PATH. Install one (apt install chromium), or set CHROME to its path."
    )


class Chromium:
    """A headless browser that shows one address, from construction to close(). keeper.py owns its process and folder.

    Raises:
        DeviceError: no browser is installed, or it cannot be started.
    """

    def __init__(self, url: str) -> None:
        self.program = find()
        self._end: str | None = None
        as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        self._keeper = subprocess.Popen(  # noqa: S603  no shell
            [sys.executable, "-I", str(Path(keeper.__file__)), self.program, *_FLAGS, *as_root],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,  # a signal from the terminal must not end the keeper before this process
        )  # fmt: skip
        assert self._keeper.stdin is not None
        with suppress(OSError):  # the keeper has ended; _started() reports it
            self._keeper.stdin.write(url + "\n")
            self._keeper.stdin.flush()
        self._folder = self._started()
        self._watch = threading.Thread(target=self._wait, daemon=True)
        self._watch.start()

    def gone(self) -> str | None:
        """Why the browser has ended. None while it runs."""
        return self._end

    def close(self) -> None:
        """Kill the browser and remove its folder."""
        self._end_keeper()
        self._watch.join()
        shutil.rmtree(self._folder, ignore_errors=True)  # if the keeper was killed

    def _started(self) -> Path:
        """Wait until the browser has started, and return its folder."""
        assert self._keeper.stdout is not None
        try:
            answer = json.loads(self._keeper.stdout.readline())
            return Path(answer["folder"])
        except (ValueError, KeyError, OSError) as error:
            self._end_keeper()
            self._keeper.stdout.close()
            reason = answer["error"] if isinstance(error, KeyError) else "the process that starts it (keeper.py) ended"
            raise DeviceError(f"cannot start {self.program}: {reason}.") from None
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
            self._end = f"{program} ended because its keeper process ended"
        elif code.startswith("-"):
            self._end = f"{program} was killed by {signal_name(-int(code))}"
        else:
            self._end = f"{program} ended with exit code {code}{self._last_error()}"
        self._keeper.stdout.close()

    def _last_error(self) -> str:
        try:
            lines = (self._folder / keeper.LOG).read_text(encoding="utf-8", errors="replace")[-4000:].splitlines()
        except OSError:
            return ""
        errors = [line.strip() for line in lines if "ERROR" in line or "FATAL" in line or "cannot" in line.lower()]
        return f"; the last error in its log: {shortened(errors[-1])}" if errors else ""

"""Run a browser as long as this program's stdin is open: `python keeper.py PROGRAM ARGUMENT...`.

    stdin     the first line is the address to open; it contains the token, so it must not be on a command line
    stdout    one line of JSON: {"folder": the temporary folder} or {"error": why the browser was not started}; if the
              browser ends by itself, a second line with its exit code

stdin ends when the parent process ends for any reason. Then the process group of the browser is killed and its folder
is removed. If this process is killed, the kernel kills the browser, and the next keeper removes the folder, because its
lock is free. Only the standard library is imported, so that the program starts quickly.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

PREFIX, LOG = "edgefc-browser-", "stderr.txt"
_LOCK = "lock"
_REMOVALS = 20  # attempts, a tenth of a second apart: killed processes may still write for a moment
_UNLOCKED_S = 60.0  # a younger folder without a lock belongs to a keeper that is starting
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def main(command: list[str]) -> int:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the parent handles them and closes stdin
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    url = sys.stdin.readline().strip()
    if not url:
        return 0
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        return _report({"error": f"no temporary folder can be written ({error.strerror}). Set TMPDIR to one that can"})
    try:
        with open(folder / _LOCK, "w") as lock:
            _locked(lock)
            _sweep(folder.parent)
            return _keep(folder, command, url)
    except OSError as error:
        return _report({"error": f"{error.filename}: {error.strerror}"})
    finally:
        _remove(folder)


def _keep(folder: Path, command: list[str], url: str) -> int:
    start = folder / "start.html"
    start.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={url}">', encoding="utf-8")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # this process reaps the browser's helper processes
    with open(folder / LOG, "wb") as log:
        browser = subprocess.Popen(  # noqa: S603  no shell
            [*command, f"--user-data-dir={folder / 'profile'}", start.as_uri()],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=os.name == "posix",
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )  # fmt: skip
    _report({"folder": str(folder)})
    threading.Thread(target=_report_end, args=(browser,), daemon=True).start()
    try:
        while sys.stdin.buffer.read(4096):
            pass
    finally:
        _kill(browser)
    return 0


def _report(line: dict[str, str]) -> int:
    print(json.dumps(line), flush=True)  # noqa: T201  the parent reads it
    return 1


def _report_end(browser: "subprocess.Popen[bytes]") -> None:
    """Print the exit code of the browser for the parent, which then closes stdin."""
    print(browser.wait(), flush=True)  # noqa: T201  the parent reads it


def _end_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _locked(file: IO[str]) -> bool:
    """Try to lock a file; whether that succeeded. The lock is held as long as the file is open."""
    if os.name != "posix":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(temporary: Path) -> None:
    """Remove the folders of keepers that were killed."""
    if os.name != "posix":
        return
    for folder in temporary.glob(PREFIX + "*"):
        with suppress(OSError):
            if folder.stat().st_uid != os.geteuid():
                continue
            lock = folder / _LOCK
            if not lock.exists() and time.time() - folder.stat().st_mtime > _UNLOCKED_S:
                _remove(folder)
                continue
            with open(lock, "r+") as file:
                if _locked(file):
                    _remove(folder)


def _kill(browser: "subprocess.Popen[bytes]") -> None:
    try:
        if os.name == "posix":
            os.killpg(browser.pid, signal.SIGKILL)
        else:
            browser.kill()
    except OSError:
        pass  # it has ended already
    browser.wait()
    _reap()


def _reap() -> None:
    """Reap the helper processes of the browser, which were killed with it."""
    if not hasattr(os, "WNOHANG"):
        return
    for _ in range(_REMOVALS):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.1)


def _remove(folder: Path) -> None:
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

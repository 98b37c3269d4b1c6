"""Keeps a browser for as long as its own stdin is open: `python keeper.py PROGRAM ARGUMENT...`.

    stdin     the address to open, on the first line: not on a command line, since it holds the token
    stdout    one line of JSON: {"folder": the profile's} or {"error": why nothing was started}; and the exit code of
              the browser on a second line, should it end by itself

When stdin ends, which it does however the parent dies, the process group of the browser is killed and its folder is
removed. When this process is killed, the kernel kills the browser, and the next keeper removes the folder, whose lock
is free then. Only the standard library, so that it starts fast.
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
_REMOVALS = 20  # a tenth of a second apart: processes that were killed may write for a moment
_UNLOCKED_S = 60.0  # a folder without a lock is about to get one, unless it is older
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def main(command: list[str]) -> int:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the parent closes stdin when it is told to stop
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    url = sys.stdin.readline().strip()
    if not url:
        return 0
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        return _told({"error": f"no temporary folder can be written ({error.strerror}). Set TMPDIR to one that can"})
    try:
        with open(folder / _LOCK, "w") as lock:
            _locked(lock)
            _sweep(folder.parent)
            return _keep(folder, command, url)
    except OSError as error:
        return _told({"error": f"{error.filename}: {error.strerror}"})
    finally:
        _remove(folder)


def _keep(folder: Path, command: list[str], url: str) -> int:
    start = folder / "start.html"
    start.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={url}">', encoding="utf-8")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # the browser's helpers are reaped here
    with open(folder / LOG, "wb") as log:
        browser = subprocess.Popen(  # noqa: S603  no shell
            [*command, f"--user-data-dir={folder / 'profile'}", start.as_uri()],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=os.name == "posix",
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )  # fmt: skip
    _told({"folder": str(folder)})
    threading.Thread(target=_ended, args=(browser,), daemon=True).start()
    try:
        while sys.stdin.buffer.read(4096):
            pass
    finally:
        _kill(browser)
    return 0


def _told(line: dict[str, str]) -> int:
    print(json.dumps(line), flush=True)  # noqa: T201  the parent reads it
    return 1


def _ended(browser: "subprocess.Popen[bytes]") -> None:
    """Tell the parent, which then closes stdin."""
    print(browser.wait(), flush=True)  # noqa: T201  for the process that started this one


def _end_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _locked(file: IO[str]) -> bool:
    """Whether this process has the lock now; it holds it for as long as the file is open."""
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
        pass  # it ended before
    browser.wait()
    _reap()


def _reap() -> None:
    """Wait for the processes that the browser left, each killed with it."""
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

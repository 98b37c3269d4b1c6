"""Keeps a browser for as long as its own stdin is open: `python keeper.py FOLDER PROGRAM ARGUMENT...`.

When stdin ends, which it does however the parent dies, or when the browser ends by itself, the whole process group of
the browser is killed and FOLDER, its profile, is removed. Only the standard library, so that it starts fast.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

_REMOVALS = 20  # a tenth of a second apart: processes that were killed may write for a moment


_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(folder: str, command: list[str]) -> int:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # the browser's helpers are ours to bury
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # the parent closes stdin when it is told to stop
    with open(os.path.join(folder, "stderr.txt"), "wb") as log:
        browser = subprocess.Popen(  # noqa: S603  no shell
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=os.name == "posix"
        )
    threading.Thread(target=_ended, args=(browser,), daemon=True).start()
    try:
        while sys.stdin.buffer.read(4096):
            pass
    finally:
        _kill(browser)
        _remove(folder)
    return 0


def _ended(browser: "subprocess.Popen[bytes]") -> None:
    """Tell the parent, which then closes stdin."""
    print(browser.wait(), flush=True)  # noqa: T201  for the process that started this one


def _kill(browser: "subprocess.Popen[bytes]") -> None:
    try:
        if os.name == "posix":
            os.killpg(browser.pid, signal.SIGKILL)
        else:
            browser.kill()
    except OSError:
        pass  # it ended before
    browser.wait()
    _bury()


def _bury() -> None:
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


def _remove(folder: str) -> None:
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

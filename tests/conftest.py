"""Each process of the tests keeps to one thread, and takes the signals that commands are ended with.

Tests run in several processes, which would stand in each other's way. Where they are started in the background, a shell
has SIGINT ignored and nohup SIGHUP, and every process that they start would ignore them too.
"""

import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (getattr(signal, "SIGHUP", None), signal.SIG_DFL),
):
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

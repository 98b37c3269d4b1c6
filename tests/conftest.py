"""Tests run in several processes: each keeps to one thread, so that they do not stand in each other's way."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

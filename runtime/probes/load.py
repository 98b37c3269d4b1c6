"""Child: the time of one load and one first run in a fresh process, the file being in the page cache.

Question: model, inputs, shapes, ranges, batch, preset, native, threads. Answer: load_ns, first_ns, used_native.
"""

from __future__ import annotations

import time
from typing import Any

from edgefc.runtime.inputs import Wanted, feeds_for
from edgefc.runtime.session import open_session


def load(question: dict[str, Any]) -> dict[str, int | str | None]:
    start = time.perf_counter_ns()
    session = open_session(question["model"], question)
    loaded = time.perf_counter_ns()
    run = session.bound(feeds_for(session.inputs, Wanted.of(question))[0])
    before = time.perf_counter_ns()
    run()
    first = time.perf_counter_ns() - before
    return {"load_ns": loaded - start, "first_ns": first, "used_native": session.native_variant}


answer = load

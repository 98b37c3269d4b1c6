"""Child: time one load and one first run in a new process. The file is in the page cache."""

from __future__ import annotations

import time

from edgefc.runtime.inputs import feeds_for
from edgefc.runtime.probes.contracts import LoadAnswer, LoadQuestion
from edgefc.runtime.probes.opening import opened


def load(asked: LoadQuestion) -> LoadAnswer:
    start = time.perf_counter_ns()
    session = opened(asked.model)
    loaded = time.perf_counter_ns()
    run = session.bound(feeds_for(session.inputs, asked.wanted)[0])
    before = time.perf_counter_ns()
    run()
    first = time.perf_counter_ns() - before
    return LoadAnswer(load_ns=loaded - start, first_ns=first, start_ns=None, used_native=session.native_variant)


question, answer = LoadQuestion, load

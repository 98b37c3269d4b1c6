"""Child: the time of one load and one first run in a fresh process, the file being in the page cache.

Question: model, inputs, batch, preset, threads. Answer: load_ns, first_ns.
"""

import time
from typing import Any

from edgefc.runtime.child import answer
from edgefc.runtime.inputs import feeds_for
from edgefc.runtime.session import Session


def load(question: dict[str, Any]) -> dict[str, int]:
    start = time.perf_counter_ns()
    session = Session(question["model"], preset=question["preset"], threads=question["threads"])
    loaded = time.perf_counter_ns()
    run = session.bound(feeds_for(session.inputs, question["batch"], question["inputs"])[0])
    before = time.perf_counter_ns()
    run()
    return {"load_ns": loaded - start, "first_ns": time.perf_counter_ns() - before}


if __name__ == "__main__":
    answer(load)

"""Run all cases of a kind, in one process or in several. With N processes, each runs every N-th case."""

import json
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.attack.harness import Kind, Result, adopt
from tests.attack.outcome import Outcome


def run_all(kind: Kind, numbers: range, minutes: float = 600, jobs: int = 1) -> list[Result]:
    """The finished cases in the order of their numbers. Cases that did not start in time are missing.

    Raises:
        RuntimeError: a worker process failed.
    """
    end = time.monotonic() + 60 * minutes
    if jobs == 1:
        return list(_some(kind, numbers, end))
    files = [kind.folder / f"worker-{index}" for index in range(jobs)]
    workers = [os.fork() or _worker(kind, numbers[index::jobs], end, file) for index, file in enumerate(files)]
    ends = [os.waitpid(worker, 0)[1] for worker in workers]
    if any(ends):
        raise RuntimeError("a worker process of the attack failed; see its stderr")
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    results = [Result(**{**line, "outcome": Outcome(**line["outcome"])}) for line in lines]
    return sorted(results, key=lambda each: each.number)


def _some(kind: Kind, numbers: range, end: float) -> Iterator[Result]:
    for number in numbers:
        if time.monotonic() > end:
            return
        yield kind.run(number)


def _worker(kind: Kind, numbers: range, end: float, file: Path) -> int:
    """Never returns."""
    code = 1
    try:
        adopt()
        with file.open("w") as stream:
            for result in _some(kind, numbers, end):
                print(json.dumps(asdict(result)), file=stream, flush=True)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

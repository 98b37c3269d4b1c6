"""All cases of a kind, in one process or in several, each of which has every so many-th."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict

from tests.attack.harness import Kind, Told, adopt
from tests.attack.outcome import Outcome


def run_all(kind: Kind, count: int, minutes: float = 600, jobs: int = 1) -> list[Told]:
    """In order of their numbers; those that the time was too short for are not among them."""
    end = time.monotonic() + 60 * minutes
    if jobs == 1:
        return list(_some(kind, range(count), end))
    workers = [os.fork() or _worker(kind, range(index, count, jobs), end, index) for index in range(jobs)]
    for worker in workers:
        os.waitpid(worker, 0)
    files = [kind.folder / f"worker-{index}" for index in range(jobs)]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    told = [Told(**{**line, "outcome": Outcome(**line["outcome"])}) for line in lines]
    return sorted(told, key=lambda each: each.number)


def _some(kind: Kind, numbers: range, end: float) -> Iterator[Told]:
    for number in numbers:
        if time.monotonic() > end:
            return
        yield kind.run(number)


def _worker(kind: Kind, numbers: range, end: float, index: int) -> int:
    """Never returns."""
    try:
        adopt()
        with (kind.folder / f"worker-{index}").open("w") as file:
            for told in _some(kind, numbers, end):
                print(json.dumps(asdict(told)), file=file, flush=True)
    finally:
        os._exit(0)

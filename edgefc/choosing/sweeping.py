"""Measures all units, in this process or by an executor of concurrent.futures or of an engine for many machines."""

import os
import pickle
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import closing
from itertools import islice

from edgefc.choosing.store import Store
from edgefc.choosing.subject import Subject, Swap, Unit
from edgefc.errors import EdgefcError, UsageError, describe_error
from edgefc.progress import steps

_CHUNK = 4
"""The units of a task, which gets the subject once."""

Swept = dict[str, list[Swap]]
Result = list[tuple[list[Swap], bytes]]


def sweep(subject: Subject, store: Store, executor: Executor | None = None) -> Swept:
    """Returns the swaps of each unit by name. Units that the store has are not measured again.

    Raises:
        EdgefcError: a process of the executor ended.
    """
    found = {unit.name: store.swaps(unit) for unit in subject.units}
    waiting = [unit for unit in subject.units if found[unit.name] is None]
    if executor is None:
        for unit in steps(waiting, "measuring layers"):
            found[unit.name] = swaps = subject.swaps(unit)
            store.keep(unit, swaps, subject.pack)
    elif waiting:
        with closing(_parallel(subject, waiting, executor)) as results:
            for _ in steps(waiting, "measuring layers"):
                unit, (swaps, fits) = next(results)
                found[unit.name] = swaps
                subject.unpack(unit, fits)
                store.keep(unit, swaps, subject.pack)
    return {name: swaps for name, swaps in found.items() if swaps is not None}


def _parallel(
    subject: Subject, units: Sequence[Unit], executor: Executor
) -> Generator[tuple[Unit, tuple[list[Swap], bytes]]]:
    """Yields results as they arrive. Few tasks wait at a time, because each contains the model."""
    chunks = iter([units[at : at + _CHUNK] for at in range(0, len(units), _CHUNK)])
    most = 1 + (getattr(executor, "_max_workers", None) or os.cpu_count() or 1)
    running: dict[Future[Result], Sequence[Unit]] = {}
    try:
        while True:
            for chunk in islice(chunks, most - len(running)):
                running[executor.submit(measure, _pickled(subject.part(chunk)), chunk)] = chunk
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield from zip(running.pop(future), future.result(), strict=True)
    except BrokenExecutor as error:
        raise EdgefcError(
            f"a process of the executor ended: {error}. Give more memory or fewer workers. With a folder, the same "
            "call goes on where it was."
        ) from None
    finally:
        for future in running:
            future.cancel()


def _pickled(subject: Subject) -> bytes:
    try:
        return pickle.dumps(subject)
    except Exception as error:
        raise UsageError(
            f"the model cannot be sent to another process: {describe_error(error)}. Define its classes in a module "
            "that can be imported, or leave executor out."
        ) from None


def measure(pickled: bytes, units: Sequence[Unit]) -> Result:
    """The task of an executor: the swaps and the fits of some units."""
    subject: Subject = pickle.loads(pickled)  # noqa: S301  of the process that submitted it
    return [(subject.swaps(unit), subject.pack(unit)) for unit in units]

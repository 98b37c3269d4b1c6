"""One profile call on several devices at once: one thread and one job at a time for each."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from edgefc.devices.connect import HERE, connect
from edgefc.errors import EdgefcError, UsageError
from edgefc.runtime.profiling.profiler import profile
from edgefc.runtime.profiling.record import Failure, Record, Report
from edgefc.runtime.profiling.request import Paths
from edgefc.runtime.profiling.runner import Runner


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, and what was finished before it."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


def profile_many(
    paths: Paths, devices: Sequence[str], *, open_device: Callable[[str], Runner] = connect, **options: Any
) -> Report:
    """A record of each device that could be measured; of one that was lost, what it had finished.

    Args:
        options: those of edgefc.runtime.profile, the same for all.

    Raises:
        Interrupted: Ctrl-C; its report has what was finished.
        UsageError: no device, one twice, or what is asked for fits no device at all.
    """
    if not devices:
        raise UsageError("there is no device to profile on. Name one that `edgefc devices` lists, or local.")
    if len({HERE[0] if name in HERE else name for name in devices}) < len(devices):
        raise UsageError(f"a device is named twice in {', '.join(devices)}. Name each once.")
    fleet = Fleet(open_device, paths, options)
    with ThreadPoolExecutor(len(devices)) as pool:
        try:
            wait([pool.submit(fleet.measure, name) for name in devices])
        except KeyboardInterrupt:
            fleet.stop()
            pool.shutdown()
            raise Interrupted(fleet.report(devices)) from None
    return fleet.report(devices)


class Fleet:
    """The devices of one call. Ctrl-C is stop(): every runner is closed, which ends what runs there."""

    def __init__(self, open_device: Callable[[str], Runner], paths: Paths, options: dict[str, Any]) -> None:
        self.open_device, self.paths, self.options = open_device, paths, options
        self.kept: dict[str, Record] = {}
        self.errors: dict[str, EdgefcError] = {}
        self._runners: list[Runner] = []
        self._stopped, self._lock = threading.Event(), threading.Lock()

    def measure(self, name: str) -> None:
        try:
            runner = self.open_device(name)
            with self._lock:
                self._runners.append(runner)
            if self._stopped.is_set():
                runner.close()
            self.kept[name] = profile(
                self.paths, device=runner, keep=lambda record: self.kept.update({name: record}), **self.options
            )
        except EdgefcError as error:
            self.errors[name] = error
            if name in self.kept:
                self.kept[name] = self.kept[name].model_copy(update={"unfinished": str(error)})

    def stop(self) -> None:
        self._stopped.set()
        with self._lock:
            for runner in self._runners:
                runner.close()

    def report(self, devices: Sequence[str]) -> Report:
        if (
            not self._stopped.is_set()
            and len(self.errors) == len(devices)
            and all(isinstance(e, UsageError) for e in self.errors.values())
        ):
            raise next(iter(self.errors.values()))
        return Report.from_records(
            *(self.kept[name] for name in devices if name in self.kept),
            failures=[
                Failure(device=name, sentence=_named(name, self.errors[name]))
                for name in devices
                if name in self.errors
            ],
        )


def _named(device: str, error: EdgefcError) -> str:
    """The sentence, with the device's name before it unless it names the device itself."""
    return str(error) if error.device is not None else f"{device}: {error}"

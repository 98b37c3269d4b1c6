"""Run one profile call on several devices in parallel. Each device has one thread and runs one job at a time."""

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
    """Raised after Ctrl-C. `report` has the results that were complete."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


def profile_many(
    paths: Paths, devices: Sequence[str], *, open_device: Callable[[str], Runner] = connect, **options: Any
) -> Report:
    """Profile models on several devices. Returns one record per device that could be measured.

    If a connection is lost, the record of that device has the results that were complete.

    Args:
        options: the options of edgefc.runtime.profile, the same for all devices.

    Raises:
        Interrupted: after Ctrl-C. Its report has the results that were complete.
        UsageError: no device is given, a device is given twice, or every device rejects the request.
    """
    if not devices:
        raise UsageError("no device is given. Give one that `edgefc devices` lists, or local.")
    if len({HERE[0] if name in HERE else name for name in devices}) < len(devices):
        raise UsageError(f"a device is given twice in {', '.join(devices)}. Give each device once.")
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
    """The devices of one call. stop() is called after Ctrl-C: it closes every runner, which ends its jobs."""

    def __init__(self, open_device: Callable[[str], Runner], paths: Paths, options: dict[str, Any]) -> None:
        self.open_device, self.paths, self.options = open_device, paths, options
        self.records: dict[str, Record] = {}
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
            self.records[name] = profile(
                self.paths, device=runner, keep=lambda record: self.records.update({name: record}), **self.options
            )
        except EdgefcError as error:
            self.errors[name] = error
            if name in self.records:
                self.records[name] = self.records[name].model_copy(update={"unfinished": str(error)})

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
            *(self.records[name] for name in devices if name in self.records),
            failures=[
                Failure(device=name, sentence=_named(name, self.errors[name]))
                for name in devices
                if name in self.errors
            ],
        )


def _named(device: str, error: EdgefcError) -> str:
    """The message of the error, which begins with the name of the device unless it already contains it."""
    return str(error) if error.device is not None else f"{device}: {error}"

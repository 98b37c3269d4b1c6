"""`edgefc devices serve`: measure in a browser that the user opens, on this machine or on a phone in its network."""

import socket
from contextlib import suppress
from typing import Any

from edgefc.devices.browser.opened import Opened
from edgefc.devices.browser.runner import Browser, check_threads
from edgefc.devices.browser.server import Server
from edgefc.errors import DeviceError, UsageError
from edgefc.runtime.profiling.profiler import profile
from edgefc.runtime.profiling.record import Record
from edgefc.runtime.profiling.request import Counts, Paths, counts, models_of
from edgefc.runtime.profiling.table import bytes_text, name_of, time_text
from edgefc.screen import err

HOST = "127.0.0.1"
_EVERYWHERE = "0.0.0.0"  # noqa: S104  used only if the user gives it
_ELSEWHERE = "192.0.2.1"  # reserved for documentation (RFC 5737); nothing is sent to it
_COLUMNS = ["model", "batch", "threads", "median", "p90", "load", "first run", "file"]


def serve(paths: Paths, *, host: str = HOST, port: int = 0, threads: Counts = 1, **asked: Any) -> Record:
    """Print an address on stderr, wait until it is opened in a browser, and profile the models there.

    The page shows the results too.

    Args:
        host: the address to listen on. Default: loopback. 0.0.0.0 listens on all networks of this machine.
        port: the port; 0 for any free one.
        asked: the other arguments of profile(), except for the device.

    Raises:
        UsageError: as profile(), or the page cannot use that many threads.
        DeviceError: the server cannot listen on the address, no page connects, or the page is closed before the end.
    """
    models_of(paths)
    several = counts("threads", threads)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 1 << 16:
        raise UsageError(f"port is {port!r}. Give a number from 0 to 65535, or omit it.")
    browser = _ByHand(
        Opened(by_hand=True, host=host, port=port, announce=lambda server: _announce(server, host)), "web"
    )
    try:
        check_threads(max(several), browser.opened.facts)
        record = profile(paths, device=browser, threads=threads, **asked)
        _show(browser, record)
        return record
    finally:
        browser.end()


class _ByHand(Browser):
    """A browser whose page stays open after profile() calls close(), to show the table. end() closes the page."""

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()


def _announce(server: Server, host: str) -> None:
    wide = host not in (HOST, "localhost")
    shown = _address() if host == _EVERYWHERE else host
    where = "on a device in the same network" if wide else "on this machine"
    lines = [f"Open this address in a browser {where}:"]
    lines += [f"    {server.url(shown)}", "Keep the page open and in front until it shows the table."]
    if wide:
        lines += [
            "The connection is not encrypted: on an untrusted network, others can read the address, and with it the",
            "models. Browsers allow threads and a precise clock only for https and localhost, so this page has one",
            "thread and a clock with steps of 100 us or more, and reports only the wasm heap as memory.",
        ]
    if host in (HOST, "localhost", _EVERYWHERE):
        lines += [
            "For threads and a precise clock on a phone, connect it by USB, run",
            f"    adb reverse tcp:{server.port} tcp:{server.port}",
            "and open this address on the phone:",
            f"    {server.url()}",
        ]
    err(*lines)


def _address() -> str:
    """The address of this machine in its network; its host name without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ELSEWHERE, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _show(browser: Browser, record: Record) -> None:
    """Show the table on the page. If the page has been closed, nothing is lost: the record is complete."""
    rows = [
        [
            name_of(record, cell.model), str(cell.batch), str(cell.threads), time_text(cell.steady.median_ns),
            time_text(cell.steady.p90_ns), time_text(cell.load.median_ns), time_text(cell.first.median_ns),
            bytes_text(record.models[cell.model].all_bytes),
        ]
        for cell in record.cells
    ]  # fmt: skip
    warnings = [f"{name_of(record, cell.model)}: {warning}" for cell in record.cells for warning in cell.warnings]
    with suppress(DeviceError):
        browser.show(_COLUMNS, rows, [*record.device.notes, *warnings])

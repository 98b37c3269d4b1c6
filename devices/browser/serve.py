"""`edgefc devices serve`: measure in a browser that a person opens, here or on a phone in the same network."""

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
_EVERYWHERE = "0.0.0.0"  # noqa: S104  bound only when a user names it
_ELSEWHERE = "192.0.2.1"  # of a range kept for documentation (RFC 5737); nothing is sent to it
_COLUMNS = ["model", "batch", "threads", "median", "p90", "load", "first run", "file"]


def serve(paths: Paths, *, host: str = HOST, port: int = 0, threads: Counts = 1, **asked: Any) -> Record:
    """Print an address on stderr, wait for a page there, and profile the models in it; it shows the result too.

    Args:
        host: the address to listen on; beyond this machine only when named, such as 0.0.0.0 for all its networks.
        port: any free one when 0.
        asked: what profile() takes besides the device.

    Raises:
        UsageError: the arguments, as profile() says, or threads that a page cannot have.
        DeviceError: the address cannot be listened on, no page came, or it was closed before the end.
    """
    models_of(paths)
    several = counts("threads", threads)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 1 << 16:
        raise UsageError(f"there is no port {port!r}. Give one up to 65535, or leave it out.")
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
    """The page is still wanted when profile() is done: for the table."""

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()


def _announce(server: Server, host: str) -> None:
    wide = host not in (HOST, "localhost")
    shown = _address() if host == _EVERYWHERE else host
    say = [f"Open this address in a browser, {'of a device in the same network' if wide else 'here'}:"]
    say += [f"    {server.url(shown)}", "Keep the page open and in front until the table is there."]
    if wide:
        say += [
            "The connection is not encrypted: on a network that you do not trust, others can read the address and",
            "with it the models. Browsers give threads and a fine clock only to https and localhost, so this page has",
            "one thread, a clock in steps of 100 us or more, and of memory the wasm heap alone.",
        ]
    if host in (HOST, "localhost", _EVERYWHERE):
        say += [f"A phone on USB has them: adb reverse tcp:{server.port} tcp:{server.port}, then open there:"]
        say += [f"    {server.url()}"]
    err(*say)


def _address() -> str:
    """This machine's address in the network that leads elsewhere; its name where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ELSEWHERE, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _show(browser: Browser, record: Record) -> None:
    """A page that was closed by now is no loss: the record is whole."""
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

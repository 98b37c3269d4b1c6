"""The agent: runs on a board and answers the host over stdin and stdout. Standard library only, Python 3.9.

Packed with the probes into one file (pack.py) and started by boot.py as `python3 SHA256.pyz FOLDER`. Each line of the
protocol is one JSON object.

    host     {"protocol": 1, "id": 7, "do": "ask", ...}      and {"beat": 1} every few seconds
    agent    {"id": 7, "answer": ...}   or   {"id": 7, "error": {"code": "model", "text": "...", "subject": null}}
             {"id": 7, "beat": 1} every BEAT_S seconds until the answer is ready

    hello    {}                                             the agent's versions, its clock, and the name of its run
    end      {run}                                          end another agent whose connection was lost
    claim    {}                                             reserve the board: only one agent measures at a time
    check    {}                                             what the board has and lacks
    have     {sha256, size}                                 how many bytes of a file are here
    put      {sha256, size, offset, bytes}, then the bytes  add a part of a file
    place    {files: [{name, sha256}], keep}                place files in a new folder of this run
    install  {what: "site" | "native", files: [...]}        install wheels, or the native library, for later runs
    ask      {probe, question, about, limit_s}              run a probe in a child process
    heat     {}                                             temperature, frequency and throttling

The types of a probe's question and answer are in runtime/probes/contracts.py, those of the other answers in
answers.py. The agent passes a probe's answer on unchanged, and the host checks it.

The agent ends at the end of its stdin, at SIGTERM, SIGHUP and SIGINT, and when the host has sent nothing for SILENCE_S,
because a lost connection may not close stdin. Only the cache remains.
"""

from __future__ import annotations

import json
import os
import platform
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from edgefc.devices.agent.answers import Facts, HeatNow, Hello
from edgefc.devices.agent.lines import Ended, Lines, Silent
from edgefc.runtime.probes.plain import Failure, encode

PROTOCOL = 1
SILENCE_S = 60.0
BEAT_S = 2.0
HOT_C, COOLING_S = 65.0, 60.0  # above this temperature a timing waits, at most for COOLING_S
PROBES = ("trial", "load", "memory", "steady", "run", "facts")
_ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_TIMES = ("load", "steady")  # probes whose results depend on the temperature


class Agent:
    """One connection. serve() reads the requests. A second thread answers them one after the other."""

    def __init__(self, store: Any, lines: Lines, out: int) -> None:
        self.store, self.lines, self._out = store, lines, out
        self._writing = threading.Lock()
        self._jobs: queue.Queue[dict[str, Any]] = queue.Queue()
        self._current: int | None = None
        self.waited_s = 0.0

    def serve(self) -> None:
        threading.Thread(target=self._work, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        while True:
            request = json.loads(self.lines.line(SILENCE_S))
            if "do" in request:
                if request["do"] == "put":
                    request["data"] = self.lines.raw(int(request["bytes"]), SILENCE_S)
                self._jobs.put(request)

    def _work(self) -> None:
        from edgefc.errors import DeviceError, EdgefcError, describe_error

        while True:
            request = self._jobs.get()
            self._current = request["id"]
            try:
                reply: dict[str, Any] = {"answer": self.answer(request)}
            except EdgefcError as error:
                reply = {"error": Failure.of(error)}
            except Exception as error:
                failed = DeviceError(f"the agent failed: {describe_error(error)}. Please report it.")
                reply = {"error": Failure.of(failed)}
            self._current = None
            self._write({"id": request["id"], **reply})

    def answer(self, request: dict[str, Any]) -> Any:
        from edgefc.errors import DeviceError

        if request.get("protocol") != PROTOCOL:
            raise DeviceError(f"the agent needs protocol {PROTOCOL}. Use the same edgefc on both sides.")
        verb = getattr(self, "do_" + str(request["do"]), None)
        if verb is None:
            raise DeviceError(f"the agent has no request {request['do']!r}. Use the same edgefc on both sides.")
        return verb(request)

    def do_hello(self, request: dict[str, Any]) -> Hello:
        import edgefc
        from edgefc.runtime.probes import ends

        return Hello(
            protocol=PROTOCOL, edgefc=edgefc.__version__, python=platform.python_version(),
            machine=platform.machine(), clock_s=time.time(), swept=self.store.swept,
            run=self.store.run.name, killed_for_memory=ends.machine_oom_kills(),
        )  # fmt: skip

    def do_claim(self, request: dict[str, Any]) -> None:
        self.store.claim()

    def do_end(self, request: dict[str, Any]) -> None:
        self.store.end(request["run"])

    def do_check(self, request: dict[str, Any]) -> Facts:
        from edgefc.devices.agent.facts import facts

        return facts(self.store)

    def do_have(self, request: dict[str, Any]) -> int:
        return int(self.store.have(request["sha256"], request["size"]))

    def do_put(self, request: dict[str, Any]) -> int:
        return int(self.store.add(request["sha256"], request["size"], request["offset"], request["data"]))

    def do_place(self, request: dict[str, Any]) -> str:
        return str(self.store.place(request["files"], request["keep"]))

    def do_install(self, request: dict[str, Any]) -> None:
        from edgefc.devices.agent.install import install

        install(self.store, request["what"], request["files"])

    def do_heat(self, request: dict[str, Any]) -> HeatNow:
        from edgefc.runtime.probes import heat

        return HeatNow(heat.state(), self.waited_s)

    def do_ask(self, request: dict[str, Any]) -> Any:
        from edgefc.errors import DeviceError
        from edgefc.runtime.probes import child

        probe = request["probe"]
        if probe not in PROBES:
            raise DeviceError(f"the agent has no probe {probe!r}. Use the same edgefc on both sides.")
        if probe in _TIMES:
            self._cool()
        return child.relay(probe, request["question"], about=request["about"], limit_s=float(request["limit_s"]))

    def _cool(self) -> None:
        """Wait until the hottest zone is at most HOT_C, for at most about COOLING_S: some boards never cool."""
        from edgefc.runtime.probes import heat

        start = time.monotonic()
        while (heat.temperature_c() or 0.0) > HOT_C and time.monotonic() - start < COOLING_S:
            time.sleep(1.0)
        waited = time.monotonic() - start
        self.waited_s += waited if waited > 0.5 else 0.0

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            current = self._current
            if current is not None:
                self._write({"id": current, "beat": 1})

    def _write(self, reply: dict[str, Any]) -> None:
        data = encode(reply).encode() + b"\n"
        with self._writing, suppress(OSError):  # the connection is closed; the thread that reads notices it too
            while data:
                data = data[os.write(self._out, data) :]


def _prepare(root: Any, run: Any) -> None:
    """Set the environment of the probes: the provisioned packages and native library, and the folder of this run."""
    from edgefc.runtime import native

    library, site = root / "lib" / native.NAME, root / "lib" / "site"
    if library.is_file() and not os.environ.get("EDGEFC_LIBRARY"):
        os.environ["EDGEFC_LIBRARY"] = str(library)
    if site.is_dir():
        given = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(site), *([given] if given else [])])
    os.environ["PYTHONUTF8"] = "1"  # file names are UTF-8 in every locale
    os.environ["XDG_CACHE_HOME"] = os.environ["TMPDIR"] = str(run)  # onnxruntime's files are removed with the run


def main() -> int:
    from pathlib import Path

    out = os.dup(1)
    os.dup2(2, 1)  # other output goes to stderr, because stdout carries the protocol
    from edgefc.devices.agent.store import Store
    from edgefc.errors import EdgefcError

    root = Path(sys.argv[1])
    try:
        store = Store(root)
    except EdgefcError as error:
        os.write(out, encode({"error": Failure.of(error)}).encode() + b"\n")
        return 3
    try:
        for number in _ENDS:
            signal.signal(number, _end)
        _prepare(root, store.run)

        os.chdir(store.run)
        Agent(store, Lines(0), out).serve()
    except Silent as silence:
        os.write(2, f"{silence} from the edgefc that started the agent\n".encode())
        return 3
    except (Ended, ValueError):
        pass
    finally:
        for number in _ENDS:
            signal.signal(number, signal.SIG_IGN)
        if started := sys.modules.get("edgefc.runtime.probes.child"):
            started.end_all()
        store.close()
    return 0


def _end(number: int, frame: Any) -> None:
    raise Ended(f"signal {number}")

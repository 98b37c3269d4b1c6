"""A board that sends invalid data: one line of a local agent is changed in transit. The result is its numbers, or one
sentence."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.attack import relay, stored
from tests.attack.commands import ROOT, Setting, first, forked, judged
from tests.attack.harness import Case
from tests.attack.outcome import Outcome

COUNT = 200
_HOW = (*["json"] * 12, *["bytes"] * 6, *relay._CHANGES, *relay._ENDS)
_LINES = (
    "profile FOLDER/small/a.onnx --time 0.02 --device kitchen --json OUT/r.json",
    "profile FOLDER/small/a.onnx --time 0.02 --no-memory --device kitchen,shed",
    "devices check kitchen --json OUT/r.json",
)  # fmt: skip


def prepare(folder: Path) -> None:
    stored.make(folder, "small")


def case(rng: random.Random, number: int, folder: Path) -> Case:
    how, argv = rng.choice(_HOW), rng.choice((*_LINES, _LINES[0]))
    line = 1 if how in ("banner", "chatter") else rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20))
    plan = {"line": min(line, 3) if argv.startswith("devices") else line, "how": how, "seed": rng.random()}
    name = f"{argv}: {how} in line {plan['line']}"
    return Case(name, partial(_act, argv.replace("FOLDER", str(folder)), plan), limit_s=600)


def _act(argv: str, plan: dict[str, object], work: Path) -> Outcome:
    words = argv.replace("OUT", str(work)).split()
    done = forked(words, Setting(cwd=ROOT), work.parent / "said", lambda: _between(json.dumps(plan))).done()
    return first(lambda: judged(done, {0, 1, 2, 3} if words[0] == "devices" else {0, 2, 3}), lambda: _record(work))


def _record(work: Path) -> Outcome | None:
    """The written file is JSON with finite numbers."""
    path = work / "r.json"
    if not path.exists():
        return None
    try:
        json.loads(path.read_text(), parse_constant=float.fromhex)
    except ValueError as error:
        return Outcome("torn", f"r.json: {error}")
    return None


def _between(plan: str) -> None:
    """In the command's process, replace every device by a local agent behind relay.py."""
    from edgefc.devices import connect, inventory
    from edgefc.devices.inventory import Device
    from edgefc.devices.transports.base import Transport
    from edgefc.devices.transports.local import LocalTransport

    class Behind(LocalTransport):
        def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
            return super().start([sys.executable, "-S", relay.__file__, plan, *argv])

    def transport(name: str) -> Transport:
        return Behind(name) if name == "kitchen" else LocalTransport(name)

    connect.transport = transport
    inventory.device = lambda name: Device(transport="ssh", address=name)

"""Commands that measure, check or train are killed at some moment and then run again.

No process may be left after three seconds. No temporary folder may be left after the next run; for signals other than
SIGKILL, none may be left at once. Files must have the old or the new content. The files of an agent on its board must
be removed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from onnx import ModelProto, TensorProto, helper, save

from tests.attack import moments, stored
from tests.attack.commands import (
    ROOT,
    Done,
    Setting,
    Started,
    first,
    forked,
    fresh,
    judged,
    marked,
    temporary,
    was_killed,
)
from tests.attack.harness import Case
from tests.attack.moments import Moment
from tests.attack.outcome import OK, Outcome

COUNT = 264
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP)
_FRESH_S = 4.0  # duration of imports on an idle machine
_OPERATIONS = 16


@dataclass(frozen=True)
class Subject:
    """A command. FOLDER is the folder of prepared files, OUT the output folder.

    files    its output files
    again    the command to run afterwards; None for the same command
    agent    whether it uses a device, which is an agent on this machine. `board`: the agent is killed, not the command
    seconds  its duration on an idle machine, or how long it is observed
    """

    argv: str
    files: tuple[str, ...] = ()
    again: str | None = None
    agent: bool = False
    board: bool = False
    seconds: float = 4.0


_PROFILE = "profile FOLDER/small/a.onnx --batch 1,2 --time 0.1 --json OUT/r.json"
_BOARD = "profile FOLDER/small/a.onnx --batch 1,2 --time 0.1 --device kitchen --json OUT/r.json"
SUBJECTS = (
    Subject(_PROFILE, ("r.json",)),
    Subject("profile FOLDER/endless.onnx --json OUT/r.json", ("r.json",), again=_PROFILE, seconds=5),
    Subject(_BOARD, ("r.json",), agent=True),
    Subject("profile FOLDER/endless.onnx --device kitchen --json OUT/r.json", ("r.json",), again=_BOARD, agent=True,
            seconds=5),
    Subject(_BOARD, ("r.json",), agent=True, board=True),
    Subject("profile FOLDER/small/a.onnx --time 0.1 --device kitchen,local --json OUT/r.json", ("r.json",), agent=True),
    Subject("verify FOLDER/small/a.onnx tests.attack.sources:small --json OUT/r.json", ("r.json",), seconds=1.5),
    Subject("verify FOLDER/endless.onnx tests.attack.sources:small --json OUT/r.json", ("r.json",),
            again="inspect FOLDER/small/a.onnx --json OUT/r.json", seconds=3),
    Subject("estimate FOLDER/small/a.onnx --device pi5 --json OUT/r.json", ("r.json",), seconds=0.4),
    Subject("inspect FOLDER/small/a.onnx --json OUT/r.json", ("r.json",), seconds=0.3),
    Subject("bench --n 32 --batch 1,2 --layers ternary --time 0.01 --json OUT/r.json --plot OUT/p.svg",
            ("r.json", "p.svg")),
    Subject("recipe circulant-mlp --quick -o OUT/recipe", ("recipe",)),
    Subject("demo -o OUT/demo", ("demo",), again="devices --json OUT/r.json", seconds=25),
    Subject("layers --json OUT/r.json --markdown OUT/m.md", ("r.json", "m.md"), again="devices --json OUT/r.json",
            seconds=20),
    Subject("devices check kitchen --json OUT/r.json", ("r.json",), agent=True, seconds=0.8),
)  # fmt: skip


def prepare(folder: Path) -> None:
    stored.make(folder, "small")
    save(endless(), folder / "endless.onnx")


def endless() -> ModelProto:
    """y = x, doubled in an endless loop."""
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=["batch", 16])
    flag = partial(helper.make_tensor_value_info, elem_type=TensorProto.BOOL, shape=[])
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    nodes = [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Neg", ["v"], ["w"])]
    body = helper.make_graph(nodes, "body", [count, flag("c"), value("v")], [flag("d"), value("w")])
    loop = helper.make_node("Loop", ["", "", "input"], ["output"], body=body)
    graph = helper.make_graph([loop], "endless", [value("input")], [value("output")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def case(rng: random.Random, number: int, folder: Path) -> Case:
    subject, sign = SUBJECTS[number % len(SUBJECTS)], SIGNALS[number // len(SUBJECTS) % len(SIGNALS)]
    is_fresh = not subject.agent and rng.random() < 0.15
    seconds = stored.pace(folder) * (subject.seconds + _FRESH_S * is_fresh)
    moment = moments.drawn(rng, seconds, 0 if is_fresh or subject.again else _OPERATIONS)
    if subject.board:
        moment = Moment(seconds=rng.uniform(0.2, 1) * seconds)
    name = f"{sign.name} of {'the board of ' * subject.board}{subject.argv} {moment}{' (fresh process)' * is_fresh}"
    return Case(name, partial(_act, folder, subject, sign, moment, is_fresh), limit_s=900)


def _act(folder: Path, subject: Subject, sign: signal.Signals, moment: Moment, is_fresh: bool, work: Path) -> Outcome:
    for name in subject.files:
        if "." in name:
            (work / name).write_text('"old"')
    start = partial(_start, subject, folder, work, is_fresh=is_fresh)
    if subject.board:
        done = _board_killed(start(lambda: None), sign, moment.seconds)
    else:
        done = moments.killed(start, moment, sign, _roots(work))
    again = replace(subject, argv=subject.again or subject.argv)
    known = {*subject.files, *("r.json" for _ in (subject.again,) if subject.again)}
    return first(
        lambda: judged(done, {0, 3}) if subject.board else was_killed(done, sign),
        lambda: _whole(work),
        lambda: _lost(done, work, sign),
        lambda: None if sign == signal.SIGKILL else temporary(work),
        lambda: judged(_start(again, folder, work, lambda: None).done(), {0}),
        lambda: _whole(work),
        lambda: temporary(work),
        lambda: _board(work),
        lambda: _more(work, known),
    )


def _start(
    subject: Subject, folder: Path, work: Path, before: Callable[[], None], *, is_fresh: bool = False
) -> Started:
    argv = subject.argv.replace("FOLDER", str(folder)).replace("OUT", str(work)).split()
    argv += ["--force"] if "--json" in argv else []
    setting, scratch = Setting(cwd=ROOT), work.parent / "said"
    if is_fresh:
        return fresh(argv, setting, scratch)

    def begin() -> None:
        if subject.agent:
            on_this_machine()
        before()

    return forked(argv, setting, scratch, begin)


def on_this_machine() -> None:
    """Replace every device by an agent in a child process."""
    from edgefc.devices import connect, inventory
    from edgefc.devices.inventory import Device
    from edgefc.devices.transports.local import LocalTransport

    connect.transport = lambda name: LocalTransport(name)
    inventory.device = lambda name: Device(transport="ssh", address=name)


def _board_killed(started: Started, sign: signal.Signals, seconds: float) -> Done:
    time.sleep(seconds)
    for pid, command in marked(started.mark, started.pid):
        if ".pyz" in command or "SHA256" in command:
            os.kill(pid, sign)
    return started.done()


def _roots(work: Path) -> tuple[Path, ...]:
    return work, Path(os.environ["TMPDIR"])


def _whole(work: Path) -> Outcome | None:
    for path in work.rglob("*.json"):
        if not any(part.startswith(".") for part in path.relative_to(work).parts):
            try:
                json.loads(path.read_text())
            except ValueError as error:
                return Outcome("torn", f"{path.name}: {error}")
    for path in work.glob("*.svg"):
        if path.read_text() != '"old"' and "</svg>" not in path.read_text():
            return Outcome("torn", path.name)
    return None


def _lost(done: Done, work: Path, sign: signal.Signals) -> Outcome | None:
    """Results that were complete before Ctrl-C must be in the file and on stdout."""
    record = work / "r.json"
    if sign != signal.SIGINT or done.code != 130 or not record.exists() or record.read_text() == '"old"':
        return None
    return None if done.out.strip() else Outcome("lost measurement", "r.json has results, but stdout has none")


def _board(work: Path) -> Outcome | None:
    """A fault if files of a run are left in the cache of an agent."""
    runs = [path.name for path in (work.parent / "home").glob(".cache/edgefc/runs/*")]
    return Outcome("left behind", f"on the board: {', '.join(runs)}") if runs else Outcome(OK)


def _more(work: Path, known: set[str]) -> Outcome | None:
    names = set(os.listdir(work)) - known
    return Outcome("left behind", ", ".join(sorted(names))) if names else None

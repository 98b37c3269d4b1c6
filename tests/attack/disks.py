"""Full and read-only disks at every path that a command writes to: one sentence, and no finished measurement is lost.

full       no byte is free; folders and empty files can still be made
no names   no file can be made
later      the disk is filled while the command runs
read-only  the folder can only be read
/dev/full  the file itself: every write fails
limit      no file can exceed 4 kB (ulimit -f)
closed     a closed stream
gone       a stream whose reader has ended
"""

from __future__ import annotations

import os
import random
import threading
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

from tests.attack import mounts, stored
from tests.attack.commands import ROOT, Done, Setting, Started, first, forked, judged
from tests.attack.harness import Case
from tests.attack.kills_measure import on_this_machine
from tests.attack.outcome import OK, Outcome

_DISK_KINDS = ("full", "no names", "later", "read-only")


@dataclass(frozen=True)
class Command:
    """A command line. FILE, PLOT and so on are placeholders for files on the attacked disk, or on another.

    writes   the placeholders of its output files
    finds    whether stdout has results that must be shown in spite of the disk
    seconds  duration on an idle machine
    """

    argv: str
    writes: tuple[str, ...]
    finds: bool = True
    agent: bool = False
    seconds: float = 3.0


COMMANDS = (
    Command("inspect FOLDER/small/a.onnx --json JSON", ("JSON",), seconds=0.3),
    Command("estimate FOLDER/small/a.onnx --device pi5 --json JSON", ("JSON",), seconds=0.4),
    Command("verify FOLDER/small/a.onnx tests.attack.sources:small --json JSON", ("JSON",)),
    Command("profile FOLDER/small/a.onnx --batch 1,2 --time 0.05 --json JSON", ("JSON",)),
    Command("profile FOLDER/small/a.onnx --time 0.05 --device kitchen,local --json JSON", ("JSON",), agent=True),
    Command("bench --n 32 --batch 1 --layers ternary --time 0.01 --json JSON --plot PLOT", ("JSON", "PLOT")),
    Command("export tests.attack.sources:small -o MODEL --json JSON", ("MODEL", "JSON"), finds=False),
    Command("export tests.attack.sources:large -o MODEL --json JSON", ("MODEL", "JSON"), finds=False),
    Command("devices --json JSON", ("JSON",), seconds=0.1),
    Command("devices check kitchen --json JSON", ("JSON",), agent=True),
    Command("devices add shed --ssh shed", (), finds=False),
    Command("recipe circulant-mlp --quick -o PLACE", ("PLACE",), finds=False),
    Command("recipe --list", ()),
    Command("layers --help", (), finds=False),
    Command("demo -o PLACE", ("PLACE",), finds=False),
)  # fmt: skip
_NAMES = {"JSON": "r.json", "PLOT": "p.svg", "MODEL": "m.onnx", "PLACE": "found"}
_VARIABLES = {"TMPDIR": "tmp", "HOME": "home", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config"}


@dataclass(frozen=True)
class Attack:
    command: Command
    place: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.command.argv}: {self.place} {self.kind}"


def _attacks() -> list[Attack]:
    attacks = []
    for command in COMMANDS:
        slow = command.argv.startswith("demo")
        for place in command.writes:
            kinds = ("full", "no names", "read-only") if slow else (*_DISK_KINDS, "limit")
            if place in ("JSON", "PLOT"):
                kinds = (*kinds, "/dev/full")
            attacks += [Attack(command, place, kind) for kind in kinds]
        if not slow:
            attacks += [
                Attack(command, *each) for each in product(("stdout",), ("/dev/full", "full", "closed", "gone"))
            ]
            attacks += [Attack(command, *each) for each in product(("stderr",), ("/dev/full", "closed"))]
            attacks += [Attack(command, *each) for each in product(_VARIABLES, ("full", "no names", "read-only"))]
    random.Random(0).shuffle(attacks)
    return attacks


ATTACKS = _attacks()
COUNT = len(ATTACKS)


def prepare(folder: Path) -> None:
    stored.make(folder, "small")


def case(rng: random.Random, number: int, folder: Path) -> Case:
    attack = ATTACKS[number % len(ATTACKS)]
    when = rng.uniform(0.2, 0.95)
    return Case(attack.name, partial(_act, attack, folder, when), limit_s=900)


def _act(attack: Attack, folder: Path, when: float, work: Path) -> Outcome:
    if not mounts.alone():
        return Outcome(OK, "not tried: mounts are root's")
    place, elsewhere = work / "disk", work / "elsewhere"
    elsewhere.mkdir()
    paths = {name: str(elsewhere / file) for name, file in _NAMES.items()}
    setting = Setting()
    if attack.kind in ("full", "no names", "later", "read-only") and attack.place != "stderr":
        _made(place, attack)
    if attack.place in _NAMES:
        paths[attack.place] = "/dev/full" if attack.kind == "/dev/full" else str(place / _NAMES[attack.place])
        if attack.kind == "limit":
            setting = replace(setting, limits=(("RLIMIT_FSIZE", 4096),))
            paths[attack.place] = str(elsewhere / _NAMES[attack.place])
    elif attack.place in _VARIABLES:
        setting = replace(setting, env={attack.place: str(place)})
    else:
        setting = _stream(setting, attack, place)
    before = set(os.listdir(place)) if place.exists() else set()
    started = _start(attack.command, folder, paths, setting, work.parent / "said")
    if attack.kind == "gone":
        os.close(os.open(place / "stdout", os.O_RDONLY))
    if attack.kind == "later":
        threading.Timer(when * stored.pace(folder) * attack.command.seconds, mounts.fill, (place,)).start()
    done = started.done()
    return first(
        lambda: judged(done, _codes(attack), stderr_works=attack.place != "stderr"),
        lambda: _silent(attack, done),
        lambda: _lost(attack, done),
        lambda: _left(attack, place, before, done),
    )


def _made(place: Path, attack: Attack) -> None:
    later = attack.kind == "later"
    mounts.disk(place, "nr_inodes=3" if attack.kind == "no names" else f"size={'200m' if later else '64k'}")
    if attack.kind == "no names":
        for name in ("one", "two", "three"):
            try:
                (place / name).touch()
            except OSError:
                break
    if attack.place == "stdout":
        (place / "stdout").touch()
    if attack.kind == "full":
        mounts.fill(place)
    if attack.kind == "read-only":
        mounts.read_only(place)


def _stream(setting: Setting, attack: Attack, place: Path) -> Setting:
    kind = attack.kind
    if kind == "gone":
        place.mkdir()
        os.mkfifo(place / "stdout")
    path = str(place / "stdout") if kind in ("full", "gone") else kind
    return replace(setting, streams={attack.place: path})


def _start(command: Command, folder: Path, paths: dict[str, str], setting: Setting, scratch: Path) -> Started:
    argv = [paths.get(word, word.replace("FOLDER", str(folder))) for word in command.argv.split()]
    return forked(argv, replace(setting, cwd=ROOT), scratch, on_this_machine if command.agent else lambda: None)


def _codes(attack: Attack) -> set[int]:
    """The valid exit codes."""
    place, kind, command = attack.place, attack.kind, attack.command
    if place in _NAMES:
        return {0, 2, *([3] if command.agent else [])} if kind in ("later", "limit") else {2}
    if place == "stdout":
        return {0, 2} if kind == "closed" else {0, 2, 141} if kind == "gone" else {2}
    if place == "stderr":
        return {0}
    if command.argv.startswith("devices add"):
        return {2} if place == "XDG_CONFIG_HOME" else {0, 2}
    return {0, 2, 3} if place == "TMPDIR" or command.agent else {0}


def _silent(attack: Attack, done: Done) -> Outcome | None:
    """A fault if stdout could not be written and the exit code is 0."""
    bad = attack.place == "stdout" and attack.kind in ("/dev/full", "full") and done.code == 0
    return Outcome("exit code", "0, and nothing was printed") if bad else None


def _lost(attack: Attack, done: Done) -> Outcome | None:
    """Check that results are shown if their file could not be written, unless the path was rejected at once."""
    at_once = attack.kind in ("no names", "read-only", "/dev/full")
    if attack.place not in ("JSON", "PLOT") or not attack.command.finds or at_once or done.code == 0:
        return None
    is_meant = _NAMES[attack.place] in done.err  # not another file, where no file may grow
    return Outcome("lost measurement", done.end) if is_meant and not done.out.strip() else None


def _left(attack: Attack, place: Path, before: set[str], done: Done) -> Outcome | None:
    if attack.place not in (*_NAMES, *_VARIABLES) or not place.exists():
        return None
    kept = {"recipe.json", "trained", mounts.FILLER}
    if done.code == 0 or attack.place in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        kept |= {*_NAMES.values(), "m.onnx.data", "edgefc", ".cache", ".config"}
    new = {name for name in set(os.listdir(place)) - before - kept if attack.place != "PLACE" or name != "found"}
    return Outcome("left behind", f"{', '.join(sorted(new))} after {done.end}") if new else None

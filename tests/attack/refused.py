"""Exports over a model in one or two files that fail at some step: the old model stays complete, and nothing is left.

Reasons: the file computes other values (verify), the graph or the data cannot be replaced (a mount, an attribute), the
folder is read-only, the disk is full after some bytes, the report cannot be written, --force is missing.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

from tests.attack import mounts, stored
from tests.attack.commands import ROOT, Done, Setting, apart, first, forked, judged, temporary
from tests.attack.harness import Case
from tests.attack.outcome import OK, Outcome
from tests.attack.stored import NAME, lay, strangers, whole

_HOW = (
    "verify", "graph mounted", "graph immutable", "data mounted", "data immutable", "folder read-only", "disk full",
    "disk full", "disk full", "no more names", "ulimit -f", "report on a full disk", "without --force",
    "data is a folder",
)  # fmt: skip
_ALL = list(product(_HOW, ("small", "large"), ("small_new", "large_new"), (False, True)))
random.Random(0).shuffle(_ALL)
COUNT = len(_ALL)
_ROOM = {"small": 20 << 10, "small_new": 20 << 10, "large": 40 << 20, "large_new": 40 << 20}


def prepare(folder: Path) -> None:
    stored.make(folder, "small", "small_new", "large", "large_new")


def case(rng: random.Random, number: int, folder: Path) -> Case:
    how, old, new, link = _ALL[number % len(_ALL)]
    source = {"small_new": "wrong", "large_new": "wrong_large"}[new] if how == "verify" else new
    room = rng.random()
    name = f"export {source} over {old}{' by a link' * link}: {how}{f', {room:.0%} of the room' * (how == 'disk full')}"
    return Case(name, partial(_act, folder, how, (old, source, new), link, room), limit_s=600)


def _act(folder: Path, how: str, names: tuple[str, str, str], link: bool, room: float, work: Path) -> Outcome:
    if not mounts.alone():
        return Outcome(OK, "not tried: mounts are root's")
    old, source, new = names
    place, target = work / "models", work / "models" / NAME
    place.mkdir()
    if how in ("disk full", "no more names"):
        files = len(os.listdir(folder / old)) + 1
        size = f"size={_ROOM[old] + int(room * _ROOM[new])}"
        mounts.disk(place, size if how == "disk full" else f"size=200m,nr_inodes={files + 1}")
    lay(folder, old, place)
    if link:
        target = work / "link.onnx"
        target.symlink_to(place / NAME)
    setting, report, undo = _refuse(how, place, work)
    force = () if how == "without --force" else ("--force",)
    held = os.listdir(folder / old) if how.startswith("data ") else []  # data that cannot be removed
    held += ["a.onnx.data"] if how == "data is a folder" else []
    argv = ("export", f"tests.attack.sources:{source}", "-o", target, "--json", report, *force)
    try:
        done = forked(argv, setting, work.parent / "said").done()
        kept = apart(lambda: _kept(folder, place, done, (old, new)))
    finally:
        undo()
    return first(
        lambda: judged(done, {1} if how == "verify" else {0, 2}),
        lambda: kept,
        lambda: temporary(work),
        lambda: apart(lambda: strangers(place, {NAME, "r.json", mounts.FILLER, *held})),
    )


def _kept(folder: Path, place: Path, done: Done, names: tuple[str, str]) -> Outcome | None:
    """The model must be the old one after a failure, and the new one if the command reports it."""
    is_written = done.code == 0 or "\n  verified " in done.out  # then only the report is refused
    return whole(place / NAME, [folder / names[is_written] / NAME])


def _refuse(how: str, place: Path, work: Path) -> tuple[Setting, Path, Callable[[], object]]:
    """The setting, the path of the report, and a function that undoes the other changes."""
    setting, report = Setting(cwd=ROOT), work / "r.json"
    undo: Callable[[], object] = bool
    data = next((path for path in place.iterdir() if path.suffix == ".data"), place / f"{NAME}.data")
    file = data if how.startswith("data") else place / NAME
    if how == "data is a folder" and not data.exists():
        (data / "inside").mkdir(parents=True)
    elif how.endswith("mounted") and file.exists():
        copy = work / f"copy{file.suffix}"
        copy.write_bytes(file.read_bytes())
        mounts.bind(copy, file)
    elif how.endswith("immutable") and file.exists():
        if subprocess.run(["chattr", "+i", file], check=False, capture_output=True).returncode == 0:
            undo = partial(subprocess.run, ["chattr", "-i", file], check=False)
    elif how == "folder read-only":
        mounts.read_only(place)
    elif how == "ulimit -f":
        setting = replace(setting, limits=(("RLIMIT_FSIZE", 8 << 10),))
    elif how == "report on a full disk":
        mounts.disk(work / "full")
        mounts.fill(work / "full")
        report = work / "full" / "r.json"
    return setting, report, undo

"""Killed exports to a new path, or over a model in one or two files: the old or the new model must be complete.

Then the same command is run again. It must succeed, and no file of the killed command may remain.
"""

from __future__ import annotations

import json
import random
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.attack import moments, stored
from tests.attack.commands import ROOT, Setting, Started, apart, first, forked, fresh, judged, temporary, was_killed
from tests.attack.harness import Case
from tests.attack.moments import Moment
from tests.attack.outcome import Outcome
from tests.attack.stored import NAME, lay, strangers, whole

COUNT = 240
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FRESH_S, _FORKED_S = 8.0, 3.0  # durations on an idle machine; a fresh process imports torch first
_OPERATIONS = 20  # the number of file operations of an export, and a few more


@dataclass(frozen=True)
class Subject:
    """An export of `new` over the model `old`. With `link`, -o is a link to another folder."""

    old: str | None
    new: str
    link: bool = False

    @property
    def name(self) -> str:
        return f"export {self.new} over {self.old}{' by a link' * self.link}"


SUBJECTS = (
    Subject("large", "large_new"), Subject("small", "small_new"), Subject("small", "large_new"),
    Subject("large", "small_new"), Subject(None, "large_new"), Subject("small", "small_new", link=True),
    Subject("large", "large_new", link=True), Subject(None, "small_new"),
)  # fmt: skip


def prepare(folder: Path) -> None:
    stored.make(folder, "small", "small_new", "large", "large_new")


def case(rng: random.Random, number: int, folder: Path) -> Case:
    subject, sign = SUBJECTS[number % len(SUBJECTS)], SIGNALS[number // len(SUBJECTS) % len(SIGNALS)]
    is_fresh = rng.random() < 0.1
    seconds = stored.pace(folder) * (_FRESH_S if is_fresh else _FORKED_S)
    moment = moments.drawn(rng, seconds, 0 if is_fresh else _OPERATIONS)
    name = f"{sign.name} of {subject.name} {moment}{' (fresh process)' * is_fresh}"
    return Case(name, partial(_act, folder, subject, sign, moment, is_fresh), limit_s=900)


def _act(folder: Path, subject: Subject, sign: signal.Signals, moment: Moment, is_fresh: bool, work: Path) -> Outcome:
    target = _laid(folder, work, subject)
    start = partial(_start, subject, target, work, is_fresh=is_fresh)
    done = moments.killed(start, moment, sign, (work,))
    return first(
        lambda: was_killed(done, sign),
        lambda: apart(partial(_kept, folder, subject, target)),
        lambda: None if sign == signal.SIGKILL else temporary(work),
        lambda: judged(start(lambda: None).done(), {0}),
        lambda: apart(lambda: whole(target.resolve(), [folder / subject.new / NAME])),
        lambda: temporary(work),
        lambda: apart(lambda: strangers(target.resolve().parent, {NAME, "report.json"})),
    )


def _laid(folder: Path, work: Path, subject: Subject) -> Path:
    """The target of -o, with the old model and an old report."""
    place = work / "models"
    place.mkdir()
    if subject.old is not None:
        lay(folder, subject.old, place)
    (place / "report.json").write_text('"old"')
    if not subject.link:
        return place / NAME
    (work / "links").mkdir()
    (work / "links" / NAME).symlink_to(place / NAME)
    return work / "links" / NAME


def _start(subject: Subject, target: Path, work: Path, before: object, *, is_fresh: bool = False) -> Started:
    report = target.resolve().parent / "report.json"
    argv = ("export", f"tests.attack.sources:{subject.new}", "-o", target, "--force", "--json", report)
    setting, scratch = Setting(cwd=ROOT), work.parent / "said"
    return fresh(argv, setting, scratch) if is_fresh else forked(argv, setting, scratch, before)  # type: ignore[arg-type]


def _kept(folder: Path, subject: Subject, target: Path) -> Outcome | None:
    wanted = [folder / name / NAME for name in (subject.old, subject.new) if name]
    if subject.old is None and not target.exists():
        return None
    if subject.link and not target.is_symlink():
        return Outcome("torn", "the link was replaced by a file")
    report = target.resolve().parent / "report.json"
    try:
        json.loads(report.read_text())
    except (OSError, ValueError) as error:
        return Outcome("torn", f"report.json: {error}")
    return whole(target.resolve(), wanted)

"""The moment when a command is killed: after a time, or before one of its operations on files below a folder.

Python calls an audit hook before every operation (sys.addaudithook). A kill before operation n is also a kill after
operation n - 1, so all n together cover every state that a kill can leave on disk.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.attack.commands import Done, Started

_OPERATIONS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")


@dataclass(frozen=True)
class Moment:
    """A time after the start, s, or the number of a file operation, counted from 1."""

    seconds: float = 0.0
    step: int = 0
    group: bool = False

    def __str__(self) -> str:
        when = f"before operation {self.step} on files" if self.step else f"after {self.seconds:.2f} s"
        return when + (", with its children" if self.group else "")


def drawn(rng: random.Random, seconds: float, steps: int) -> Moment:
    group = rng.random() < 0.5
    if steps and rng.random() < 0.6:
        return Moment(step=rng.randint(1, steps), group=group)
    return Moment(seconds=rng.uniform(0, 1.05 * seconds), group=group)


def killed(
    start: Callable[[Callable[[], None]], Started], moment: Moment, number: int, folders: tuple[Path, ...]
) -> Done:
    """Start a command and send it a signal at the moment. start(before) starts it and lets it call `before` first."""
    if moment.step:
        started = start(lambda: _at(moment, number, folders))
    else:
        started = start(lambda: None)
        time.sleep(moment.seconds)
        started.kill(number, group=moment.group)
    return started.done()


def _at(moment: Moment, number: int, folders: tuple[Path, ...]) -> None:
    left = moment.step

    def tick() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            (os.killpg if moment.group else os.kill)(os.getpid(), number)

    _hook(folders, tick)


def _hook(folders: tuple[Path, ...], tick: Callable[[], object]) -> None:
    roots = tuple(map(str, folders))

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in _OPERATIONS and _changes(event, args) and os.path.abspath(os.fsdecode(args[0])).startswith(roots):
            tick()

    sys.addaudithook(hook)


def _changes(event: str, args: tuple[Any, ...]) -> bool:
    if not args or not isinstance(args[0], (str, bytes, os.PathLike)):
        return False
    if event != "open":
        return True
    mode, flags = args[1:3]
    return bool(set(str(mode or "")) & set("wax+")) or (isinstance(flags, int) and bool(flags & 3))  # O_ACCMODE

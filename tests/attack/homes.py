"""An empty HOME stays empty for every edgefc command."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from tests.attack import stored
from tests.attack.commands import ROOT, Setting, first, fresh, judged
from tests.attack.harness import Case
from tests.attack.outcome import Outcome

LINES = (
    "inspect FOLDER/small/a.onnx", "estimate FOLDER/small/a.onnx --device pi5", "devices", "recipe --list",
    "layers --help",
    "profile FOLDER/small/a.onnx --batch 1,2 --time 0.05", "verify FOLDER/small/a.onnx tests.attack.sources:small",
    "export tests.attack.sources:small -o OUT/m.onnx",
    "bench --n 32 --batch 1 --layers ternary --time 0.01 --plot OUT/p.svg",
    "recipe circulant-mlp --quick -o OUT/recipe",
    "profile FOLDER/small/a.onnx --time 0.05 --preset battery --threads 2",
)  # fmt: skip
COUNT = len(LINES)


def prepare(folder: Path) -> None:
    stored.make(folder, "small")


def case(rng: random.Random, number: int, folder: Path) -> Case:
    line = LINES[number % len(LINES)]
    return Case(line, partial(_act, line.replace("FOLDER", str(folder)).split()), limit_s=600)


def _act(argv: list[str], work: Path) -> Outcome:
    home = work / "home"
    home.mkdir()
    setting = Setting(env={"HOME": str(home)}, cwd=ROOT)
    done = fresh([word.replace("OUT", str(work)) for word in argv], setting, work.parent / "said").done()
    return first(lambda: judged(done, {0}), lambda: _empty(home))


def _empty(home: Path) -> Outcome | None:
    """A fault if HOME is not empty. matplotlib's font cache is ignored."""
    names = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    names = [name for name in names if "/matplotlib/" not in name]
    return Outcome("left behind", f"in HOME: {', '.join(names)[:300]}") if names else None

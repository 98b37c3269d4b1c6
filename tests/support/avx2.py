"""A processor with AVX2 and neither AVX-512 nor VNNI, emulated by qemu: what most laptops and servers are."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefc.runtime import Model

ROOT = Path(__file__).resolve().parents[2]
CPU = "Haswell"
_PROGRAMS = ("qemu-x86_64-static", "qemu-x86_64")
_LIMIT_S = 600


def qemu() -> str:
    """The emulator, or a skip that says why the test does not run."""
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"NO PROCESSOR WITHOUT VNNI IS TESTED: this is {sys.platform} on {platform.machine()}")
    if found is None:
        pytest.skip(f"NO PROCESSOR WITHOUT VNNI IS TESTED: none of {', '.join(_PROGRAMS)} is on the path")
    return found


def run(*arguments: str | Path) -> str:
    """What this Python prints there, from the checkout's root."""
    done = subprocess.run(
        [qemu(), "-cpu", CPU, sys.executable, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=_LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
    return done.stdout


# Every model by its own settings; the answers in one file, and the variant of the native kernels.
_ANSWER = """
import json, sys, numpy
from edgefc.runtime import Session, native
todo, x, answers = json.load(open(sys.argv[1])), numpy.load(sys.argv[2]), {}
for name, settings in todo.items():
    session = Session(**settings)
    for batch in (1, len(x)):
        (answers[f"{name} {batch}"],) = session.run({session.inputs[0].name: x[:batch]}).values()
numpy.savez(sys.argv[3], **answers)
chosen = native.choose("auto")
print(chosen and chosen[1])
"""


def answers(models: Mapping[str, Model], x: NDArray[Any], folder: Path) -> tuple[dict[str, list[NDArray[Any]]], str]:
    """By name the outputs for the first row of x and for all of it, and the variant of the native kernels there."""
    todo = {name: {"path": str(model.path), **model.settings} for name, model in models.items()}
    question, inputs, found = (folder / name for name in ("todo.json", "x.npy", "answers.npz"))
    question.write_text(json.dumps(todo))
    np.save(inputs, x)
    variant = run("-c", _ANSWER, question, inputs, found).strip()
    with np.load(found) as kept:
        return {name: [kept[f"{name} {batch}"] for batch in (1, len(x))] for name in models}, variant

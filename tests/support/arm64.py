"""Models run by the arm64 onnxruntime in the arm64 folder (userland.py), many in one process."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import userland

LIMIT_S = 600

# Each model by each variant; all answers in one file.
RUN = """
import json, os, platform, numpy, onnxruntime
assert platform.machine() == "aarch64"
todo, given, answers = json.load(open("/mnt/todo.json")), numpy.load("/mnt/given.npz"), {}
for cpu in todo["cpus"]:
    os.environ["EDGEFC_NATIVE_CPU"] = cpu
    for name, inputs in todo["models"].items():
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = todo["threads"]
        if todo["library"]:
            options.register_custom_ops_library("/mnt/libedgefc.so")
        session = onnxruntime.InferenceSession(f"/mnt/{name}.onnx", options, providers=["CPUExecutionProvider"])
        for key in inputs:
            answers[f"{cpu} {key}"] = session.run(None, {session.get_inputs()[0].name: given[key]})[0]
numpy.savez("/mnt/answers.npz", **answers)
"""


@dataclass(frozen=True)
class Case:
    """A model, its inputs and what each of them gives."""

    model: bytes
    inputs: Sequence[NDArray[Any]]
    expected: Sequence[NDArray[Any]]
    what: str


def root() -> Path:
    found = userland.folder()
    if found is None:
        pytest.skip(f"NO ARM64 IS TESTED: {userland.missing()}")
    return found


def answers(
    cases: Iterable[Case], cpus: Sequence[str], folder: Path, library: Path | None, threads: int = 1
) -> dict[tuple[str, int, int], NDArray[Any]]:
    """By variant, number of the case and number of its input. `folder` is for the files. The library may be None."""
    if library is not None:
        shutil.copy(library, folder / "libedgefc.so")
    given: dict[str, NDArray[Any]] = {}
    models: dict[str, list[str]] = {}
    for number, case in enumerate(cases):
        (folder / f"{number}.onnx").write_bytes(case.model)
        models[str(number)] = [f"{number} {i}" for i in range(len(case.inputs))]
        given |= zip(models[str(number)], case.inputs, strict=True)
    np.savez(folder / "given.npz", **given)
    (folder / "todo.json").write_text(
        json.dumps({"cpus": cpus, "models": models, "threads": threads, "library": library is not None})
    )
    command = userland.command(root(), ["python3", "-c", RUN], share=folder)
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "answers.npz") as found:
        return {
            (cpu, int(number), i): found[f"{cpu} {key}"]
            for cpu in cpus for number, keys in models.items() for i, key in enumerate(keys)
        }  # fmt: skip

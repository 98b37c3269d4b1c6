"""Check models on disk, in one or two files, against the values that they must compute."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from tests.attack.commands import ROOT, Setting, forked
from tests.attack.outcome import Outcome
from tests.attack.sources import rows

NAME = "a.onnx"
SMALL_S = 2.0  # duration of an export of sources:small on an idle machine, without imports


def answer(path: Path) -> NDArray[np.float32]:
    """The output of plain onnxruntime for a file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    output: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: rows().numpy()})[0]
    return output


def whole(path: Path, wanted: Collection[Path]) -> Outcome | None:
    """A fault unless the model at `path` computes the same values as one of the files `wanted`."""
    try:
        actual = answer(path)
    except Exception as error:
        return Outcome("torn", f"{path.name} cannot be loaded: {str(error)[:300]}")
    for each in wanted:
        expected = answer(each)
        if expected.shape == actual.shape and np.allclose(expected, actual, atol=1e-4):
            return None
    names = ", ".join(each.parent.name for each in wanted)
    return Outcome("torn", f"{path.name} computes other values than each of {names}")


def strangers(folder: Path, known: Collection[str]) -> Outcome | None:
    """A fault if the folder has names that are neither in `known` nor data files of its models."""
    names = set(os.listdir(folder)) - set(known)
    for path in folder.glob("*.onnx"):
        if path.is_file():
            names -= data_of(path)
    return Outcome("left behind", ", ".join(sorted(names))) if names else None


def data_of(path: Path) -> set[str]:
    model = onnx.load(path, load_external_data=False)
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    return {entry.value for entry in entries if entry.key == "location"}


def make(folder: Path, *names: str) -> None:
    """Export sources of sources.py to folder/NAME/a.onnx, and record how much slower than an idle machine this one is.

    Raises:
        RuntimeError: an export failed.
    """
    for name in names:
        if (made := next(folder.parent.glob(f"*/{name}/{NAME}"), None)) is not None:  # made for another kind
            shutil.copytree(made.parent, folder / name)
            shutil.copyfile(made.parents[1] / "pace", folder / "pace")
            continue
        argv = ("export", f"tests.attack.sources:{name}", "-o", folder / name / NAME)
        done = forked(argv, Setting(cwd=ROOT), folder / "said").done()
        if done.code != 0:
            raise RuntimeError(f"{name} cannot be exported: {done.end}")
        if name == "small":
            (folder / "pace").write_text(str(max(1.0, done.seconds / SMALL_S)))


def pace(folder: Path) -> float:
    """The factor for durations that were measured on two idle cores."""
    return float((folder / "pace").read_text())


def lay(folder: Path, name: str, target: Path) -> None:
    """Copy the files of the model `name` to the folder `target`."""
    shutil.copytree(folder / name, target, dirs_exist_ok=True)

"""Boards for tests of what they lack: this machine's Python without packages, and wheels that hold next to nothing.

And a model that never ends, with the processes and folders that a run of it may leave.
"""

import os
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

from onnx import helper

from edgefc.devices.transports.local import LocalTransport
from tests.support import onnx_models


def bare(folder: Path, name: str = "bare") -> LocalTransport:
    """A board whose Python has neither numpy nor onnxruntime, and a home of its own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "python")], check=True)
    return LocalTransport(name, python=str(folder / "python/bin/python"), environment=home(folder / "home"))


def home(folder: Path) -> dict[str, str]:
    """An environment with this home."""
    folder.mkdir(parents=True, exist_ok=True)
    left = ("XDG_CACHE_HOME", "PYTHONPATH", "EDGEFC_LIBRARY", "VIRTUAL_ENV")
    return {**{name: value for name, value in os.environ.items() if name not in left}, "HOME": str(folder)}


def wheel(folder: Path, name: str, version: str, code: str | None = None) -> Path:
    """A wheel for every Python whose package says its version."""
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n" if code is None else code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def endless(path: Path) -> Path:
    """y = x after a Loop whose condition is always true."""
    ports = [helper.make_tensor_value_info("i", onnx_models.INT64, []),
             helper.make_tensor_value_info("more", onnx_models.BOOL, []),
             helper.make_tensor_value_info("value", onnx_models.FLOAT, None)]  # fmt: skip
    outs = [helper.make_tensor_value_info("again", onnx_models.BOOL, []),
            helper.make_tensor_value_info("next", onnx_models.FLOAT, None)]  # fmt: skip
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["again"]), helper.make_node("Neg", ["value"], ["next"])],
        "body", ports, outs,
    )  # fmt: skip
    loop = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    port = {"x": (onnx_models.FLOAT, ["batch", 4])}
    return onnx_models.write(path, [loop], port, {"y": (onnx_models.FLOAT, ["batch", 4])}, {"true": True})


def processes(mark: str) -> list[int]:
    """Processes of this machine that have `mark` in their environment or command line; not this one."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if mark.encode() in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found

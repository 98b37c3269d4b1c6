"""Boards for tests of what they lack: this machine's Python without packages, and wheels that hold next to nothing."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from edgefc.devices.transports.local import LocalTransport


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

"""Build the agent as one file that any Python from 3.9 runs: devices/agent and the probes of profile().

    pack()   the bytes of edgefc-agent.pyz and their sha256

The same sources give the same bytes, so the agent is sent to a board only once.
"""

import hashlib
import importlib
import io
import zipfile
from functools import cache
from pathlib import Path

_PACKED = {
    "edgefc": ("__init__", "attributes", "declared", "errors", "lazy", "onnxruntime_text", "releases"),
    "edgefc.modelfile": None,
    "edgefc.runtime": ("__init__", "failures", "inputs", "operators", "options", "presets", "session", "signature"),
    "edgefc.runtime.native": ("__init__",),
    "edgefc.runtime.probes": (
        "__init__", "child", "contracts", "ends", "facts", "heat", "load", "machine", "memory", "null_model",
        "opening", "plain", "rounds", "run", "start", "stats", "steady", "sysfs", "trial",
    ),
    "edgefc.devices": ("__init__",),
    "edgefc.devices.agent": ("__init__", "answers", "facts", "holder", "install", "lines", "main", "store"),
}  # fmt: skip
"""Modules by package; None where the whole package is packed."""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can store
# os._exit, because the working thread may still wait for a child that was just ended.
_MAIN = (
    "import os, sys\nfrom edgefc.devices.agent.main import main\ncode = main()\nsys.stderr.flush()\nos._exit(code)\n"
)


def sources() -> dict[str, Path]:
    """The path of every packed file, by its name in the archive."""
    paths = {}
    for package, names in _PACKED.items():
        folder = Path(importlib.import_module(package).__path__[0])
        for name in names or sorted(path.stem for path in folder.glob("*.py")):
            paths[f"{package.replace('.', '/')}/{name}.py"] = folder / f"{name}.py"
    paths["edgefc/declarations.json"] = Path(importlib.import_module("edgefc").__path__[0]) / "declarations.json"
    return paths


@cache
def pack() -> tuple[bytes, str]:
    """The bytes of the archive, and their sha256."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(sources().items()):
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), path.read_bytes(), zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("__main__.py", _LONG_AGO), _MAIN)
    data = packed.getvalue()
    return data, hashlib.sha256(data).hexdigest()

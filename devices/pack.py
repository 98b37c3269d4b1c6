"""The agent as one file that any Python from 3.9 runs: the probes of profile() and agent.py, nothing twice.

    pack()   the bytes of edgefc-agent.pyz and their sha256

The same sources give the same bytes, so a board that has this agent is not sent it again.
"""

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

import edgefc.devices
import edgefc.runtime

_RUNTIME = (
    "__init__", "child", "ends", "failures", "heat", "inputs", "machine", "native/__init__", "null_model", "operators",
    "presets", "probe", "probe_check", "probe_facts", "probe_load", "probe_memory", "probe_run", "probe_steady",
    "session", "signature", "stats", "steady",
)  # fmt: skip
_TOP = ("__init__", "attributes", "errors", "onnxruntime_text")
_MODELFILE = tuple(
    f"modelfile/{name}"
    for name in ("__init__", "admission", "attributes", "functions", "places", "protobuf", "weights")
)
_DEVICES = ("agent", "facts", "holder", "install", "lines", "store")
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file can name
# os._exit: the working thread may wait for a child that was just ended.
_MAIN = "import os, sys\nfrom edgefc.devices.agent import main\ncode = main()\nsys.stderr.flush()\nos._exit(code)\n"


def sources() -> dict[str, Path]:
    """Every packed file, by its place in the archive."""
    top, runtime, devices = (Path(module.__path__[0]) for module in (edgefc, edgefc.runtime, edgefc.devices))
    found = {f"edgefc/{name}.py": top / f"{name}.py" for name in (*_TOP, *_MODELFILE)}
    found |= {f"edgefc/runtime/{name}.py": runtime / f"{name}.py" for name in _RUNTIME}
    return found | {f"edgefc/devices/{name}.py": devices / f"{name}.py" for name in ("__init__", *_DEVICES)}


@cache
def pack() -> tuple[bytes, str]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(sources().items()):
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), path.read_bytes(), zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("__main__.py", _LONG_AGO), _MAIN)
    data = packed.getvalue()
    return data, hashlib.sha256(data).hexdigest()

"""Put packages or the native library where every later run on this board finds them. Part of the agent.

Wheels are zip files of what site-packages holds; those without scripts and headers, as numpy's and onnxruntime's, need
no more than unpacking. What is there is replaced at once, or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from edgefc.devices.agent.store import inside, said
from edgefc.errors import DeviceError
from edgefc.runtime import native

_LARGEST_BYTES = 2 << 30  # of all packages, unpacked


def install(store: Any, what: str, files: list[dict[str, str]]) -> None:
    """ "site": these wheels and no others; "native": one file.

    Raises:
        DeviceError: a file is no wheel, or the disk is full.
    """
    library = store.root / "lib"
    with said(library):
        library.mkdir(mode=0o700, exist_ok=True)
        if what == "native":
            os.replace(_copied(store.path_of(files[0]["sha256"]), store.run), library / native.NAME)
            return
        folder = Path(tempfile.mkdtemp(prefix="site-", dir=store.run))  # which ends with the run if this does not
        for file in files:
            _unpack(store.path_of(file["sha256"]), file["name"], folder)
        shutil.rmtree(library / "site", ignore_errors=True)
        os.replace(folder, library / "site")


def _unpack(wheel: Path, name: str, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST_BYTES:
                raise DeviceError(
                    f"{name} unpacks to more than {_LARGEST_BYTES} bytes. Give wheels of numpy and onnxruntime."
                )
            for member in archive.namelist():
                inside(member)
            archive.extractall(folder)
    except zipfile.BadZipFile:
        raise DeviceError(f"{name} is no wheel. Download it again.") from None


def _copied(source: Path, folder: Path) -> Path:
    descriptor, name = tempfile.mkstemp(dir=folder)
    os.close(descriptor)
    shutil.copyfile(source, name)
    return Path(name)

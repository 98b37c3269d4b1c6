"""Install packages or the native library in the folder that every later run on this board uses. Part of the agent.

A wheel is a zip file with the content of site-packages. Wheels without scripts and headers, such as those of numpy and
onnxruntime, only need to be unpacked. The new files replace the old ones only after all of them are unpacked.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from edgefc.devices.agent.store import inside, write_errors
from edgefc.errors import DeviceError
from edgefc.runtime import native

_LARGEST_BYTES = 2 << 30  # of all packages, unpacked


def install(store: Any, what: str, files: list[dict[str, str]]) -> None:
    """ "site": replace the installed packages by these wheels. "native": replace the native library by one file.

    Raises:
        DeviceError: a file is not a wheel, or the disk is full.
    """
    library = store.root / "lib"
    with write_errors(library):
        library.mkdir(mode=0o700, exist_ok=True)
        if what == "native":
            os.replace(_copied(store.path_of(files[0]["sha256"]), store.run), library / native.NAME)
            return
        folder = Path(tempfile.mkdtemp(prefix="site-", dir=store.run))  # on an error it is removed with the run
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
        raise DeviceError(f"{name} is not a wheel. Download it again.") from None


def _copied(source: Path, folder: Path) -> Path:
    descriptor, name = tempfile.mkstemp(dir=folder)
    os.close(descriptor)
    shutil.copyfile(source, name)
    return Path(name)

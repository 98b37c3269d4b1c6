"""onnxruntime-web, pinned: three files of one release's npm tarball, fetched once and checked by hash.

No npm is needed. The registry is npm's own, or the one that npm would use (npm_config_registry); proxies are those of
the environment. Without a network, put the tarball into the cache folder by hand.
"""

import hashlib
import http.client
import os
import tarfile
import tempfile
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from edgefc import folders, temporary
from edgefc.errors import DeviceError, reason_of
from edgefc.files import TEMPORARY
from edgefc.progress import transfer

VERSION = "1.30.0"
TARBALL = f"onnxruntime-web-{VERSION}.tgz"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # sha512
# Its licence is MIT.

# sha256 of what the page loads: the API, its glue and the wasm build with SIMD and threads.
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_REGISTRY = "https://registry.npmjs.org"
_VARIABLE = "npm_config_registry"  # npm's own name, in small letters
_LARGEST_BYTES = 64 << 20
_TIMEOUT_S = 60.0


def files() -> dict[str, Path]:
    """Each of FILES by its name, where it lies; fetched when it does not yet, or is not what it should be.

    Raises:
        DeviceError: the registry is out of reach or gives something else, or the cache cannot be written.
    """
    folder = cache()
    found = {name: folder / name for name in FILES}
    try:
        if not all(_is(path, FILES[name]) for name, path in found.items()):
            folder.mkdir(parents=True, exist_ok=True)
            with _tarball(folder) as tarball:
                _unpack(tarball, folder)
    except OSError as error:
        raise DeviceError(
            f"cannot keep onnxruntime-web in {folder}: {reason_of(error)}. Make room, or set XDG_CACHE_HOME."
        ) from None
    return found


def cache() -> Path:
    return folders.cache() / f"onnxruntime-web-{VERSION}"


def runtime_bytes() -> int:
    """What a page downloads before it can load a model, uncompressed."""
    return sum(path.stat().st_size for path in files().values())


def url() -> str:
    registry = os.environ.get(_VARIABLE, "").rstrip("/") or _REGISTRY
    if urlsplit(registry).scheme not in ("http", "https"):
        raise DeviceError(f"{_VARIABLE} is {registry!r}, which is no web address. Set one, or unset it.")
    return f"{registry}/onnxruntime-web/-/{TARBALL}"


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _tarball(folder: Path) -> IO[bytes]:
    """Open at its start: the one put into the folder by hand, else a temporary copy from the registry."""
    by_hand = folder / TARBALL
    file = by_hand.open("rb") if by_hand.is_file() else _fetched(folder)
    digest = hashlib.sha512()
    while part := file.read(1 << 20):
        digest.update(part)
    if b64encode(digest.digest()).decode() != INTEGRITY:
        file.close()
        origin = by_hand if by_hand.is_file() else url()
        raise DeviceError(f"{origin} is not the onnxruntime-web {VERSION} that edgefc knows: its sha512 differs.")
    file.seek(0)
    return file


def _fetched(folder: Path) -> IO[bytes]:
    address, file = url(), tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  it is handed on
    try:
        with (
            urllib.request.urlopen(address, timeout=_TIMEOUT_S) as reply,  # noqa: S310  url() takes http(s) alone
            transfer(f"fetching onnxruntime-web {VERSION}") as told,
        ):
            while (part := reply.read(1 << 20)) and file.tell() <= _LARGEST_BYTES:
                file.write(part)
                told(file.tell(), int(reply.headers.get("Content-Length") or 0))
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        file.close()
        cause = getattr(error, "reason", None)  # of a URLError: an exception, or a text
        reason = cause if isinstance(cause, str) and cause else reason_of(cause or error)
        raise DeviceError(
            f"cannot fetch onnxruntime-web {VERSION} from {address}: {reason}. "
            f"Connect to it once, or put that file into {folder}."
        ) from None
    file.seek(0)
    return file


def _unpack(tarball: IO[bytes], folder: Path) -> None:
    """The three files, each written beside and renamed; the tarball's hash is checked already."""
    with tarfile.open(fileobj=tarball, mode="r:gz") as archive, temporary.folder(TEMPORARY, folder) as beside:
        for name, sha256 in FILES.items():
            source = archive.extractfile(f"package/dist/{name}")
            content = b"" if source is None else source.read(_LARGEST_BYTES)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise DeviceError(f"{TARBALL} holds another {name} than edgefc knows. Report this, please.")
            (beside / name).write_bytes(content)
            os.replace(beside / name, folder / name)

"""Download onnxruntime-web: three files from the npm tarball of a pinned release, checked by hash and cached.

npm itself is not needed. The registry is $npm_config_registry, or npm's default. Proxies are those of the environment.
Without a network, copy the tarball to the cache folder.
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

# sha256 of the files that the page loads: the API, its glue code, and the wasm build with SIMD and threads.
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_REGISTRY = "https://registry.npmjs.org"
_VARIABLE = "npm_config_registry"  # npm's own name, in lowercase
_LARGEST_BYTES = 64 << 20
_TIMEOUT_S = 60.0


def files() -> dict[str, Path]:
    """The paths of FILES in the cache, by name. Files that are missing or have another hash are downloaded.

    Raises:
        DeviceError: the registry cannot be reached, a hash differs, or the cache cannot be written.
    """
    folder = cache()
    paths = {name: folder / name for name in FILES}
    try:
        if not all(_has_hash(path, FILES[name]) for name, path in paths.items()):
            folder.mkdir(parents=True, exist_ok=True)
            with _tarball(folder) as tarball:
                _unpack(tarball, folder)
    except OSError as error:
        raise DeviceError(
            f"cannot store onnxruntime-web in {folder}: {reason_of(error)}. Free some space there, or set "
            "XDG_CACHE_HOME to another folder."
        ) from None
    return paths


def cache() -> Path:
    return folders.cache() / f"onnxruntime-web-{VERSION}"


def runtime_bytes() -> int:
    """The bytes that a page downloads before it can load a model, uncompressed."""
    return sum(path.stat().st_size for path in files().values())


def url() -> str:
    registry = os.environ.get(_VARIABLE, "").rstrip("/") or _REGISTRY
    if urlsplit(registry).scheme not in ("http", "https"):
        raise DeviceError(f"{_VARIABLE} is {registry!r}, which is not an http(s) address. Set it to one, or unset it.")
    return f"{registry}/onnxruntime-web/-/{TARBALL}"


def _has_hash(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _tarball(folder: Path) -> IO[bytes]:
    """The tarball, open at its start: the one in the cache folder, or a temporary download from the registry."""
    by_hand = folder / TARBALL
    file = by_hand.open("rb") if by_hand.is_file() else _fetched(folder)
    digest = hashlib.sha512()
    while part := file.read(1 << 20):
        digest.update(part)
    if b64encode(digest.digest()).decode() != INTEGRITY:
        file.close()
        origin = by_hand if by_hand.is_file() else url()
        raise DeviceError(
            f"{origin} is not the pinned onnxruntime-web {VERSION}: its sha512 differs. Delete the file, or use "
            "another registry."
        )
    file.seek(0)
    return file


def _fetched(folder: Path) -> IO[bytes]:
    address, file = url(), tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  the caller closes it
    try:
        with (
            urllib.request.urlopen(address, timeout=_TIMEOUT_S) as reply,  # noqa: S310  url() accepts only http(s)
            transfer(f"downloading onnxruntime-web {VERSION}") as on_bytes,
        ):
            while (part := reply.read(1 << 20)) and file.tell() <= _LARGEST_BYTES:
                file.write(part)
                on_bytes(file.tell(), int(reply.headers.get("Content-Length") or 0))
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        file.close()
        cause = getattr(error, "reason", None)  # of a URLError: an exception or a string
        reason = cause if isinstance(cause, str) and cause else reason_of(cause or error)
        raise DeviceError(
            f"cannot download onnxruntime-web {VERSION} from {address}: {reason}. "
            f"Connect to the network, or copy that file to {folder}."
        ) from None
    file.seek(0)
    return file


def _unpack(tarball: IO[bytes], folder: Path) -> None:
    """Extract the three files of a tarball whose hash has been checked. Each is written elsewhere and then renamed."""
    with tarfile.open(fileobj=tarball, mode="r:gz") as archive, temporary.folder(TEMPORARY, folder) as staging:
        for name, sha256 in FILES.items():
            source = archive.extractfile(f"package/dist/{name}")
            content = b"" if source is None else source.read(_LARGEST_BYTES)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise DeviceError(f"{name} in {TARBALL} differs from the pinned file. Please report this.")
            (staging / name).write_bytes(content)
            os.replace(staging / name, folder / name)

"""Files of a pinned release of an npm package: downloaded once, checked by hash, and cached.

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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from edgefc import folders, temporary
from edgefc.errors import EdgefcError, reason_of
from edgefc.files import TEMPORARY
from edgefc.progress import transfer

_REGISTRY = "https://registry.npmjs.org"
_VARIABLE = "npm_config_registry"  # npm's own name, in lowercase
_LARGEST_BYTES = 64 << 20
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Package:
    """A release.

    integrity  the sha512 of the tarball in base64, as npm shows it
    folder     the folder of the files in the tarball
    files      their sha256, by name
    error      the class of the errors
    """

    name: str
    version: str
    integrity: str
    folder: str
    files: Mapping[str, str]
    error: type[EdgefcError]

    @property
    def tarball(self) -> str:
        return f"{self.name}-{self.version}.tgz"

    def cache(self) -> Path:
        """The folder of the files. It need not exist."""
        return folders.cache() / f"{self.name}-{self.version}"

    def url(self) -> str:
        """The address of the tarball.

        Raises:
            EdgefcError: the registry has no http(s) address. The class is `error`.
        """
        registry = os.environ.get(_VARIABLE, "").rstrip("/") or _REGISTRY
        if urlsplit(registry).scheme not in ("http", "https"):
            raise self.error(
                f"{_VARIABLE} is {registry!r}, which is not an http(s) address. Set it to one, or unset it."
            )
        return f"{registry}/{self.name}/-/{self.tarball}"

    def paths(self) -> dict[str, Path]:
        """The files in the cache, by name. Files that are missing or have another hash are downloaded.

        Raises:
            EdgefcError: the registry cannot be reached, a hash differs, or the cache cannot be written. The class is
                `error`.
        """
        folder = self.cache()
        paths = {name: folder / name for name in self.files}
        try:
            if not all(_has_hash(path, self.files[name]) for name, path in paths.items()):
                folder.mkdir(parents=True, exist_ok=True)
                with self._opened(folder) as tarball:
                    self._unpack(tarball, folder)
        except OSError as error:
            raise self.error(
                f"cannot store {self.name} in {folder}: {reason_of(error)}. Free some space there, or set "
                "XDG_CACHE_HOME to another folder."
            ) from None
        return paths

    def _opened(self, folder: Path) -> IO[bytes]:
        """The tarball, open at its start: the one in the cache folder, or a temporary download from the registry."""
        by_hand = folder / self.tarball
        file = by_hand.open("rb") if by_hand.is_file() else self._fetched(folder)
        digest = hashlib.sha512()
        while part := file.read(1 << 20):
            digest.update(part)
        if b64encode(digest.digest()).decode() != self.integrity:
            file.close()
            origin = by_hand if by_hand.is_file() else self.url()
            raise self.error(
                f"{origin} is not the pinned {self.name} {self.version}: its sha512 differs. Delete the file, or use "
                "another registry."
            )
        file.seek(0)
        return file

    def _fetched(self, folder: Path) -> IO[bytes]:
        address, file = self.url(), tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  the caller closes it
        try:
            with (
                urllib.request.urlopen(address, timeout=_TIMEOUT_S) as reply,  # noqa: S310  url() accepts only http(s)
                transfer(f"downloading {self.name} {self.version}") as on_bytes,
            ):
                while (part := reply.read(1 << 20)) and file.tell() <= _LARGEST_BYTES:
                    file.write(part)
                    on_bytes(file.tell(), int(reply.headers.get("Content-Length") or 0))
        except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
            file.close()
            cause = getattr(error, "reason", None)  # of a URLError: an exception or a string
            reason = cause if isinstance(cause, str) and cause else reason_of(cause or error)
            raise self.error(
                f"cannot download {self.name} {self.version} from {address}: {reason}. "
                f"Connect to the network, or copy that file to {folder}."
            ) from None
        file.seek(0)
        return file

    def _unpack(self, tarball: IO[bytes], folder: Path) -> None:
        """Extract the files of a tarball whose hash has been checked. Each is written elsewhere and then renamed."""
        with tarfile.open(fileobj=tarball, mode="r:gz") as archive, temporary.folder(TEMPORARY, folder) as staging:
            for name, sha256 in self.files.items():
                source = archive.extractfile(f"{self.folder}/{name}")
                content = b"" if source is None else source.read(_LARGEST_BYTES)
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise self.error(f"{name} in {self.tarball} differs from the pinned file. Please report this.")
                (staging / name).write_bytes(content)
                os.replace(staging / name, folder / name)


def _has_hash(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256

"""onnxruntime-web: three files of a pinned release of the npm package, downloaded by edgefc.npm."""

from pathlib import Path

from edgefc.errors import DeviceError
from edgefc.npm import Package

VERSION = "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # sha512
# Its licence is MIT.

# sha256 of the files that the page loads: the API, its glue code, and the wasm build with SIMD and threads.
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}


def files() -> dict[str, Path]:
    """The paths of FILES in the cache, by name. Files that are missing or have another hash are downloaded.

    Raises:
        DeviceError: the registry cannot be reached, a hash differs, or the cache cannot be written.
    """
    return _package().paths()


def cache() -> Path:
    return _package().cache()


def runtime_bytes() -> int:
    """The bytes that a page downloads before it can load a model, uncompressed."""
    return sum(path.stat().st_size for path in files().values())


def _package() -> Package:
    return Package("onnxruntime-web", VERSION, INTEGRITY, "package/dist", FILES, DeviceError)

"""External data files: their names, the models that refer to them, and their removal.

The name contains a hash of the content, `model-0123456789ab.onnx.data`. Files with different weights have different
names. Therefore the old graph and its weights remain a complete model until the new graph replaces the old one. edgefc
0.1 wrote `model.onnx.data`.

A graph may refer to any file, and several graphs may refer to the same file. A file is removed only if it is a regular
file with such a name in the folder of the model, and if every .onnx file there can be read and none refers to it.
"""

import hashlib
import os
import re
from pathlib import Path

from edgefc.errors import reason_of
from edgefc.modelfile.protobuf import Malformed
from edgefc.modelfile.weights import locations

_DIGITS = 12
_ENDING = ".onnx.data"
_LONGEST = 255  # bytes of a file's name
_READ_BYTES = 1 << 20


def data_name(target: Path, data: Path) -> str:
    """Returns the file name for the weights in `data` of the model `target`."""
    digest = hashlib.sha256()
    with data.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return f"{_stem(target)}-{digest.hexdigest()[:_DIGITS]}{_ENDING}"


def _stem(target: Path) -> str:
    """Returns the stem of the model's name, shortened to fit the file name limit, without bytes that are not UTF-8."""
    most = _LONGEST - len(f"-{_ENDING}") - _DIGITS
    return os.fsencode(target.stem)[:most].decode(errors="ignore")


def _is_own(name: str, target: Path) -> bool:
    """Whether a file with this name was written for `target`."""
    return re.fullmatch(re.escape(_stem(target)) + rf"-[0-9a-f]{{{_DIGITS}}}" + re.escape(_ENDING), name) is not None


def weights_named(file: Path) -> frozenset[str] | None:
    """Returns the external data files that a model refers to, as written in the model, or None if it is unreadable."""
    try:
        return locations(file) if file.is_file() else None  # excludes dangling links, and pipes, which would block
    except (OSError, Malformed):
        return None


def sweep(target: Path, folder: Path, old: frozenset[str], new: str | None) -> list[str]:
    """Removes external data files of `target` from a folder if no model there refers to them any more.

    Args:
        target: the model, which has just been replaced.
        folder: the folder of the model, or of a link to it, which then contains links to the data files.
        old: the data files of the replaced model. Those with a foreign name are never removed.
        new: the data file of the new model.

    Returns:
        A note for each data file of the replaced model that is kept.
    """
    old = frozenset(name for name in old if "\0" not in name)
    try:
        entries = os.listdir(folder)
    except OSError as error:
        return [f"{folder} may contain weights of the replaced model: {reason_of(error)}"] if old else []
    names = old | {name for name in entries if _is_own(name, target)}
    there = sorted(name for name in names if name != new and os.path.lexists(folder / name))
    models = {file: weights_named(file) for file in _models(folder, entries)} if there else {}
    reasons = {name: _kept_for(folder, name, target, models, old) or _removed(folder / name) for name in there}
    return [f"{folder / name} was kept: {why}" for name, why in reasons.items() if why and name in old]


def _models(folder: Path, entries: list[str]) -> list[Path]:
    """Returns the models in the folder, including copies such as model.onnx.bak."""
    names = [name for name in entries if ".onnx" in name.lower() and not name.endswith("data")]
    return [folder / name for name in sorted(names) if not (folder / name).is_dir()]


def _kept_for(
    folder: Path, name: str, target: Path, models: dict[Path, frozenset[str] | None], old: frozenset[str]
) -> str | None:
    """Returns why a file is kept, or None if it may be removed."""
    file = folder / name
    if not (_is_own(name, target) or (name == f"{target.name}.data" and name in old)):
        return f"its name is not one that edgefc writes for the weights of {target.name}"
    if folder == target.parent and (file.is_symlink() or not file.is_file()):
        return "it is not a regular file"
    if folder != target.parent and not (file.is_symlink() and _real(file) == target.parent / name):
        return f"it is not a link to {target.parent / name}"
    for model, named in models.items():
        if named is None:
            return f"{model.name} cannot be read and may refer to it"
        if any(_real(folder / each) == _real(file) for each in named if "\0" not in each):
            return f"{model.name} refers to it"
    return None


def _removed(file: Path) -> str | None:
    """Removes the file. Returns the reason if that fails."""
    try:
        file.unlink()
    except OSError as error:
        return f"it cannot be removed: {reason_of(error)}"
    return None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))

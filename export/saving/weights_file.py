"""The weights file beside an .onnx file: how it is named, who names it, and its removal once nobody does.

The name has a hash of the content, `model-0123456789ab.onnx.data`: other weights are another file, so that the graph
that is there and the weights that it names stay one model until the new graph takes its place. edgefc 0.1 wrote
`model.onnx.data`.

Removing is careful. A graph may name any file as its weights, and several graphs may name one file. Only a regular file
with such a name, in the folder of the model, is removed, and only if every .onnx file there can be read and none names
it.
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
    """The name for the weights in `data`, beside the model `target`."""
    digest = hashlib.sha256()
    with data.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return f"{_stem(target)}-{digest.hexdigest()[:_DIGITS]}{_ENDING}"


def _stem(target: Path) -> str:
    """Of the model's name, shortened where the whole would be too long, without bytes that are not UTF-8."""
    most = _LONGEST - len(f"-{_ENDING}") - _DIGITS
    return os.fsencode(target.stem)[:most].decode(errors="ignore")


def _is_own(name: str, target: Path) -> bool:
    """Whether weights of this name were written with `target`."""
    return re.fullmatch(re.escape(_stem(target)) + rf"-[0-9a-f]{{{_DIGITS}}}" + re.escape(_ENDING), name) is not None


def weights_named(file: Path) -> frozenset[str] | None:
    """The external data that a model names, as it is written there; None where it cannot be read."""
    try:
        return locations(file) if file.is_file() else None  # a link that leads nowhere, or a pipe, which would block
    except (OSError, Malformed):
        return None


def sweep(target: Path, folder: Path, old: frozenset[str], new: str | None) -> list[str]:
    """Remove from a folder the weights of `target` that no model there names any more.

    Args:
        target: the model, which has just been replaced.
        folder: its own, or that of a link to it, which has links to the weights.
        old: the weights that the replaced model named. Those of another name are only looked at.
        new: the weights of the model that is there now.

    Returns:
        A sentence for each file that the replaced model named and that stays.
    """
    old = frozenset(name for name in old if "\0" not in name)
    try:
        entries = os.listdir(folder)
    except OSError as error:
        return [f"{folder} may hold weights of the replaced model: {reason_of(error)}"] if old else []
    names = old | {name for name in entries if _is_own(name, target)}
    there = sorted(name for name in names if name != new and os.path.lexists(folder / name))
    models = {file: weights_named(file) for file in _models(folder, entries)} if there else {}
    reasons = {name: _kept_for(folder, name, target, models, old) or _removed(folder / name) for name in there}
    return [f"{folder / name} stays: {why}" for name, why in reasons.items() if why and name in old]


def _models(folder: Path, entries: list[str]) -> list[Path]:
    """Copies such as model.onnx.bak are models too."""
    names = [name for name in entries if ".onnx" in name.lower() and not name.endswith("data")]
    return [folder / name for name in sorted(names) if not (folder / name).is_dir()]


def _kept_for(
    folder: Path, name: str, target: Path, models: dict[Path, frozenset[str] | None], old: frozenset[str]
) -> str | None:
    """Why a file is kept; None where it may be removed."""
    file = folder / name
    if not (_is_own(name, target) or (name == f"{target.name}.data" and name in old)):
        return f"edgefc gives no such name to the weights of {target.name}"
    if folder == target.parent and (file.is_symlink() or not file.is_file()):
        return "it is not a regular file"
    if folder != target.parent and not (file.is_symlink() and _real(file) == target.parent / name):
        return f"it is not a link to {target.parent / name}"
    for model, named in models.items():
        if named is None:
            return f"{model.name} cannot be read and may name it"
        if any(_real(folder / each) == _real(file) for each in named if "\0" not in each):
            return f"{model.name} names it"
    return None


def _removed(file: Path) -> str | None:
    """Remove it; why that cannot be done."""
    try:
        file.unlink()
    except OSError as error:
        return f"it cannot be removed: {reason_of(error)}"
    return None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))

"""Writes a model as files: the graph, and large weights in an external data file. Both are replaced atomically.

The weights are moved first and the graph last. Until then the old graph and its weights exist, because different
weights have a different name (weights_file.py). A reader finds either the complete old model or the complete new one,
even if the process is killed.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path

import onnx
import onnx_ir as ir

from edgefc.errors import ExportError, UsageError, describe_error
from edgefc.export.saving.weights_file import data_name, sweep, weights_named
from edgefc.files import TEMPORARY, Place, finish, writing
from edgefc.locks import alone

_LARGEST_PROTOBUF = 1 << 31
_PIECE = 1 << 20


@dataclass(frozen=True)
class Written:
    """A model in a temporary folder. `data` is None if all weights are in the file of the graph."""

    graph: Path
    data: Path | None


def write(model: ir.Model, folder: Path, place: Place, *, external_from_bytes: int) -> Written:
    """Writes a model into a temporary folder, with the file names for `place`.

    Weights with a total of at least `external_from_bytes` go to an external data file. Then the initializers of `model`
    refer to that file.

    Raises:
        ExportError: the graph is invalid according to onnx.
        UsageError: the files cannot be written.
    """
    graph, data = folder / place.path.name, None
    tensors = [value.const_value for each in model.graphs() for value in each.initializers.values()]
    total = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    with writing(place):
        if total >= external_from_bytes:
            data = _write_data(model, folder, place.target)
        else:
            ir.external_data.load_to_model(model)  # a tensor may be in a file of the model that was read
        ir.save(model, graph)
    try:
        onnx.checker.check_model(str(graph), full_check=total < _LARGEST_PROTOBUF)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph is not valid ONNX: {describe_error(error)}. Try another opset.") from error
    return Written(graph, data)


def _write_data(model: ir.Model, folder: Path, target: Path) -> Path | None:
    """Writes the external data file and renames it once its hash is known. Returns None if no tensor is large."""
    values = [value for graph in model.graphs() for value in graph.initializers.values()]
    try:
        ir.external_data.unload_from_model(model, folder, "weights", size_threshold_bytes=1024, alignment=4096)
    except OSError as error:
        if error.errno is None:  # numpy reports how many bytes were not written, but not the reason
            _fill(folder / "zeros", sum(value.const_value.nbytes for value in values if value.const_value is not None))
        raise
    if not any(isinstance(value.const_value, ir.ExternalTensor) for value in values):
        (folder / "weights").unlink(missing_ok=True)
        return None
    data = (folder / "weights").rename(folder / data_name(target, folder / "weights"))
    for value in values:
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            value.const_value = ir.ExternalTensor(
                data.name, tensor.offset, tensor.length, tensor.dtype,
                shape=tensor.shape, name=tensor.name, base_dir=folder,
            )  # fmt: skip
    return data


def _fill(file: Path, size: int) -> None:
    """Writes `size` zeros, which raises the OSError that prevented the weights from being written."""
    with file.open("wb") as out:
        for start in range(0, size, _PIECE):
            out.write(bytes(min(_PIECE, size - start)))


def publish(written: Written, place: Place) -> tuple[str, ...]:
    """Moves a model to its place, and removes external data files that no model refers to any more.

    For each link to the model in another folder, creates a link to the weights in that folder.

    Returns:
        A note for each external data file of the replaced model that is kept.

    Raises:
        UsageError: the model cannot be moved. Then all changes are undone.
    """
    target, folder = place.target, place.target.parent
    with writing(place), alone(folder / f"{TEMPORARY}lock"):
        old = (weights_named(target) or frozenset()) if target.exists() else frozenset()
        finish(written.graph, target)
        made = list[Path]()
        try:
            if written.data is not None:
                finish(written.data, written.graph)
                _link(written.data.name, place, made)
                _put(written.data, folder / written.data.name, place, made)
            os.replace(written.graph, target)
        except BaseException:
            if written.graph.exists():  # otherwise the interrupt came after the move
                for path in made:
                    with suppress(OSError):
                        _unmake(path, target)
            raise
        new = None if written.data is None else written.data.name
        folders = dict.fromkeys((folder, *(link.parent for link in place.links)))
        return tuple(note for each in folders for note in sweep(target, each, old, new))


def _unmake(path: Path, target: Path) -> None:
    if os.path.realpath(path) == str(target.parent / path.name):  # otherwise another process has replaced it
        path.unlink()


def _link(name: str, place: Place, made: list[Path]) -> None:
    folder = place.target.parent
    for link in place.links:
        at = link.parent / name
        if os.path.realpath(at) == str(folder / name):  # the same folder, or the link exists
            continue
        if os.path.lexists(at):
            raise UsageError(f"cannot write {place}: {at} exists and is not a link to its weights. Remove {at.name}.")
        with writing(f"{place}, which needs a link to its weights next to {link}"):
            made.append(at)
            at.symlink_to(os.path.relpath(folder / name, link.parent))


def _put(data: Path, to: Path, place: Place, made: list[Path]) -> None:
    if not os.path.lexists(to):
        made.append(to)
        os.replace(data, to)
    elif not to.is_file() or not cmp(data, to, shallow=False):
        raise UsageError(f"cannot write {place}: {to} exists with other content than its weights. Remove it.")

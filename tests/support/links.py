"""Models whose weights lie beside them, behind links, and in places where onnxruntime does not take them from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from tests.support import onnx_models

SIZE = 16


def _model(path: Path, location: str) -> Path:
    """y = x @ w of 16 x 16, with w in a file of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = onnx.load(onnx_models.matmul(path, SIZE, SIZE))
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    return path


def _weights(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.eye(SIZE, dtype=np.float32).tobytes())


def _link(path: Path, to: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)


def beside(root: Path, location: str = "w") -> Path:
    _weights(root / "d/w")
    return _model(root / "d/m.onnx", location)


def in_a_folder_below(root: Path) -> Path:
    _weights(root / "d/s/w")
    return _model(root / "d/m.onnx", "s/w")


def up_and_back(root: Path) -> Path:
    return beside(root, "../d/w")


def down_and_up(root: Path) -> Path:
    (root / "d/s").mkdir(parents=True)
    return beside(root, "s/../w")


def with_a_dot(root: Path) -> Path:
    return beside(root, "./w")


def absolute(root: Path) -> Path:
    return beside(root, str(root / "d/w"))


def nameless(root: Path) -> Path:
    return beside(root, "")


def above(root: Path) -> Path:
    _weights(root / "w")
    return _model(root / "d/m.onnx", "../w")


def linked_inside(root: Path) -> Path:
    _weights(root / "d/s/x")
    _link(root / "d/w", "s/x")
    return _model(root / "d/m.onnx", "w")


def linked_outside(root: Path) -> Path:
    _weights(root / "o/x")
    _link(root / "d/w", "../o/x")
    return _model(root / "d/m.onnx", "w")


def a_folder_linked_outside(root: Path) -> Path:
    _weights(root / "o/w")
    _link(root / "d/s", "../o")
    return _model(root / "d/m.onnx", "s/w")


def up_from_a_linked_folder(root: Path) -> Path:
    """By its letters s/../w is beside the model; the system looks beside the folder that s names."""
    (root / "o/p").mkdir(parents=True)
    _link(root / "d/s", "../o/p")
    return beside(root, "s/../w")


def snapshot(root: Path, location: str = "w", blob: str = "blobs/b") -> Path:
    """As the cache of the Hugging Face hub lays out a model: every file of a snapshot links to a blob."""
    _weights(root / blob)
    _model(root / "blobs/a", location)
    _link(root / "snapshots/1/m.onnx", "../../blobs/a")
    if location == "w":
        _link(root / "snapshots/1/w", f"../../{blob}")
    return root / "snapshots/1/m.onnx"


def snapshot_with_folders(root: Path) -> Path:
    _weights(root / "blobs/b")
    _model(root / "blobs/a", "w")
    _link(root / "snapshots/1/onnx/m.onnx", "../../../blobs/a")
    _link(root / "snapshots/1/onnx/w", "../../../blobs/b")
    return root / "snapshots/1/onnx/m.onnx"


def snapshot_of_a_blob_by_path(root: Path) -> Path:
    return snapshot(root, "../../blobs/b")


def snapshot_with_blobs_below(root: Path) -> Path:
    return snapshot(root, blob="blobs/deep/b")


def snapshot_with_weights_elsewhere(root: Path) -> Path:
    return snapshot(root, blob="elsewhere/b")


def snapshot_of_real_weights(root: Path) -> Path:
    _weights(root / "snapshots/1/w")
    _model(root / "blobs/a", "w")
    _link(root / "snapshots/1/m.onnx", "../../blobs/a")
    return root / "snapshots/1/m.onnx"


def linked_twice(root: Path) -> Path:
    """Weights beside the link in the middle: neither beside the name nor beside the file."""
    _weights(root / "middle/b")
    _model(root / "blobs/a", "w")
    _link(root / "middle/m.onnx", "../blobs/a")
    _link(root / "top/m.onnx", "../middle/m.onnx")
    _link(root / "top/w", "../middle/b")
    return root / "top/m.onnx"


def a_linked_folder(root: Path) -> Path:
    _weights(root / "real/w")
    _model(root / "real/m.onnx", "w")
    _link(root / "d", "real")
    return root / "d/m.onnx"


Place = Callable[[Path], Path]
ACCEPTED: tuple[Place, ...] = (
    beside, in_a_folder_below, up_and_back, down_and_up, with_a_dot, linked_inside, snapshot, snapshot_with_folders,
    snapshot_of_a_blob_by_path, snapshot_with_blobs_below, snapshot_of_real_weights, a_linked_folder,
)  # fmt: skip
REFUSED: tuple[Place, ...] = (
    absolute, nameless, above, linked_outside, a_folder_linked_outside, up_from_a_linked_folder,
    snapshot_with_weights_elsewhere, linked_twice,
)  # fmt: skip

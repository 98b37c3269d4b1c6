"""Where the external data of an .onnx file may lie: the rule of onnxruntime 1.31.

A location is relative to the folder of the model. Symbolic links are followed. The file must lie below that folder, or
below the folder of the file that the model's own link points to: a snapshot in the cache of the Hugging Face hub is a
folder of links to files that lie together in another one.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath


def is_inside(model: Path, location: str) -> bool:
    """Whether onnxruntime accepts `location` for weights of `model`. The file need not exist."""
    if not location or "\0" in location or PurePath(location).is_absolute():
        return False
    place = Path(os.path.realpath(model.parent / location))
    roots = (Path(os.path.realpath(model.parent)), Path(os.path.realpath(model)).parent)
    return any(place.is_relative_to(root) for root in roots)

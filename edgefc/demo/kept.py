"""Finished trainings, kept in the folder so that the demo can be stopped and taken up again.

One safetensors file per kind and seed: the weights, and in the header the result and the fingerprint of the recipe it
came from. A file is taken up only if the fingerprint is that of today's recipe and the weights, run again on the test
digits, give the result that the header claims. Anything else is trained anew. Nothing is unpickled.
"""

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from edgefc.demo import data, models, train
from edgefc.demo.data import Split
from edgefc.demo.models import build
from edgefc.demo.results import Recipe, Training
from edgefc.demo.train import count_right
from edgefc.errors import UsageError
from edgefc.files import staged
from edgefc.layers.circulant import linear as circulant_linear
from edgefc.layers.common import seeded
from edgefc.layers.prp import linear as prp_linear

FOLDER = "trained"
_CODE = (data, models, train, circulant_linear, prp_linear, seeded)


def fingerprint(recipe: Recipe, versions: Mapping[str, str]) -> str:
    """Changes whenever a training could come out otherwise: with the recipe, the versions, or the code that trains."""
    parts = [recipe.model_dump_json(), repr(sorted(versions.items())), *map(inspect.getsource, _CODE)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def keep(folder: Path, model: nn.Module, training: Training, mark: str) -> None:
    """Write one finished training, whole or not at all; `mark` is the fingerprint."""
    header = {"training": training.model_dump_json(), "fingerprint": mark}
    write(_path(folder, training.kind, training.seed), model, header)


def write(path: Path, model: nn.Module, header: dict[str, str] | None = None) -> None:
    """Write the weights of a model as safetensors."""
    with staged(path) as file:
        file.write_bytes(save(model.state_dict(), header))  # save_file raises no OSError on a full disk


def take_up(
    folder: Path, kind: str, seed: int, recipe: Recipe, mark: str, split: Split
) -> tuple[nn.Module, Training] | None:
    """The kept training, or None where there is none that can be believed."""
    path = _path(folder, kind, seed)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        if header.get("fingerprint") != mark:
            return None
        training = Training.model_validate_json(header.get("training", ""))
        model = build(kind, recipe.width, seed)
        model.load_state_dict(load_file(path))
    except (
        OSError,
        SafetensorError,
        ValidationError,
        RuntimeError,
        UsageError,
    ):  # the last two: weights of another layer
        return None
    found = training.model_copy(update={"kind": kind, "seed": seed, "right": count_right(model, split.test)})
    return (model, training) if found == training and training.rows == len(split.test.y) else None


def _path(folder: Path, kind: str, seed: int) -> Path:
    return folder / FOLDER / f"{kind}-{seed}.safetensors"

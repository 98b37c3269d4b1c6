"""NAME.safetensors: the weights of the models of seed 0, for recipes with an `example` to export them with."""

import hashlib
from pathlib import Path

from safetensors.torch import load_file, save
from torch import nn

from edgefc.files import staged
from edgefc.recipes.recipe import file_name


def path(folder: Path, arm: str) -> Path:
    """The path of the weights of an arm."""
    return folder / f"{file_name(arm)}.safetensors"


def keep(file: Path, model: nn.Module) -> str:
    """Write the weights of a model. Returns digest(file)."""
    content = save(model.state_dict())
    with staged(file) as place:
        place.write_bytes(content)  # save_file raises no OSError on a full disk
    return hashlib.sha256(content).hexdigest()


def digest(file: Path) -> str | None:
    """The SHA-256 of the file, or None if it does not exist."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def load(file: Path, model: nn.Module) -> nn.Module:
    """Load the weights that keep() wrote into the model, and return it in eval mode."""
    model.load_state_dict(load_file(file))
    return model.eval()

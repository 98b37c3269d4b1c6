"""save() and load(): the plan and the weights of a replaced model in one folder.

    plan.json            the rules that replace() carried out, in its order: one list of rules for each call
    weights.safetensors  the state dict

load() replaces the layers of a model with initial values by these rules, and loads the weights.
"""

import glob
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError, describe_error, first_line
from edgefc.files import Place, exists, finish, place_of, staging, writing
from edgefc.plan.reading import parse_plan, read_json
from edgefc.plan.rules import Plan, Rule
from edgefc.replacing.replacing import PLACED, apply_new

PLAN, WEIGHTS = "plan.json", "weights.safetensors"
_VERSION = 1


def save(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Saves a model that replace() changed: its plan and its weights.

    The folder is created. Existing files of an earlier save() are replaced, first the weights, then the plan.

    Raises:
        UsageError: replace() did not change the model, or the files cannot be written.
    """
    placed = getattr(model, PLACED, None)
    if not placed:
        raise UsageError("edgefc.replace() has not changed this model. Save its state dict instead.")
    plans = [Plan([Rule(glob.escape(name), to=to) for name, to in each.items()]).record() for each in placed]
    tensors, names = _tensors(model)
    record = {"format": _VERSION, "plans": plans, "shared": names}
    _write(Path(folder), tensors, json.dumps(record, indent=1) + "\n")


def load(folder: str | os.PathLike[str], factory: Callable[[], nn.Module]) -> nn.Module:
    """Loads a model that save() wrote.

        model = edgefc.load("small", lambda: AutoModel.from_config(config))

    Args:
        factory: makes the model as it was before replace(), with any weights. It may also return (model, inputs).

    Returns:
        the model, with the layers of the plan and the saved weights, in the mode of the factory

    Raises:
        UsageError: a file is missing or damaged, or the model of the factory does not match it.
    """
    made = factory()
    model = made[0] if isinstance(made, tuple) and len(made) == 2 else made
    if not isinstance(model, nn.Module):
        raise UsageError(f"the factory returned a {type(model).__name__}, not a torch.nn.Module.")
    load_into(model, Path(folder))
    return model


def load_into(model: nn.Module, folder: Path) -> None:
    """Replaces the layers of a model by the plan in the folder, and loads the weights.

    Raises:
        UsageError: a file is missing or damaged, or the model does not match it.
    """
    record = read_json(folder / PLAN)
    plans, shared = _parsed(record, folder)
    for plan in plans:
        try:
            apply_new(model, plan)
        except UsageError as error:
            raise UsageError(f"{folder} does not match the model: {error}") from None
    state = _read(folder / WEIGHTS)
    for name, other in shared.items():
        if other not in state or name in state:
            raise UsageError(f"{folder / PLAN} is damaged: it says that {name} is {other}. Save the model again.")
        state[name] = state[other]
    _check_types(model, state, folder)
    try:
        model.load_state_dict(state)
    except (RuntimeError, UsageError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UsageError(f"{folder} does not match the model: {lines[min(1, len(lines) - 1)]}") from None


def is_saved(path: Path) -> bool:
    """Whether the path is a folder that save() wrote."""
    return exists(path) and path.is_dir() and (path / PLAN).is_file()


def _tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors to store, and the name under which a tensor with several names is stored."""
    stored: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[Any, str] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise UsageError(f"{name} in the state dict is a {type(value).__name__}, not a tensor. Remove it first.")
        if value.is_meta or value.layout != torch.strided:
            raise UsageError(f"{name} is a meta or sparse tensor, which cannot be saved. Load or densify it first.")
        key = (value.device, value.data_ptr(), tuple(value.shape), value.stride(), value.dtype)
        if value.numel() and key in first:
            shared[name] = first[key]
            continue
        first[key] = name
        stored[name] = value.detach().cpu().contiguous().clone()
    return stored, shared


def _write(folder: Path, tensors: dict[str, Tensor], plan: str) -> None:
    from safetensors.torch import save_file

    if exists(folder) and not folder.is_dir():
        raise UsageError(f"cannot write {folder}: it is not a folder. Choose another name.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    places: list[Place] = [place_of(folder / name) for name in (WEIGHTS, PLAN)]
    with staging(places[0]) as temporary, writing(folder):
        files = [temporary / name for name in (WEIGHTS, PLAN)]
        save_file(tensors, files[0])
        files[1].write_text(plan, encoding="utf-8")
        for file, place in zip(files, places, strict=True):
            finish(file, place.target)
        for file, place in zip(files, places, strict=True):
            os.replace(file, place.target)


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if not (exists(path) and path.is_file()):
        raise UsageError(f"no file {path}. Give a folder that edgefc.save() wrote.")
    try:
        return load_file(path)
    except Exception as error:
        raise UsageError(f"cannot read {path}: {describe_error(error)}. Save the model again.") from None


def _parsed(record: Any, folder: Path) -> tuple[list[Plan], dict[str, str]]:
    try:
        if record["format"] != _VERSION:
            raise ValueError(f"its format is {record['format']!r}; this edgefc reads format {_VERSION}")
        plans = [parse_plan(each) for each in record["plans"]]
        shared = dict(record["shared"])
        if not all(isinstance(part, str) for pair in shared.items() for part in pair):
            raise ValueError("the names of shared tensors are not text")
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{folder / PLAN} was not written by edgefc.save(): {first_line(error)}.") from None
    return plans, shared


def _check_types(model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    for name, own in model.state_dict().items():
        if name in state and isinstance(own, Tensor) and state[name].dtype != own.dtype:
            raise UsageError(
                f"{folder} does not match the model: {name} is {state[name].dtype}, in the model {own.dtype}. "
                "Convert the model first, such as with model.half()."
            )

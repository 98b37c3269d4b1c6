"""A fingerprint of everything that results depend on: data, versions, and the source files of edgefc for training."""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import edgefc
from edgefc.recipes.recipe import Data, Recipe


def fingerprint(recipe: Recipe, data: Data, versions: dict[str, str], quick: bool) -> str:
    """A hash of the data, the versions and the training code. It changes if a training could have another result."""
    digest = hashlib.sha256(repr((recipe.name, recipe.rates, quick, sorted(versions.items()))).encode())
    for path in (*sources(recipe.train.__module__), Path(__file__).with_name("harness.py")):
        digest.update(path.read_bytes())
    for piece in _pieces(data):
        digest.update(piece)
    return digest.hexdigest()


def sources(module: str) -> list[Path]:
    """The file of a module and the files of edgefc that it imports, recursively, according to import statements."""
    files: dict[str, Path] = {}
    waiting = [(module, getattr(sys.modules.get(module), "__file__", None))]
    while waiting:
        name, file = waiting.pop()
        if name in files or file is None:
            continue
        files[name] = Path(file)
        waiting += [(each, _file(each)) for each in _imported(Path(file)) if each.startswith("edgefc.")]
    return sorted(files.values())


def _imported(path: Path) -> Iterator[str]:
    """Names that may be modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            if node.module == "edgefc":  # a layer by its public name
                yield from (getattr(getattr(edgefc, alias.name, None), "__module__", "") for alias in node.names)


def _file(name: str) -> str | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # a name in a module
        return None
    return spec.origin if spec else None


def _pieces(data: object) -> Iterator[bytes]:
    """The contents of the data as bytes, for hashing."""
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(data)
    if isinstance(data, Tensor):
        yield repr((data.dtype, tuple(data.shape))).encode()
        yield data.detach().cpu().contiguous().numpy().tobytes()
    elif isinstance(data, (tuple, list)):
        for each in data:
            yield from _pieces(each)
    elif hasattr(data, "__dict__"):
        for name, each in sorted(vars(data).items()):
            yield name.encode()
            yield from _pieces(each)
    else:
        yield repr(data).encode()

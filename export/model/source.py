"""SOURCE on the command line: a factory that creates a model, and weights to load into it."""

import contextlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgefc.errors import UsageError, describe_error, shortened
from edgefc.export.model import isolation
from edgefc.export.model.isolation import unchanged_process
from edgefc.export.model.weights import load_weights
from edgefc.files import exists
from edgefc.replacing.saving import is_saved, load_into
from edgefc.screen import err

_FORM = "Write package.module:factory or path/to/file.py:factory, where factory() returns a model"
_DTYPES = {name: getattr(torch, name) for name in ("float16", "float32", "float64", "int32", "int64", "bool")}


def load_model(
    source: str, weights: Path | None, inputs: Sequence[str], *, allow_nonfinite: bool = False
) -> tuple[nn.Module, Any]:
    """Returns the model of SOURCE, with weights loaded, and its example inputs.

    Prints each adaptation of the weights, such as a removed prefix, to stderr.

    Raises:
        UsageError: the source cannot be imported, the factory raises or returns another type, the weights do not match,
            or there are no example inputs.
    """
    model, args = load_source(source, weights, allow_nonfinite=allow_nonfinite)
    if inputs:
        args = tuple(parse_input(text) for text in inputs)
    if args is None:
        raise UsageError(
            f"no example inputs for {source}. Return (model, args) from the factory, or give --input SHAPE for each "
            "input, such as --input 1x64."
        )
    return model, args


def load_source(source: str, weights: Path | None, *, allow_nonfinite: bool = False) -> tuple[nn.Module, Any]:
    """Returns the model of SOURCE, with weights loaded, and the example inputs of the factory or None.

    `weights` may be a folder that edgefc.save() wrote. The layers of its plan are then replaced first.

    Raises:
        UsageError: as load_model().
    """
    made = _call(_factory(source), source)
    if inspect.iscoroutine(made):
        made.close()  # otherwise Python warns that it was never awaited
    model, args = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{source} returned a {type(model).__name__}, not a torch.nn.Module. {_FORM} or (model, args)."
        )
    if weights is not None and is_saved(weights):
        load_into(model, weights)
    elif weights is not None:
        for note in load_weights(model, weights, allow_nonfinite=allow_nonfinite):
            err(f"{weights}: {note}")
    return model, args


def load_function(source: str) -> Callable[..., Any]:
    """Returns the function of package.module:function or path/to/file.py:function.

    Raises:
        UsageError: it cannot be imported.
    """
    return _factory(source)


def parse_input(text: str) -> torch.Tensor:
    """Returns a seeded example for SHAPE[:DTYPE]: normal float32 for 2x64, zeros for 2x16:int64.

    Raises:
        UsageError: the text has another form.
    """
    shape_text, _, dtype_text = text.partition(":")
    dtype = _DTYPES.get(dtype_text or "float32")
    sizes = shape_text.split("x")
    if dtype is None or not all(size.isascii() and size.isdigit() for size in sizes):
        raise UsageError(
            f"--input {shortened(text, 80)!r} is not SHAPE[:DTYPE]. Write 1x64 or 1x16:int64. The dtypes are "
            f"{', '.join(_DTYPES)}."
        )
    try:
        shape = [int(size) for size in sizes]
        if dtype.is_floating_point:
            return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        return torch.zeros(shape, dtype=dtype)
    except (RuntimeError, OverflowError, TypeError, ValueError):  # exceeds memory, 64 bits, or the limit of int()
        raise UsageError(f"--input {shortened(text, 80)!r} is larger than memory. Give a smaller shape.") from None


def _factory(source: str) -> Callable[[], Any]:
    place, colon, name = source.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"{source!r} does not name a factory. {_FORM}.")
    module = _module_from_file(Path(place)) if place.endswith(".py") else _module_by_name(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UsageError(f"{place} has no function {name!r}. {_FORM}.")
    result: Callable[[], Any] = factory
    return result


def _module_from_file(path: Path) -> Any:
    if not (exists(path) and path.is_file()):
        raise UsageError(f"no file {path}. {_FORM}.")
    spec = importlib.util.spec_from_file_location(f"edgefc_source_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.append(str(path.parent.resolve()))  # like `python file.py`, so that it can import modules in its folder
    with _no_bytecode():
        _run(lambda: spec.loader.exec_module(module), f"{path} cannot be imported")  # type: ignore[union-attr]
    return module


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    """Disables __pycache__ within the block, so that imports do not write to the user's folder."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _module_by_name(name: str) -> Any:
    if not re.fullmatch(r"[\w.-]+", name):
        raise UsageError(f"{shortened(name, 80)!r} is not a valid module name. {_FORM}.")
    sys.path.insert(0, "")
    return _run(lambda: importlib.import_module(name), f"{name} cannot be imported")


def _call(factory: Callable[[], Any], source: str) -> Any:
    return _run(factory, f"{source} raised")


def _run(action: Callable[[], Any], failure: str) -> Any:
    """Runs the user's code, and restores the process state.

    Raises:
        UsageError: the code raised an exception. The message contains its text and line.
    """
    try:
        with unchanged_process():
            return action()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(f"{failure}: {describe_error(error)}{_place(error)}. Correct it and try again.") from error


def _place(error: BaseException) -> str:
    """Returns the file and line that raised, or "" if it was raised here, as for missing arguments of the factory."""
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = (__file__, isolation.__file__)
    others = [place for place in places if place[0] not in own and not place[0].startswith("<frozen")]
    return f" ({Path(others[-1][0]).name}, line {others[-1][1]})" if others else ""

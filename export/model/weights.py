"""Loads a weights file into a model. Adapts names if possible, and rejects values that loading would change.

Names: wrappers add prefixes ("module." of DataParallel, "_orig_mod." of torch.compile, "model." of a training class),
safetensors keeps only one name of tensors that share memory, and training tools store the state dict under a key. Each
of these is undone if the result matches the model, and is reported.

Values: a floating-point tensor can be converted to another floating-point type if its values stay in range. Other
changes of type, NaN, infinities, and tensors without values raise an error.
"""

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import EdgefcError, UsageError, first_line, shortened, text_of
from edgefc.files import exists
from edgefc.layers.common.checkpoint import holds_weights

_KEYS = ("state_dict", "model_state_dict", "model")
"""Keys under which training tools store the state dict: Lightning, torch's tutorials, timm."""

_COMPILED = "_orig_mod"
"""The part that torch.compile adds to names."""

State = dict[str, Any]


def load_weights(model: nn.Module, path: Path, *, allow_nonfinite: bool = False) -> list[str]:
    """Loads a .safetensors file, its index of shards, or a state dict saved by torch.save, into the model.

    Returns:
        A note for each adaptation. After an error the model may contain some of the weights.

    Raises:
        UsageError: the file cannot be read, names or shapes do not match, or values would be changed.
    """
    state, notes = _state_of(_read(path), path)
    state, name_notes = _fit_names(model, state, path)
    notes += name_notes
    notes += _fill_shared(model, state, path)
    notes += _check_values(model, state, path, allow_nonfinite)
    _load(model, state, path)
    return notes


def _read(path: Path) -> Any:
    if not (exists(path) and path.is_file()):
        raise UsageError(f"no file {path}. Pass --weights a .safetensors file or a torch state dict.")
    try:
        if path.name.endswith(".safetensors.index.json"):
            return _read_shards(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the content is checked below
            return torch.load(path, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"cannot read weights from {path}: {_why(error)}. Use a .safetensors file, or a state dict saved "
            "with torch.save. Pickled models are not loaded, because they can run code."
        ) from None


def _why(error: Exception) -> str:
    """Returns torch's reason without its advice to disable weights_only."""
    _, _, detail = text_of(error).partition("WeightsUnpickler error: ")
    return first_line(ValueError(detail)) if detail.strip() else first_line(error)


def _read_shards(path: Path) -> State:
    """Reads all tensors of the shards that an index names. The shards must be in the folder of the index."""
    from safetensors.torch import load_file

    shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    state: State = {}
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not (path.parent / name).is_file():
            raise UsageError(f"{path} names the file {name!r}, which is not in its folder. Put all shards there.")
        state |= load_file(path.parent / name)
    absent = sorted(shards.keys() - state.keys())
    if absent:
        raise UsageError(f"{path} lists {_some(absent)}, which no shard contains. Download the shards again.")
    return state


def _state_of(content: Any, path: Path) -> tuple[State, list[str]]:
    """Returns the state dict in the content of the file, and a note about its key."""
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} contains a {type(content).__name__}, not a state dict. Save model.state_dict().")
    inner = [key for key in _KEYS if isinstance(content.get(key), Mapping)]
    if not inner:
        return dict(content), []
    if len(inner) > 1:
        raise UsageError(
            f"{path} contains state dicts under {_some(inner)}. Save only one of them: "
            f"torch.save(torch.load(...)[{inner[0]!r}], path)."
        )
    return dict(content[inner[0]]), [f"read the state dict under the key {inner[0]!r}"]


def _fit_names(model: nn.Module, state: State, path: Path) -> tuple[State, list[str]]:
    """Renames the entries to the names of the model, if they differ only by a common prefix on either side."""
    own = list(model.state_dict())
    if not own or not all(isinstance(name, str) for name in state) or state.keys() <= set(own):
        return state, []
    plain = _without_compiled(state, path)
    model_names = {_strip_compiled(name): name for name in own}
    notes = []
    if any(_is_compiled(name) for name in state):
        notes.append(f"removed {_COMPILED + '.'!r}, which torch.compile adds, from the names")
    model_prefix, file_prefix = _prefix_pair(list(model_names), list(plain))
    if file_prefix:
        notes.append(f"removed the prefix {file_prefix!r} from every name")
    if model_prefix:
        notes.append(f"added the prefix {model_prefix!r} to every name")
    renamed = {}
    for name, value in plain.items():
        bare = model_prefix + name.removeprefix(file_prefix)
        renamed[model_names.get(bare, bare)] = value
    return renamed, notes


def _without_compiled(state: State, path: Path) -> State:
    plain: State = {}
    for name, value in state.items():
        bare = _strip_compiled(name)
        if bare in plain:
            raise UsageError(f"{path} contains {bare!r} with and without {_COMPILED!r}. Save only one model.")
        plain[bare] = value
    return plain


def _is_compiled(name: str) -> bool:
    return _COMPILED in name.split(".")


def _strip_compiled(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _prefix_pair(model_prefix: list[str], file_prefix: list[str]) -> tuple[str, str]:
    """Returns the prefixes (of all names in the model, of all names in the file) whose removal matches the most names.

    If several pairs match equally many names, returns the shortest.
    """
    pairs = [("", prefix) for prefix in _prefixes(file_prefix)] + [
        (prefix, "") for prefix in _prefixes(model_prefix)[1:]
    ]

    def matches(pair: tuple[str, str]) -> int:
        own = {name.removeprefix(pair[0]) for name in model_prefix}
        return sum(name.removeprefix(pair[1]) in own for name in file_prefix)

    return max(pairs, key=lambda pair: (matches(pair), -len(pair[0]) - len(pair[1])))


def _prefixes(names: Iterable[str]) -> list[str]:
    """Returns all prefixes that end with a dot and are common to all names, beginning with the empty one."""
    split = [name.split(".")[:-1] for name in names]
    shared = [""]
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(f"{shared[-1]}{parts[0]}.")
    return shared


def _fill_shared(model: nn.Module, state: State, path: Path) -> list[str]:
    """Completes the names of shared tensors: if the file has one of the names, the others get the same value."""
    groups: dict[Any, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            groups.setdefault(_identity(tensor), []).append(name)
    notes = []
    for names in groups.values():
        held = [name for name in names if isinstance(state.get(name), Tensor)]
        for other in held[1:]:
            if not _same(state[held[0]], state[other]):
                raise UsageError(
                    f"{held[0]} and {other} are one tensor in the model, but {path} has different values for them. "
                    "Use weights of this model."
                )
        for name in names:
            if held and name not in state:
                state[name] = state[held[0]]
                notes.append(f"{name} was set to {held[0]}, with which it shares memory")
    return notes


def _identity(tensor: Tensor) -> Any:
    if isinstance(tensor, nn.Parameter) or tensor.layout != torch.strided or not tensor.numel() or tensor.is_meta:
        return id(tensor)
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _same(one: Tensor, other: Tensor) -> bool:
    if one is other or one.layout != torch.strided or other.layout != torch.strided or one.is_meta or other.is_meta:
        return True  # these tensors raise an error later
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _check_values(model: nn.Module, state: State, path: Path, allow_nonfinite: bool) -> list[str]:
    """Raises a UsageError for values that loading would change. Returns notes about harmless type conversions."""
    converted: dict[tuple[str, str], list[str]] = {}
    own = model.state_dict()
    for name, given in state.items():
        target = own.get(name)
        if not isinstance(target, Tensor):
            continue
        if not isinstance(given, Tensor):
            raise UsageError(
                f"{path} contains {type(given).__name__} for {name}, not a tensor. Save model.state_dict()."
            )
        if given.shape != target.shape:
            continue  # _load() reports shapes
        problem = _why_not(given, target, allow_nonfinite)
        if problem:
            raise UsageError(f"{name} in {path} {problem}.")
        if given.dtype != target.dtype:
            converted.setdefault((_dtype_name(given.dtype), _dtype_name(target.dtype)), []).append(name)
    return [f"converted {_some(names)} from {old} to {new}" for (old, new), names in converted.items()]


def _why_not(given: Tensor, target: Tensor, allow_nonfinite: bool) -> str | None:
    """Returns why the values cannot be loaded into `target`, and what would work, or None if they can."""
    if target.is_meta:
        return "cannot be loaded, because the model is on the meta device. Build the model on the CPU"
    if given.is_meta:
        return "is on the meta device and has no values. Save the weights of a model on another device"
    if given.layout != torch.strided:
        return f"is sparse ({_dtype_name(given.layout)}). Save tensor.to_dense()"
    if given.is_quantized:
        return f"is quantised ({_dtype_name(given.dtype)}). Save tensor.dequantize()"
    kinds = _kind(given.dtype), _kind(target.dtype)
    if kinds[0] != kinds[1]:
        return (
            f"is {_dtype_name(given.dtype)}, but the model has {_dtype_name(target.dtype)}, another kind of number. "
            f"Save it as {_dtype_name(target.dtype)} if the values are the same"
        )
    if kinds[0] == "bool":
        return None
    given = given.float() if given.dtype.itemsize == 1 and kinds[0] == "floating" else given  # float8 has no isfinite
    loaded = given.to(target.dtype)
    if kinds[0] == "integer":
        changed = (loaded.to(given.dtype) != given) | ((loaded < 0) != (given < 0))
        return _out_of_range(given, changed, target) if bool(changed.any()) else None
    not_finite = ~given.isfinite()
    if not target.dtype.is_complex and bool((~loaded.isfinite() & ~not_finite).any()):
        return _out_of_range(given, ~loaded.isfinite() & ~not_finite, target)
    if allow_nonfinite or not bool(not_finite.any()) or _masks_alike(given, target, not_finite):
        return None
    count, example = int(not_finite.sum()), given[not_finite].flatten()[0].item()
    return (
        f"has {count:,} of {given.numel():,} values that are not finite, such as {example}. Use weights of a training "
        "run that converged, or pass --allow-nonfinite"
    )


def _masks_alike(given: Tensor, target: Tensor, not_finite: Tensor) -> bool:
    """Whether the model has the same values at these positions, as in a buffer with an attention mask."""
    return torch.equal(given[not_finite].to(target.dtype), target.detach().cpu()[not_finite])


def _out_of_range(given: Tensor, where: Tensor, target: Tensor) -> str:
    return (
        f"is {_dtype_name(given.dtype)} and contains {given[where].flatten()[0].item()!r}, which is out of range for "
        f"{_dtype_name(target.dtype)}, the type in the model. Convert the model to the type of the weights, or use "
        "weights in its range"
    )


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_complex:
        return "complex"
    if dtype == torch.bool:
        return "bool"
    return "floating" if dtype.is_floating_point else "integer"


def _load(model: nn.Module, state: State, path: Path) -> None:
    """Loads the state, during which layers check their entries. Then reports missing and unexpected names."""
    own = model.state_dict()
    wrong = [name for name in own if name in state and getattr(state[name], "shape", None) != own[name].shape]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            result = model.load_state_dict({n: v for n, v in state.items() if isinstance(n, str)}, strict=False)
    except EdgefcError as error:
        raise UsageError(f"{path} does not match the model: {error}") from error
    except RuntimeError as error:
        if not wrong:
            raise UsageError(f"{path} does not match the model: {_second_line(error)}.") from None
        result = None
    missing = list(result.missing_keys) if result else sorted(own.keys() - state.keys())
    missing = [name for name in missing if holds_weights(name)]  # layers check seed and configuration themselves
    extra = list(result.unexpected_keys) if result else sorted(state.keys() - own.keys(), key=str)
    extra += [name for name in state if not isinstance(name, str)]
    shapes = [f"{name} ({_shape(state[name])}, not {_shape(own[name])})" for name in wrong]
    for problem, names in (
        ("lacks", missing),
        ("has the unexpected names", extra),
        ("has other shapes for", shapes),
    ):
        if names:
            raise UsageError(
                f"{path} does not match the model: it {problem} {_some(sorted(map(str, names)))}. "
                "Use weights of this model."
            )


def _second_line(error: Exception) -> str:
    """Returns the line after "Error(s) in loading state_dict for ...:" in torch's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shortened(lines[min(1, len(lines) - 1)].rstrip(".")) if lines else type(error).__name__


def _shape(tensor: Any) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar" if isinstance(tensor, Tensor) else type(tensor).__name__


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")

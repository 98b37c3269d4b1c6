"""A torch model as a function of named tensors: what the exporter traces, and what the verifier runs.

    arguments of forward()  ->  Inputs: named tensors, in the order of the file's inputs
    what forward() returns  ->  named tensors, in the order of the file's outputs

Any container that torch's pytree knows may hold the inputs: tuples, named tuples, dicts, registered dataclasses.
Outputs may also stand in mappings and dataclasses that nobody registered.
"""

import dataclasses
import enum
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgefc.errors import ExportError, UsageError

PREFIX = "model."
"""What torch puts before the names of the adapted model's layers and weights."""

_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, enum.Enum,
              range, slice, torch.Size, torch.dtype, torch.device, torch.layout, torch.memory_format)  # fmt: skip

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Inputs:
    """The arguments of one call of a model.

    names      of the tensors, unique, in the order in which they were given: the file's inputs
    tensors    the example of each
    arguments  each argument as it was given, by the name of its parameter
    constants  arguments that are no tensors, by name: the file holds their values
    rebuild    the arguments again, from copies of other tensors in the same order: a model may write to its inputs
    """

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    arguments: tuple[tuple[str, Any], ...]
    constants: Mapping[str, Any]
    rebuild: Callable[[Sequence[Tensor]], Arguments]


class Adapter(nn.Module):
    """The model behind a forward() that takes the tensors of `inputs` in order and returns named tensors.

    extra holds keyword arguments that every call gets beside the inputs.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.model, self.inputs, self.extra = model, inputs, dict(extra or {})
        self.training = model.training

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        return self.named(self.call(*tensors))

    def call(self, *tensors: Tensor) -> Any:
        """What the model itself returns."""
        args, kwargs = self.inputs.rebuild(tensors)
        return self.model(*args, **kwargs, **self.extra)

    def named(self, result: Any) -> dict[str, Tensor]:
        """The tensors in what the model returned, by the names of the file's outputs.

        Raises:
            ExportError: there is no tensor in it, or a complex one.
        """
        found = named_outputs(result)
        if not found:
            raise ExportError(
                f"{type(self.model).__name__} returns no tensor but a {type(result).__name__}. "
                "Export a model that returns tensors, or containers of them."
            )
        for name, tensor in found.items():
            if tensor.is_complex():
                raise ExportError(
                    f"output {name!r} is {tensor.dtype}, which onnxruntime does not give. Return "
                    "torch.view_as_real(y), or y.real and y.imag."
                )
        return found


def named_inputs(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
    """The tensors of a call by the names of forward's parameters: x, batch_mask, several_0.

    Raises:
        UsageError: no tensor, one that a file cannot take, or an argument of a type that may hold tensors and that
            torch's pytree does not know.
    """
    parameters = _parameters(model)
    found, spec = pytree.tree_flatten_with_path((args, dict(kwargs)))
    leaves = [leaf for _, leaf in found]
    names = _unique([_input_name(path, parameters) for path, _ in found])
    places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    constants = {names[index]: leaf for index, leaf in enumerate(leaves) if index not in places}
    for name, value in constants.items():
        if not isinstance(value, _CONSTANTS):
            raise UsageError(
                f"argument {name!r} is a {type(value).__name__}, whose tensors torch's pytree cannot find. "
                "Give tensors, numbers or containers of them; register a dataclass of your own with "
                "torch.export.register_dataclass."
            )
    if not places:
        raise UsageError("args hold no tensor. Give the model's example inputs, such as (torch.randn(2, 64),).")

    for index in places:
        _check_plain(names[index], leaves[index])

    def rebuild(tensors: Sequence[Tensor]) -> Arguments:
        values = list(leaves)
        for index, tensor in zip(places, tensors, strict=True):
            values[index] = tensor if torch.compiler.is_exporting() else tensor.clone()
        rebuilt: Arguments = pytree.tree_unflatten(values, spec)
        return rebuilt

    return Inputs(
        names=tuple(names[index] for index in places),
        tensors=tuple(leaves[index] for index in places),
        arguments=_arguments(args, kwargs, parameters),
        constants=constants,
        rebuild=rebuild,
    )


def _check_plain(name: str, tensor: Tensor) -> None:
    """Refuse an input that onnxruntime has no type for, or that has no values."""
    if tensor.is_complex():
        raise UsageError(
            f"input {name!r} is {tensor.dtype}, which onnxruntime does not take. Give the model real numbers, such as "
            "torch.view_as_real(x), and let forward make complex ones of them."
        )
    if tensor.layout != torch.strided or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else str(tensor.layout)
        raise UsageError(f"input {name!r} is {kind}, and a file takes ordinary tensors. Give a dense one.")
    if tensor.is_meta:
        raise UsageError(f"input {name!r} is on the meta device and has no values. Give one with values.")


def named_outputs(result: Any) -> dict[str, Tensor]:
    """Every tensor in what a model returned, in order.

    Fields of mappings, dataclasses and named tuples give the name: logits, hidden_states.0. A lone tensor is
    "output"; tensors without a field are output_0, output_1, ...
    """
    found = [(path, leaf) for path, leaf in _walk(result, ()) if isinstance(leaf, Tensor)]
    names = [_output_name(path, index, len(found)) for index, (path, _) in enumerate(found)]
    return dict(zip(_unique(names), (leaf for _, leaf in found), strict=True))


def left_out(result: Any) -> list[str]:
    """A sentence for each value in what a model returned that is no tensor and that the file will not hold."""
    return [
        f"output {'.'.join(map(str, path)) or 'of the model'} is the {type(leaf).__name__} {leaf!r}, not a tensor: "
        "the file does not have it"
        for path, leaf in _walk(result, ())
        if isinstance(leaf, bool | int | float | str)
    ]


def own_name(name: str) -> str:
    """The name that the model itself has for what the adapter calls `name`."""
    return "" if name == PREFIX[:-1] else name.removeprefix(PREFIX)


def cache_layers(value: object) -> list[Any] | None:
    """The layers of a cache of keys and values as transformers makes them, or None where it is no such cache."""
    if not any(
        kind.__module__ == "transformers.cache_utils" and kind.__name__ == "Cache" for kind in type(value).__mro__
    ):
        return None
    layers: list[Any] = list(getattr(value, "layers", ()))
    return layers


def _walk(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The leaves of nested containers and where they stand: fields by name, items by number."""
    layers = cache_layers(value)
    if layers is not None:
        for index, layer in enumerate(layers):
            yield ("present", index, "key"), layer.keys
            yield ("present", index, "value"), layer.values
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, (*path, str(key)))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _walk(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name, item in zip(value._fields, value, strict=True):
            yield from _walk(item, (*path, name))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(item, (*path, index))
    elif not isinstance(value, Tensor) and type(value) in pytree.SUPPORTED_NODES:
        for keys, leaf in pytree.tree_flatten_with_path(value)[0]:
            yield (*path, *(_part(key) for key in keys)), leaf
    else:
        yield path, value


def _part(key: Any) -> str | int:
    """One step of a pytree's path: a field's name, a key, or a number."""
    for attribute in ("idx", "key", "name"):
        if hasattr(key, attribute):
            part = getattr(key, attribute)
            return part if isinstance(part, int) else str(part)
    return str(key)


def _output_name(path: tuple[str | int, ...], index: int, count: int) -> str:
    if all(isinstance(part, int) or not part for part in path):
        return "output" if count == 1 else f"output_{index}"
    first = f"output_{path[0]}" if isinstance(path[0], int) else path[0]
    return ".".join([first, *map(str, path[1:])])


def _input_name(path: tuple[Any, ...], parameters: list[inspect.Parameter]) -> str:
    by_keyword, first, *rest = (_part(key) for key in path)
    name = str(first)
    if not by_keyword:
        assert isinstance(first, int)
        plain, star = _positional(parameters)
        name = plain[first] if first < len(plain) else f"{star}_{first - len(plain)}"
    return re.sub(r"\W", "_", "_".join([name, *map(str, rest)]))


def _arguments(
    args: tuple[Any, ...], keywords: Mapping[str, Any], parameters: list[inspect.Parameter]
) -> tuple[tuple[str, Any], ...]:
    plain, star = _positional(parameters)
    rest = ((star, args[len(plain) :]),) if len(args) > len(plain) else ()
    return (*zip(plain, args, strict=False), *rest, *keywords.items())


def _positional(parameters: list[inspect.Parameter]) -> tuple[list[str], str]:
    """The names of the parameters that take one positional argument, and of the one that takes all others."""
    plain = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return plain, next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), "input")


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # built in, or compiled
        return []


def _unique(names: Sequence[str]) -> list[str]:
    """The same names, with a number behind those that stand there already."""
    taken: set[str] = set()
    result = []
    for name in names:
        number, candidate = 1, name
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        result.append(candidate)
    return result

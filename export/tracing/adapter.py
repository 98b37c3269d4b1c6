"""Presents a torch model as a function of named tensors, which the exporter traces and the verifier runs.

    arguments of forward()  ->  Inputs: named tensors, in the order of the file's inputs
    result of forward()     ->  named tensors, in the order of the file's outputs

Inputs can be in any container that torch's pytree supports: tuples, named tuples, dicts, registered dataclasses.
Outputs can also be in mappings and dataclasses that are not registered.
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
"""The prefix that torch adds to the names of layers and weights of the adapted model."""

_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, enum.Enum,
              range, slice, torch.Size, torch.dtype, torch.device, torch.layout, torch.memory_format)  # fmt: skip

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Inputs:
    """The arguments of one call of a model.

    names      unique names of the tensors in the order of the arguments: the file's inputs
    tensors    the example tensors
    arguments  each argument as given, with the name of its parameter
    constants  arguments that are not tensors, by name: the file stores their values
    rebuild    returns the arguments for other tensors in the same order. Copies them: a model may write to its inputs
    """

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    arguments: tuple[tuple[str, Any], ...]
    constants: Mapping[str, Any]
    rebuild: Callable[[Sequence[Tensor]], Arguments]


class Adapter(nn.Module):
    """Wraps a model: forward() takes the tensors of `inputs` in order and returns named tensors.

    extra contains additional keyword arguments for every call.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.model, self.inputs, self.extra = model, inputs, dict(extra or {})
        self.training = model.training

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        return self.named(self.call(*tensors))

    def call(self, *tensors: Tensor) -> Any:
        """Returns the result of the wrapped model."""
        args, kwargs = self.inputs.rebuild(tensors)
        return self.model(*args, **kwargs, **self.extra)

    def named(self, result: Any) -> dict[str, Tensor]:
        """Returns the tensors in the result of the model, by the names of the file's outputs.

        Raises:
            ExportError: the result contains no tensor, or a complex one.
        """
        outputs = named_outputs(result)
        if not outputs:
            raise ExportError(
                f"{type(self.model).__name__} must return tensors, got {type(result).__name__}. "
                "Export a model that returns tensors, or containers of them."
            )
        for name, tensor in outputs.items():
            if tensor.is_complex():
                raise ExportError(
                    f"output {name!r} is {tensor.dtype}, which onnxruntime does not support as an output. Return "
                    "torch.view_as_real(y), or y.real and y.imag."
                )
        return outputs


def named_inputs(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
    """Names the tensors of a call after the parameters of forward: x, batch_mask, several_0.

    Raises:
        UsageError: no tensor, an unsupported tensor, or an argument whose type could contain tensors and is not
            supported by torch's pytree.
    """
    parameters = _parameters(model)
    entries, spec = pytree.tree_flatten_with_path((args, dict(kwargs)))
    leaves = [leaf for _, leaf in entries]
    names = _unique([_input_name(path, parameters) for path, _ in entries])
    tensor_indices = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    constants = {names[index]: leaf for index, leaf in enumerate(leaves) if index not in tensor_indices}
    for name, value in constants.items():
        if not isinstance(value, _CONSTANTS):
            raise UsageError(
                f"argument {name!r} is a {type(value).__name__}, a type that torch's pytree does not support. "
                "Pass tensors, numbers or containers of them. Register your own dataclasses with "
                "torch.export.register_dataclass."
            )
    if not tensor_indices:
        raise UsageError("args contain no tensor. Pass example inputs of the model, such as (torch.randn(2, 64),).")

    for index in tensor_indices:
        _check_plain(names[index], leaves[index])

    def rebuild(tensors: Sequence[Tensor]) -> Arguments:
        values = list(leaves)
        for index, tensor in zip(tensor_indices, tensors, strict=True):
            values[index] = tensor if torch.compiler.is_exporting() else tensor.clone()
        rebuilt: Arguments = pytree.tree_unflatten(values, spec)
        return rebuilt

    return Inputs(
        names=tuple(names[index] for index in tensor_indices),
        tensors=tuple(leaves[index] for index in tensor_indices),
        arguments=_arguments(args, kwargs, parameters),
        constants=constants,
        rebuild=rebuild,
    )


def _check_plain(name: str, tensor: Tensor) -> None:
    """Raises a UsageError for an input whose type onnxruntime does not support, or that has no values."""
    if tensor.is_complex():
        raise UsageError(
            f"input {name!r} is {tensor.dtype}, which onnxruntime does not support as an input. Pass real numbers, "
            "such as torch.view_as_real(x), and convert them to complex numbers in forward."
        )
    if tensor.layout != torch.strided or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else str(tensor.layout)
        raise UsageError(f"input {name!r} is {kind}, which is not supported. Pass a dense tensor.")
    if tensor.is_meta:
        raise UsageError(f"input {name!r} is on the meta device and has no values. Pass a tensor with values.")


def named_outputs(result: Any) -> dict[str, Tensor]:
    """Returns every tensor in the result of a model, in order.

    Names come from the fields of mappings, dataclasses and named tuples: logits, hidden_states.0. A single tensor is
    "output". Several tensors without a field are output_0, output_1, ...
    """
    outputs = [(path, leaf) for path, leaf in _walk(result, ()) if isinstance(leaf, Tensor)]
    names = [_output_name(path, index, len(outputs)) for index, (path, _) in enumerate(outputs)]
    return dict(zip(_unique(names), (leaf for _, leaf in outputs), strict=True))


def left_out(result: Any) -> list[str]:
    """Returns a note for each value in the result of a model that is not a tensor. The file does not contain it."""
    return [
        f"output {'.'.join(map(str, path)) or 'of the model'} is the {type(leaf).__name__} {leaf!r}, not a tensor: "
        "the file does not contain it"
        for path, leaf in _walk(result, ())
        if isinstance(leaf, bool | int | float | str)
    ]


def own_name(name: str) -> str:
    """Converts a module name of the adapter to the name within the wrapped model."""
    return "" if name == PREFIX[:-1] else name.removeprefix(PREFIX)


def cache_layers(value: object) -> list[Any] | None:
    """Returns the layers of a key-value cache of transformers, or None if `value` is not such a cache."""
    if not any(
        kind.__module__ == "transformers.cache_utils" and kind.__name__ == "Cache" for kind in type(value).__mro__
    ):
        return None
    layers: list[Any] = list(getattr(value, "layers", ()))
    return layers


def _walk(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Iterates over the leaves of nested containers with their paths: names of fields and indices of items."""
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
    """Returns one step of a pytree path: the name of a field, a key, or an index."""
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
    """Returns the names of the parameters for single positional arguments, and the name of *args."""
    plain = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return plain, next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), "input")


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # a built-in or compiled function
        return []


def _unique(names: Sequence[str]) -> list[str]:
    """Makes names unique by appending numbers to repeated ones."""
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

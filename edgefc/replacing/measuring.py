"""Measures the outputs of a model, and the numbers that its layers store."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from edgefc.errors import CheckFailed, EdgefcError, UsageError, describe_error
from edgefc.layers.common.checkpoint import holds_weights
from edgefc.replacing.report import OutputReport
from edgefc.replacing.statistics import Batch, call, evaluating, mask_of

Outputs = dict[str, Tensor]


def outputs_of(model: nn.Module, batches: Sequence[Batch]) -> list[Outputs]:
    """Returns the floating-point outputs of each batch in eval mode, by name, on the CPU.

    Of an output (N, S, ...), the positions where attention_mask (N, S) is 0 are left out, unless it is 0 everywhere.
    """
    with evaluating(model):
        return [
            {name: unpadded(each, mask_of(batch)).cpu() for name, each in named(call(model, batch))}
            for batch in batches
        ]


def unpadded(output: Tensor, mask: Tensor | None) -> Tensor:
    """Returns an output without the positions that are padding: (N, S, ...) becomes (positions, ...)."""
    if mask is None or output.shape[:2] != mask.shape or not bool(mask.any()):
        return output
    return output[mask.to(output.device)]


def outputs_after(model: nn.Module, batches: Sequence[Batch]) -> list[Outputs]:
    """outputs_of() of a replaced model.

    Raises:
        UsageError: the model does not run, for example because it reads the weight of a layer.
    """
    try:
        return outputs_of(model, batches)
    except EdgefcError as error:
        cause = error.__cause__ or error
        raise UsageError(
            f"the replaced model does not run: {describe_error(cause)}. The model is as before. Keep that layer."
        ) from error


def changes(before: Sequence[Outputs], after: Sequence[Outputs], *, held_out: bool) -> tuple[OutputReport, ...]:
    """Compares the outputs of the same batches.

    Raises:
        UsageError: the outputs of a batch differ from run to run in their names or shapes, or were not finite before.
        CheckFailed: an output has values that are not finite where it had finite ones.
    """
    result = []
    for name in before[0] if before else ():
        error = spread = cosines = 0.0
        vectors, single = 0, False
        for old, new in zip(before, after, strict=True):
            a, b = _pair(name, old, new)
            a, b = (torch.where(a.isfinite(), each, 0.0) for each in (a, b))
            error += float((a - b).square().sum())
            spread += float(a.square().sum())
            single |= a.ndim < 2 or a.shape[-1] < 2
            if not single:
                rows = torch.nn.functional.cosine_similarity(a, b, -1)
                cosines, vectors = cosines + float(rows.sum()), vectors + rows.numel()
            else:
                vectors += a.numel()
        relative = (error / spread) ** 0.5 if spread else (0.0 if error == 0 else float("inf"))
        result.append(OutputReport(name, vectors, relative, None if single else cosines / max(1, vectors), held_out))
    return tuple(result)


def _pair(name: str, old: Outputs, new: Outputs) -> tuple[Tensor, Tensor]:
    """One output of one batch before and after, in float64."""
    what = f"the output {name}" if name else "the output of the model"
    if name not in old or name not in new or old[name].shape != new[name].shape:
        raise UsageError(
            f"{what} has another name or shape in each run, so that the model before and after cannot be compared. "
            "Give batches of one form, or leave calibration out."
        )
    a, b = old[name].double(), new[name].double()
    if not bool(a.isfinite().any()):
        raise UsageError(
            f"{what} is not finite before any layer is replaced. Check the model and the calibration data."
        )
    if bool((a.isfinite() & ~b.isfinite()).any()):
        raise CheckFailed(f"{what} is not finite any more in the replaced model. Use more bits.")
    return a, b


def named(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields the floating-point tensors in a nested output, each with its name."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.numel():
            yield name, value
        return
    if dataclasses.is_dataclass(value) and not hasattr(value, "items"):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if hasattr(value, "items"):
        pairs = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, tuple | list):
        pairs = [(str(index), part) for index, part in enumerate(value)]
    else:
        return
    for key, part in pairs:
        yield from named(part, f"{name}.{key}" if name else key)


def numbers_of(module: nn.Module) -> int:
    """Returns how many numbers a layer stores. A code of a few bits is one number."""
    counts = (getattr(part, "stored_numbers", None) for part in module.modules())
    stored: int = sum(count() for count in counts if callable(count))
    return stored + sum(each.numel() for each in module.parameters() if not is_lazy(each))


def bytes_of(module: nn.Module) -> int:
    """Returns the bytes of the weights in a file of the module's state dict. Shared tensors count once."""
    tensors = {id(each): each for name, each in module.state_dict(keep_vars=True).items() if holds_weights(name)}
    return sum(each.nbytes for each in tensors.values() if isinstance(each, Tensor) and not is_lazy(each))

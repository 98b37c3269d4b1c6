"""Inputs other than the examples, of the same shapes and the same kind of values."""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgefc.export.examples import Inputs, tensors


def drawn_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs | None:
    """Inputs drawn from a fixed seed, or None where no tensor could be changed.

    Floating-point tensors are drawn uniformly between the smallest and the largest value of the example; a constant
    tensor c becomes c times a number between 0.5 and 1.5, and a tensor of zeros becomes normal numbers. Integers are
    drawn between the smallest and the largest value of the example, so that tokens stay within the vocabulary. Integers
    and floating-point numbers of 0 and 1 only are masks, and constant integers are kinds or lengths: both stay.
    """
    generator = torch.Generator().manual_seed(0)
    result: Inputs = pytree.tree_map(
        lambda leaf: _drawn(leaf, generator) if isinstance(leaf, Tensor) and leaf.numel() else leaf, (args, kwargs)
    )
    pairs = zip(tensors((args, kwargs)), tensors(result), strict=True)
    return None if all(before is after for before, after in pairs) else result


def _drawn(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if tensor.dtype == torch.bool or tensor.is_complex():
        return tensor
    low, high = tensor.min(), tensor.max()
    constant, mask = bool(low == high), bool(((tensor == 0) | (tensor == 1)).all())
    if not tensor.is_floating_point():
        if constant or mask:
            return tensor
        first, last = max(int(low), -(2**62)), min(int(high), 2**62)
        return torch.randint(first, last + 1, tensor.shape, generator=generator).to(tensor)
    if mask and not constant:
        return tensor
    finite = tensor[tensor.isfinite()].double()
    if len(finite) < tensor.numel():
        return tensor
    if constant and not finite.any():
        return torch.randn(tensor.shape, generator=generator).to(tensor)
    if constant:
        return (tensor * (0.5 + torch.rand(tensor.shape, generator=generator).to(tensor.device))).to(tensor)
    share = torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
    return (low.double() + share * (high.double() - low.double())).to(tensor)

"""Random inputs with the shapes and the kinds of values of the examples."""

from collections.abc import Sequence

import torch
from torch import Tensor


def drawn_inputs(inputs: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
    """Returns random inputs from a fixed seed, or None if no tensor can be changed.

    Floating-point tensors are drawn uniformly between the smallest and the largest value of the example. A constant
    tensor c becomes c times a number between 0.5 and 1.5, and a tensor of zeros becomes standard normal. Integers are
    drawn between the smallest and the largest value of the example, so that tokens stay within the vocabulary. Tensors
    with only 0 and 1 are treated as masks, and constant integers as types or lengths. Both are not changed.
    """
    generator = torch.Generator().manual_seed(0)
    result = tuple(_drawn(tensor, generator) if tensor.numel() else tensor for tensor in inputs)
    return None if all(before is after for before, after in zip(inputs, result, strict=True)) else result


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

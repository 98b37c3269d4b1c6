"""Stores a weight in fewer bits, whatever uses it: float16 and Cast, or 8 bits, Cast, Mul and Reshape.

The stored tensor itself is replaced, and the nodes after it stay. Therefore this works for every operator, for shared
weights and for weights that are transposed or cut into slices before they are used.

onnxruntime computes nodes of a constant when it loads the file. Therefore the speed does not change, and the
weight has its original size in memory. It does not do so for DequantizeLinear, which then runs at every call, and a
convolution after it loses its optimised layout: 12.8 ms instead of 9.2 ms for 256 to 512 channels, kernel 5, length
512; 31 us instead of 12.5 us for a step of an LSTM with 128 units (onnxruntime 1.31.1, 1 thread, x86-64 with AVX-512).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgefc.errors import UsageError
from edgefc.fitting.half import to_half
from edgefc.fitting.moments import Moments
from edgefc.fitting.quantized import QuantizedFit, fit_quantized
from edgefc.rewriting.constants import FLOATS, Array, Root, array_of, attribute, is_constant, tensor_of
from edgefc.rewriting.editing import Editor
from edgefc.rewriting.finding import LINEAR, MATRIX, RECURRENT, Place, is_direct

_SMALLEST_GROUP = 16


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor in another form.

    Attributes:
        codes    the numbers in float16, or codes (rows, groups, size) int8
        scales   (rows, groups, 1); None for float16
        shape    of the tensor with its axes in the order `axes`
        correction  of the bias, for the mean of the inputs; None without moments
    """

    codes: Array
    scales: Array | None = None
    shape: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()
    correction: Array | None = None

    def values(self) -> Array:
        """The numbers that it stands for, in the shape of the tensor."""
        if self.scales is None:
            return self.codes
        numbers = self.codes.astype(np.float32) * self.scales.astype(np.float32)
        result: Array = numbers.reshape(self.shape).transpose(np.argsort(self.axes))
        return result


def in_half(root: Root) -> Stored:
    """A tensor in float16.

    Raises:
        UsageError: a value is NaN, infinite or larger than float16 can hold, or the tensor has 16 bits or fewer.
    """
    half = to_half(_numbers(root, 2))
    return Stored(half)


def in_int8(root: Root, places: Sequence[Place], group: int, moments: Moments | None = None) -> Stored:
    """A tensor in 8 bits. Up to `group` numbers that one output sums share a scale.

    Args:
        moments: of the vectors that the weight multiplies, in the order of its rows.

    Raises:
        UsageError: a value is NaN or infinite, or the tensor has 8 bits or fewer.
    """
    weight = _numbers(root, 1)
    axes = _outputs_first(places, weight.ndim)
    rows = weight.transpose(axes).reshape(weight.shape[axes[0]], -1)
    codes, scales, fitted = quantize(rows, group, moments)
    shape = tuple(weight.shape[axis] for axis in axes)
    return Stored(codes, scales, shape, axes, None if moments is None else fitted.bias)


def store(root: Root, stored: Stored, edit: Editor) -> None:
    """Lets the nodes that use a tensor use its new form."""
    dtype = tensor_of(root.value).dtype
    name = root.value.name or "weight"

    def constant(what: str, array: Array) -> ir.Value:
        return edit.initializer(root.graph, f"{name}.{what}", array)

    def node(op: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        return edit.node(root.graph, op, inputs, attributes)

    new = node("Cast", [constant("half" if stored.scales is None else "codes", stored.codes)], to=dtype)
    if stored.scales is not None:
        scales = node("Cast", [constant("scales", stored.scales)], to=dtype)
        new = node("Reshape", [node("Mul", [new, scales]), constant("shape", np.array(stored.shape))])
        if list(stored.axes) != sorted(stored.axes):
            new = node("Transpose", [new], perm=np.argsort(stored.axes).tolist())
    edit.replace(root.value, new)


def correct_bias(place: Place, correction: Array, edit: Editor) -> None:
    """Adds a correction (m,) to the bias of a Conv. A bias that is not constant stays."""
    total = corrected_bias(place, correction)
    if total is not None:
        set_bias(place.node, edit.initializer(place.graph, f"{place.name}.bias", total))


def corrected_bias(place: Place, correction: Array) -> Array | None:
    """The bias of a Conv plus a correction (m,), in the type of the node; None for a bias that is not constant."""
    old = place.node.inputs[2] if len(place.node.inputs) > 2 else None
    if old is not None and not is_constant(old):
        return None
    total = correction if old is None else array_of(old).astype(np.float64) + correction
    result: Array = total.astype(place.dtype.numpy())
    return result


def set_bias(node: ir.Node, bias: ir.Value) -> None:
    """Lets a Conv read another bias."""
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, bias)


def quantize(rows: Array, group: int, moments: Moments | None = None) -> tuple[Array, Array, QuantizedFit]:
    """Quantises rows (m, n) in 8 bits, with a scale for each group of a row.

    A group has the largest number of columns that divides n and is at most `group`. If that is small, there is one
    group for each row.

    Returns:
        codes int8 (m, G, n / G), scales float16 (m, G, 1), and the fit, whose bias is the correction for the mean.
    """
    m, n = rows.shape
    size = max(each for each in range(1, min(group, n) + 1) if n % each == 0)
    fitted = fit_quantized(rows, np.zeros(m), moments, 8, size if size >= _SMALLEST_GROUP else n)
    codes = (fitted.codes.astype(np.int16) - 128).astype(np.int8)
    return codes.reshape(m, -1, fitted.group), fitted.scales[..., None], fitted


def _outputs_first(places: Sequence[Place], axes: int) -> tuple[int, ...]:
    """The axes of a tensor with that of the outputs first: of each of them, the node sums over all other axes.

    The layout of torch has it first. Another order is known only if a single node reads the tensor as it is.
    """
    first = 0
    if len({(id(place.node), place.index) for place in places}) == 1 and is_direct(places[0]):
        place = places[0]
        if place.kind == RECURRENT:
            first = 1
        elif place.kind in (LINEAR, MATRIX):
            first = (-1 if _input_axis(place) == -2 else -2) % axes
        elif place.node.op_type == "ConvTranspose":
            first = 1
    return (first, *(axis for axis in range(axes) if axis != first))


def _input_axis(place: Place) -> int:
    """The axis of a constant of MatMul or Gemm along which it is multiplied and summed."""
    name = "transB" if place.index else "transA"
    transposed = place.node.op_type == "Gemm" and bool(attribute(place.node, name, 0))
    return -1 if (place.index == 1) == transposed else -2


def _numbers(root: Root, width: int) -> Array:
    """The numbers of a tensor in float64, if they take more than `width` bytes each."""
    tensor = tensor_of(root.value)
    if tensor.dtype not in FLOATS or tensor.dtype.itemsize <= width:
        raise UsageError(f"it is stored in {tensor.dtype.name.lower()} already")
    numbers: Array = tensor.numpy().astype(np.float64)
    if not np.isfinite(numbers).all():
        raise UsageError("it has values that are NaN or infinite")
    return numbers

"""Dense convolutions with the attributes kernel_shape, strides, pads, dilations and groups."""

import numpy as np
import onnx_ir as ir

from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.reference import Array, Attributes


def convolve(op: Body, x: ir.Value, kernel: ir.Value, bias: ir.Value) -> ir.Value:
    """x (B, C, h, w), kernel (M, C / groups, kh, kw), bias (M,) -> (B, M, h', w')."""
    window = {name: op.reference(name, tuple) for name in ("kernel_shape", "strides", "pads", "dilations")}
    return op.Conv(x, kernel, bias, group=op.reference("groups", name="group"), **window)


def compute_conv(attributes: Attributes, x: Array, kernel: Array, bias: Array) -> Array:
    """The same in numpy float64."""
    groups = attributes["groups"]
    strides, pads, dilations = (attributes[name] for name in ("strides", "pads", "dilations"))
    parts = [
        reference.convolve(images, kernels, strides, pads, dilations)
        for images, kernels in zip(np.split(x, groups, axis=1), np.split(kernel, groups), strict=True)
    ]
    result: Array = np.concatenate(parts, axis=1) + bias[:, None, None]
    return result

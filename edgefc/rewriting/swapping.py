"""Runs a model with other weights, without a new session for each of them.

In a copy of the model, the weights of all units are inputs with default values, and each product with a weight adds
a bias of zeros that is an input too. A run gives new values for the units that are replaced. The nodes stay those of
the given model: a product with a fitted layer runs as one dense product with the matrix that the fit stands for, and
weights in 8 bits run as the numbers that they stand for.

The outputs differ from those of the written file by the rounding of inputs. onnxruntime rounds the inputs of products
with 4-bit and 8-bit weights to 8 bits, which adds 1e-6 to 2e-5 to a loss for each of them: more than the weights of 8
bits do, and less than those of 4 bits. In MiniLM with 30 products in 8 bits, a loss of 2.1e-4 became 9.4e-4.
In a model of 16 bits, the nodes of fitted layers compute in float32 in the written file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgefc.rewriting.constants import Array, array_of, attribute, tensor_of
from edgefc.rewriting.editing import Editor
from edgefc.rewriting.feeds import Feeds
from edgefc.rewriting.finding import TABLE, Place, find
from edgefc.rewriting.fits import New, is_plain_convolution, tensors_of
from edgefc.rewriting.storage import corrected_bias, set_bias
from edgefc.runtime import failures
from edgefc.runtime.presets import CPU_ONLY, session_options, settings
from edgefc.runtime.signature import check_feeds, tensor_info_of
from edgefc.temporary import folder

Values = Mapping[str, Array]
"""New values of some inputs that stand for weights, by their names."""


@dataclass(frozen=True)
class Slot:
    """The inputs that stand for the weights of one unit.

    Attributes:
        read     whether the input is the weight as the nodes read it; otherwise there is one for each stored tensor
        weights  the names of these inputs
        bias     the name of the input that is added to the product, or is the bias of a convolution; "" without one
    """

    read: bool
    weights: tuple[str, ...]
    bias: str = ""

    def values(self, places: Sequence[Place], new: New) -> dict[str, Array]:
        """The values of the inputs for a fit.

        Args:
            places: of the unit, in a model that is not changed.

        Raises:
            ModelError: an operator between a stored tensor and its node has invalid inputs.
        """
        place = places[0]
        if new.fitted is None:
            return self._stored(places, new)
        dense = new.fitted.dense()
        if place.kind == TABLE:
            return self._named(place, [dense])
        correction = np.zeros(len(dense)) if new.fitted.bias is None else new.fitted.bias
        return self._named(place, [_as_read(place, dense)], correction)

    def _stored(self, places: Sequence[Place], new: New) -> dict[str, Array]:
        place, tensors = places[0], tensors_of(places)
        arrays = [stored.values().astype(tensor_of(root.value).dtype.numpy())
                  for root, stored in zip(tensors, new.stored, strict=True)]  # fmt: skip
        if self.read:
            known = {id(root.value): array for root, array in zip(tensors, arrays, strict=True)}
            return self._named(place, [array_of(place.value, known)])
        correction = new.stored[0].correction
        return self._named(place, arrays, None if correction is None else corrected_bias(place, correction))

    def _named(self, place: Place, arrays: Sequence[Array], bias: Array | None = None) -> dict[str, Array]:
        named = dict(zip(self.weights, arrays, strict=True)) | ({} if bias is None else {self.bias: bias})
        return {name: np.ascontiguousarray(array, _wide(place).numpy()) for name, array in named.items()}


class Swapper:
    """One session of a model whose weights are inputs with default values.

    Attributes:
        slots    for each unit
        outputs  the names of the outputs, in the order of the model

    Args:
        model    as read() gives it; it is changed
        groups   for each unit, the indices of its places among those of find()
        read     for each unit, whether its nodes can be replaced: see Slot.read
        path     of the model, for messages

    Raises:
        ModelError: onnxruntime cannot load the model.
    """

    def __init__(
        self, model: ir.Model, groups: Sequence[Sequence[int]], read: Sequence[bool], *, path: Path, threads: int
    ) -> None:
        self._path = path
        self.outputs = tuple(output.name or "" for output in model.graph.outputs)
        places, opening = find(model), _Opening(model)
        self.slots = tuple(
            opening.slot([places[at] for at in group], direct) for group, direct in zip(groups, read, strict=True)
        )
        RemoveUnusedNodesPass()(model)
        with folder("edgefc-swap-") as place:
            ir.save(model, place / "swap.onnx", external_data="swap.data")
            try:
                options = session_options(settings("latency", threads))
                self._session = ort.InferenceSession(str(place / "swap.onnx"), options, **CPU_ONLY)
            except Exception as error:  # onnxruntime's exceptions share no base class
                raise failures.load_error(path, error) from None
        self._inputs = [tensor_info_of(each) for each in self._session.get_inputs()]  # without those that have defaults

    def run(self, feeds: Feeds, values: Values) -> list[Array]:
        """The outputs, in the order of the model.

        Raises:
            UsageError: the feeds do not match the inputs.
            ModelError: onnxruntime fails.
        """
        given = check_feeds(feeds, self._inputs)
        try:
            found: list[Array] = self._session.run(list(self.outputs), {**given, **values})
        except Exception as error:  # as above
            raise failures.run_error(self._path, error) from None
        return found


class _Opening:
    """Lets inputs stand for the weights of a model."""

    def __init__(self, model: ir.Model) -> None:
        self._graph, self._edit = model.graph, Editor(model)

    def slot(self, places: Sequence[Place], read: bool) -> Slot:
        return self._read(places) if read else self._tensors(places)

    def _read(self, places: Sequence[Place]) -> Slot:
        first, array = places[0], places[0].array()
        name, weight = self._input(first, "weight", array)
        for place in places:
            place.node.replace_input_with(place.index, weight)
        if first.kind == TABLE:
            return Slot(True, (name,))
        outputs = len(_as_read(first, array))
        called, bias = self._input(first, "bias", np.zeros(outputs))
        for place in places:
            y = place.node.outputs[0]
            added = self._edit.node(place.graph, "Add", [y, bias], after=place.node)
            self._edit.replace(y, added)
            added.producer().replace_input_with(0, y)  # type: ignore[union-attr]
        return Slot(True, (name,), called)

    def _tensors(self, places: Sequence[Place]) -> Slot:
        first, names = places[0], list[str]()
        called = ""
        if is_plain_convolution(places):
            zeros = corrected_bias(first, np.zeros(first.shape[0]))
            if zeros is not None:
                called, bias = self._input(first, "bias", zeros)
                set_bias(first.node, bias)
        for root in tensors_of(places):
            tensor = tensor_of(root.value)
            name, value = self._input(first, "tensor", tensor.numpy(), tensor.dtype)
            self._edit.replace(root.value, value)
            names.append(name)
        return Slot(False, tuple(names), called)

    def _input(self, place: Place, what: str, array: Array, dtype: ir.DataType | None = None) -> tuple[str, ir.Value]:
        """An input with a default value, and the value in the type that is read: numpy has no bfloat16."""
        wide, dtype = _wide(place), dtype or place.dtype
        made = self._edit.initializer(self._graph, f"edgefc.{what}", np.ascontiguousarray(array, wide.numpy()))
        self._graph.inputs.append(made)
        assert made.name is not None
        return made.name, made if dtype == wide else self._edit.node(self._graph, "Cast", [made], {"to": dtype})


def _wide(place: Place) -> ir.DataType:
    """The type of the inputs."""
    return ir.DataType.DOUBLE if place.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT


def _as_read(place: Place, weight: Array) -> Array:
    """A weight (m, n) in the layout that its node reads, or the other way round, without the factor of a Gemm."""
    if place.node.op_type == "MatMul":
        return weight.T
    scaled = weight / float(attribute(place.node, "alpha", 1.0))
    return scaled if attribute(place.node, "transB", 0) else scaled.T

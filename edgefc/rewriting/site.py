"""A place in a graph where a node is replaced by a fitted layer, and the tensors and nodes that can be added there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.fitting.fitted import Fitted
from edgefc.fitting.rotation import block_of
from edgefc.rewriting.editing import Editor
from edgefc.rewriting.finding import Place
from edgefc.rewriting.functions import Functions

Array = NDArray[Any]


@dataclass
class Stores:
    """What the sites of one model share.

    Attributes:
        tensors  by fit and name, with the fit, so that its id stays its own
        rotated  rotated inputs by input, seed and graph, with the input
    """

    edit: Editor
    functions: Functions
    tensors: dict[tuple[int, str], tuple[Fitted, ir.Value]] = field(default_factory=dict)
    rotated: dict[tuple[int, int, int], tuple[ir.Value, ir.Value]] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """Adds tensors and nodes in front of the node `before`. Their names begin with that of the place."""

    stores: Stores
    place: Place
    before: ir.Node

    @property
    def name(self) -> str:
        return self.place.node.name or self.place.name

    def own(self, what: str, array: Array) -> ir.Value:
        """Stores a tensor of this site."""
        return self.stores.edit.initializer(self.place.graph, f"{self.name}.{what}", np.ascontiguousarray(array))

    def shared(self, fitted: Fitted, what: str, array: Callable[[], Array]) -> ir.Value:
        """Stores a tensor of a fit, once, in the graph of the first stored tensor of the weight."""
        key = (id(fitted), what)
        if key not in self.stores.tensors:
            tensor = np.array(array(), order="C")  # keeps no reference to a larger array
            value = self.stores.edit.initializer(self.place.roots[0].graph, f"{self.name}.{what}", tensor)
            self.stores.tensors[key] = fitted, value
        return self.stores.tensors[key][1]

    def node(self, op: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None = None) -> ir.Value:
        """Adds a standard node."""
        return self._add(op, inputs, attributes or {}, "", before=self.before)

    def call(self, op: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any]) -> ir.Value:
        """Adds an edgefc:: node."""
        domain, complete = self.stores.functions.use(op, attributes)
        return self._add(op, inputs, complete, domain, before=self.before)

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        return self.node("Cast", [value], {"to": dtype})

    def rotation(self, x: ir.Value, inputs: int, seed: int, width: int) -> ir.Value:
        """The rotated x. Sites in the same graph share it if they have the same x and seed."""
        key = (id(x), seed, id(self.place.graph))
        if key not in self.stores.rotated:
            sizes = {"in_features": inputs, "out_features": width, "block": block_of(inputs), "seed": signed(seed)}
            domain, complete = self.stores.functions.use("HadamardRotation", sizes)
            producer = x.producer()
            if producer is None or producer.graph is not self.place.graph:
                return self._add("HadamardRotation", [x], complete, domain, before=self.before)
            self.stores.rotated[key] = x, self._add("HadamardRotation", [x], complete, domain, after=producer)
        return self.stores.rotated[key][1]

    def _add(
        self, op: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], domain: str, **place: ir.Node
    ) -> ir.Value:
        return self.stores.edit.node(
            self.place.graph, op, inputs, attributes, domain=domain, name=f"{self.name}.{op}",
            metadata=self.place.node.metadata_props, **place,
        )  # fmt: skip


def signed(seed: int) -> int:
    """A seed as a file stores it, in two's complement."""
    return seed - (seed >> 63 << 64)

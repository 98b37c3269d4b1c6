"""The passes of the exporter over the traced graph. Each pass changes the model in place."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    DeduplicateHashedInitializersPass,
    InlinePass,
    RemoveUnusedNodesPass,
)

import edgefc
from edgefc.errors import ExportError
from edgefc.export.building.body import DOMAIN, DOMAIN_VERSION, ONNXRUNTIME
from edgefc.export.registry import operators
from edgefc.export.tracing.adapter import own_name
from edgefc.generator import VERSION as GENERATOR_VERSION
from edgefc.scopes import FLAT_KEY, torch_scope
from edgefc.scopes import LAYER_KEY as LAYER_KEY

IR_VERSION = 10


def structured_nodes(model: ir.Model) -> list[ir.Node]:
    """Returns the edgefc:: nodes of the main graph, in order."""
    return [node for node in model.graph if node.domain == DOMAIN]


def name_layers(model: ir.Model) -> None:
    """Stores the name of the torch layer on every node, and removes torch's metadata, which has paths and stack traces.

    The layer is the innermost torch module, "" for the model itself. A structured node gets the name of its layer. From
    the second call of a layer on, a number is appended.
    """
    layers = _layers(model)
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    calls: dict[str, int] = {}
    for node, layer in layers.items():
        node.metadata_props[LAYER_KEY] = layer
        if node.domain == DOMAIN:
            calls[layer] = calls.get(layer, 0) + 1
            name = layer or node.op_type  # the model itself is the layer
            node.name = name if calls[layer] == 1 else f"{name}#{calls[layer]}"
            for index, value in enumerate(node.outputs):
                value.name = f"{node.name}.y{index or ''}"


def name_values(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Names the inputs and outputs, and gives weights their names in the torch model.

    If an output is also an input, a weight or another output, it is copied.
    """
    graph = model.graph
    _separate_outputs(graph)
    reserved = set(inputs) | set(outputs)
    weights = list(graph.initializers.values())
    graph.initializers.clear()
    for value in weights:
        value.name = _free(own_name(value.name or ""), reserved)
        reserved.add(value.name)
        graph.initializers[value.name] = value
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.name in reserved and not value.is_graph_output():
                value.name = _free(value.name, reserved)
    for value, name in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        value.name = name


def _separate_outputs(graph: ir.Graph) -> None:
    seen: set[ir.Value] = set()
    for index, value in enumerate(graph.outputs):
        if value in seen or value.is_graph_input() or value.is_initializer():
            node = ir.node("Identity", [value])
            copy = node.outputs[0]
            copy.shape, copy.type = value.shape, value.type
            graph.append(node)
            graph.outputs[index] = copy
        seen.add(graph.outputs[index])


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += ".w"
    return name


def prepare_nodes(model: ir.Model) -> None:
    """Adds to each structured node the attributes that prepare() of its operator returns.

    Raises:
        ExportError: the operator of an edgefc:: node is not known.
    """
    for node in structured_nodes(model):
        if node.op_type not in operators():
            raise ExportError(
                f"layer {node.name!r} is a {node.op_type}, which has no ONNX form. "
                f"Supported layers: {', '.join(sorted(operators()))}."
            )
        for name, value in operators()[node.op_type].prepare(attributes_of(node)).items():
            node.attributes[name] = ir.convenience.convert_attribute(name, value)


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """Returns the attributes of a node by name."""
    return {name: attribute.value for name, attribute in node.attributes.items()}


def attach_functions(model: ir.Model, opset: int, bodies: Mapping[str, str]) -> None:
    """Adds one local function per operator of the graph, with the body in `bodies` or the first body."""
    used = sorted({node.op_type for node in structured_nodes(model)})
    for name in used:
        function = operators()[name].function(opset, bodies.get(name))
        model.functions[function.identifier()] = function
    if used:
        model.graph.opset_imports[DOMAIN] = DOMAIN_VERSION
    for domain in [d for d in model.graph.opset_imports if d not in ("", DOMAIN)]:
        if all(node.domain != domain for node in model.graph.all_nodes()):
            del model.graph.opset_imports[domain]
    if any(ONNXRUNTIME in function.opset_imports for function in model.functions.values()):
        model.graph.opset_imports[ONNXRUNTIME] = 1


def merge_equal_weights(model: ir.Model) -> None:
    """Merges equal weights, so that a weight shared by several layers is stored once."""
    for value in model.graph.initializers.values():  # the pass reads contiguous memory and does not support views
        tensor = value.const_value
        if tensor is not None and not (array := tensor.numpy()).flags.c_contiguous:
            value.const_value = ir.Tensor(np.ascontiguousarray(array), dtype=tensor.dtype, name=value.name)
    DeduplicateHashedInitializersPass(size_limit=2**62)(model)
    RemoveUnusedNodesPass()(model)


def inline(model: ir.Model) -> None:
    """Inlines every function, for tools that do not support functions. Nodes keep the name of their layer."""
    InlinePass()(model)
    model.functions.clear()
    for node in model.graph.all_nodes():
        if node.op_type == "CastLike":
            _cast_plainly(node)
    model.graph.opset_imports.pop(DOMAIN, None)
    model.metadata_props[FLAT_KEY] = "1"


def _cast_plainly(node: ir.Node) -> None:
    """Replaces CastLike by Cast. Outside functions onnxruntime does not fold CastLike, nor the nodes after it."""
    like = node.inputs[1]
    if like is not None and like.dtype is not None:
        node.op_type = "Cast"
        node.resize_inputs(1)
        node.attributes["to"] = ir.AttrInt64("to", like.dtype)


def stamp(model: ir.Model) -> None:
    """Records the version of edgefc and of the generator for its seeds, and removes all other metadata."""
    for holder in _holders(model):
        for key in [key for key in holder.metadata_props if not key.startswith("edgefc.")]:
            del holder.metadata_props[key]
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "edgefc", edgefc.__version__
    model.graph.name = "edgefc"
    model.metadata_props["edgefc.version"] = edgefc.__version__
    model.metadata_props["edgefc.generator"] = str(GENERATOR_VERSION)


def _holders(model: ir.Model) -> Iterator[ir.Model | ir.Graph | ir.Function | ir.Node | ir.Value]:
    """Iterates over all objects that can have metadata."""
    yield model
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        yield graph
        yield from graph.inputs
        for node in graph.all_nodes():
            yield node
            yield from node.outputs
    yield from model.graph.initializers.values()


def _layers(model: ir.Model) -> dict[ir.Node, str]:
    """Returns the innermost torch module of each node. If torch names none, uses that of a predecessor or successor."""
    nodes = list(model.graph.all_nodes())
    layers = {node: _layer(node) for node in nodes}
    for node in nodes:
        if layers[node] is None:
            layers[node] = next((layers[each] for each in node.predecessors() if layers.get(each)), None)
    for node in reversed(nodes):
        if layers[node] is None:
            layers[node] = next((layers[each] for each in node.successors() if layers.get(each)), None)
    return {node: layer or "" for node, layer in layers.items()}


def _layer(node: ir.Node) -> str | None:
    scope = torch_scope(node.metadata_props)
    return None if scope is None else own_name(scope)

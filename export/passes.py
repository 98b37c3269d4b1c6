"""What the exporter does to the graph that torch hands over; each pass changes the model in place."""

import ast
from collections.abc import Iterator

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
from edgefc.export.build import DOMAIN, DOMAIN_VERSION
from edgefc.export.options import Options
from edgefc.export.registry import lowerings
from edgefc.generator import VERSION as GENERATOR_VERSION

LAYER_KEY = "edgefc.layer"
FLAT_KEY = "edgefc.flat"
_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
IR_VERSION = 10


def structured_nodes(model: ir.Model) -> list[ir.Node]:
    """The edgefc:: nodes of the main graph, in order."""
    return [node for node in model.graph if node.domain == DOMAIN]


def name_layers(model: ir.Model) -> None:
    """Keep on each node the name of its torch layer and drop torch's metadata: it holds paths and stack traces.

    Structured nodes take the name of their layer, with a number behind it where a layer is called again.
    """
    layers = {node: _scope(node) for node in model.graph.all_nodes()}
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    calls: dict[str, int] = {}
    for node, layer in layers.items():
        if layer:
            node.metadata_props[LAYER_KEY] = layer
        if node.domain == DOMAIN:
            calls[layer] = calls.get(layer, 0) + 1
            name = layer or node.op_type  # the model is the layer
            node.name = name if calls[layer] == 1 else f"{name}#{calls[layer]}"
            for index, value in enumerate(node.outputs):
                value.name = f"{node.name}.y{index or ''}"


def name_outputs(model: ir.Model) -> None:
    """output, or output_0, output_1, ... where there are several."""
    outputs = model.graph.outputs
    taken = {value.name for value in (*model.graph.inputs, *model.graph.initializers.values())}
    for index, value in enumerate(outputs):
        name = "output" if len(outputs) == 1 else f"output_{index}"
        if not value.is_graph_input():
            value.name = name if name not in taken else f"{name}.y"


def prepare_nodes(model: ir.Model) -> None:
    """Give each structured node the attributes that its lowering decides.

    Raises:
        ExportError: an edgefc:: node that nothing lowers.
    """
    for node in structured_nodes(model):
        if node.op_type not in lowerings():
            raise ExportError(
                f"layer {node.name!r} is a {node.op_type}, which has no ONNX form. "
                f"Layers that have one: {', '.join(sorted(lowerings()))}."
            )
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        for name, value in lowerings()[node.op_type].prepare(attributes).items():
            node.attributes[name] = ir.convenience.convert_attribute(name, value)


def attach_functions(model: ir.Model, opset: int, options: Options) -> None:
    """Add one local function per op that the graph uses."""
    used = sorted({node.op_type for node in structured_nodes(model)})
    for name in used:
        function = lowerings()[name].lower(opset, options)
        model.functions[function.identifier()] = function
    if used:
        model.graph.opset_imports[DOMAIN] = DOMAIN_VERSION
    for domain in [d for d in model.graph.opset_imports if d not in ("", DOMAIN)]:
        if all(node.domain != domain for node in model.graph.all_nodes()):
            del model.graph.opset_imports[domain]


def merge_equal_weights(model: ir.Model) -> None:
    """Store each weight once, however many layers share it."""
    for value in model.graph.initializers.values():  # the pass reads memory in order, and cannot read views
        tensor = value.const_value
        if tensor is not None and not (array := tensor.numpy()).flags.c_contiguous:
            value.const_value = ir.Tensor(np.ascontiguousarray(array), dtype=tensor.dtype, name=value.name)
    DeduplicateHashedInitializersPass(size_limit=2**62)(model)
    RemoveUnusedNodesPass()(model)


def inline(model: ir.Model) -> None:
    """Write out every function at its call, for tools that do not look into functions; nodes keep their layer."""
    InlinePass()(model)
    model.functions.clear()
    for node in model.graph.all_nodes():
        if node.op_type == "CastLike":
            _cast_plainly(node)
    model.graph.opset_imports.pop(DOMAIN, None)
    model.metadata_props[FLAT_KEY] = "1"


def _cast_plainly(node: ir.Node) -> None:
    """CastLike -> Cast: outside functions onnxruntime does not fold CastLike, nor anything behind it."""
    like = node.inputs[1]
    if like is not None and like.dtype is not None:
        node.op_type = "Cast"
        node.resize_inputs(1)
        node.attributes["to"] = ir.AttrInt64("to", like.dtype)


def stamp(model: ir.Model) -> None:
    """Say what wrote the file, and by which generator its seeds are to be read; keep no metadata but ours."""
    for holder in _holders(model):
        for key in [key for key in holder.metadata_props if not key.startswith("edgefc.")]:
            del holder.metadata_props[key]
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "edgefc", edgefc.__version__
    model.graph.name = "edgefc"
    model.metadata_props["edgefc.version"] = edgefc.__version__
    model.metadata_props["edgefc.generator"] = str(GENERATOR_VERSION)


def _holders(model: ir.Model) -> Iterator[ir.Model | ir.Graph | ir.Function | ir.Node | ir.Value]:
    """Whatever can carry metadata."""
    yield model
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        yield graph
        yield from graph.inputs
        for node in graph.all_nodes():
            yield node
            yield from node.outputs
    yield from model.graph.initializers.values()


def _scope(node: ir.Node) -> str:
    """The innermost torch module around the node, by its qualified name, from torch's own metadata."""
    names: list[str] = ast.literal_eval(node.metadata_props.get(_SCOPES_KEY, "[]"))
    return names[-2] if len(names) >= 2 else ""

"""inspect(): reports what the layers of an .onnx file store, and what its structured layers save. Needs no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgefc.errors import ModelError, UsageError, first_line, needs_extra, shortened
from edgefc.export.building.described import Described
from edgefc.export.inspecting import attributes, candidates
from edgefc.export.inspecting.stored import EDGEFC, Reader, Use, Weight, metadata, passes_on, text
from edgefc.files import exists
from edgefc.layers.int3 import packing
from edgefc.modelfile.admission import admit
from edgefc.modelfile.weights import weight_files
from edgefc.scopes import FLAT_KEY, layer_of


@dataclass(frozen=True)
class Layer:
    """One structured layer. `stored` counts its parameters in the file; shared ones count only at their first layer."""

    name: str
    op: str
    shape: str
    detail: str
    stored: int
    stored_bytes: int
    dense: int
    dense_bytes: int


@dataclass(frozen=True)
class Part:
    """The weights of one torch layer, structured or not.

    layer    its name: "" for the model itself; "domain::name" for a local function
    op       the operator that uses its largest weight
    shape    the stored shape of that weight
    numbers  the number of stored values
    bytes    their size, in the .onnx file and the external data file
    share    the fraction of all bytes of the .onnx file and the external data file, 0 to 1
    fits     structured layers that can replace that weight
    """

    layer: str
    op: str
    shape: str
    numbers: int
    bytes: int
    share: float
    fits: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """The layers of one file, and its sizes in bytes. Every stored value belongs to one of the parts.

    layers             the structured layers, in the order of the file
    parts              every layer that stores values, the one with the most bytes first
    other_numbers      the number of values stored outside of structured layers and local functions
    function_numbers   the number of values stored in local functions: constants of edgefc's bodies, or other weights
    """

    file: str
    file_bytes: int
    data_bytes: int
    opset: int
    flat: bool
    layers: tuple[Layer, ...]
    parts: tuple[Part, ...]
    other_numbers: int
    function_numbers: int

    @property
    def numbers(self) -> int:
        """The number of all stored values."""
        return sum(part.numbers for part in self.parts)

    @property
    def why_none(self) -> str:
        return " that can be identified, since its functions were inlined (--flat)" if self.flat else ""


def inspect(path: str | Path) -> Inspection:
    """Reads the content of a file without running it.

    Raises:
        UsageError: the file does not exist.
        ModelError: the file is not a valid ONNX file, or edgefc.modelfile.admission rejects it.
        MissingExtra: the file has structured layers, and onnx-ir, which is needed to describe them, is not installed.
    """
    file = Path(path)
    if not (exists(file) and file.is_file()):
        raise UsageError(f"no file {file}. Give the path of an existing .onnx file.")
    admit(file)
    model, read = _read(file)
    file_bytes = file.stat().st_size
    data_bytes = sum(each.stat().st_size for each in weight_files(file))
    layers = tuple(_layers(read))
    inside = sum(weight.numbers for weight in read.weights if _function(weight))
    total = sum(weight.numbers for weight in read.weights)
    return Inspection(
        file=file.name,
        file_bytes=file_bytes,
        data_bytes=data_bytes,
        opset=next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0),
        flat=not layers and any(entry.key == FLAT_KEY for entry in model.metadata_props),
        layers=layers,
        parts=_parts(read.weights, file_bytes + data_bytes),
        other_numbers=total - inside - sum(layer.stored for layer in layers),
        function_numbers=inside,
    )


def _read(file: Path) -> tuple[onnx.ModelProto, Reader]:
    try:
        model = onnx.load(str(file), load_external_data=False)
        if not (model.HasField("graph") and model.ir_version and model.opset_import):
            raise ValueError("it has no graph, no IR version or no opset")
        read = Reader(model, file)
        for weight in read.weights:
            _count_packed(weight)
    except Exception as error:  # protobuf and onnx raise errors of many classes
        raise ModelError(f"{file} is not a valid ONNX model: {first_line(error)}. Export it again.") from None
    return model, read


def _count_packed(weight: Weight) -> None:
    """Corrects shape and numbers of weights that pack several values per byte, as in MatMulNBits."""
    for use in weight.uses:
        sizes = {attribute.name: attribute.i for attribute in use.node.attribute}
        if weight.dtype != onnx.TensorProto.UINT8:
            continue
        if use.node.op_type == "MatMulNBits" and use.index == 1 and min(sizes.get("K", 0), sizes.get("N", 0)) > 0:
            weight.shape = (sizes["N"], sizes["K"])
            weight.numbers = sizes["N"] * sizes["K"]
        elif (use.node.domain, use.node.op_type, use.index) == (EDGEFC, "Int3Linear", 1) and len(weight.shape) == 3:
            weight.shape = (weight.shape[0] * packing.ROWS, weight.shape[1] * packing.COLUMNS)
            weight.numbers = weight.numbers * 8 // 3
        elif _packs(use.node, use.index, sizes):
            each = max(8 // max(sizes.get("bits", 4), 1), 1)
            weight.shape = (*weight.shape[:-1], weight.shape[-1] * each) if weight.shape else weight.shape
            weight.numbers *= each
        else:
            continue
        return


def _packs(node: onnx.NodeProto, index: int, sizes: Mapping[str, int]) -> bool:
    """Whether a uint8 input of a node has codes of `bits` bits."""
    others = {("MatMulNBits", 3), ("GatherBlockQuantized", 0), ("GatherBlockQuantized", 3)}
    return (node.op_type, index) in others or (node.domain == EDGEFC and index > 0 and "bits" in sizes)


def _layers(read: Reader) -> Iterable[Layer]:
    counted: set[int] = set()
    for node in read.edgefc_nodes:
        given = [w for w in read.weights for use in w.uses if use.node is node and use.index > 0]
        yield _layer(node, given, counted)


def _layer(node: onnx.NodeProto, given: Sequence[Weight], counted: set[int]) -> Layer:
    described = _described(node)
    own = [weight for weight in given if id(weight) not in counted]
    counted.update(map(id, given))
    width = max((-(-weight.bytes // weight.numbers) for weight in given if weight.numbers), default=4)
    return Layer(
        name=node.name or "?",
        op=node.op_type,
        shape=described.shape,
        detail=described.detail,
        stored=sum(weight.numbers for weight in own),
        stored_bytes=sum(weight.bytes for weight in own),
        dense=described.dense,
        dense_bytes=described.dense * (described.width or width),
    )


def _described(node: onnx.NodeProto) -> Described:
    with needs_extra("torch", "edgefc inspect"):
        from edgefc.export.registry import operators
    subject = f"node {node.name!r}, an edgefc::{node.op_type},"
    if node.op_type not in operators():
        raise ModelError(
            f"{subject} is not supported by this version. Supported layers: {', '.join(sorted(operators()))}."
        )
    attributes.check(node)
    values = attributes.values(node)
    try:
        return operators()[node.op_type].describe(values)
    except KeyError as error:
        raise ModelError(f"{subject} has no {error.args[0]}. Export the model again.") from None
    except (TypeError, ValueError, ArithmeticError, LookupError):
        raise ModelError(f"{subject} has invalid attributes: {shortened(values)}. Export the model again.") from None


def _parts(weights: Sequence[Weight], total: int) -> tuple[Part, ...]:
    groups: dict[str, list[Weight]] = {}
    for weight in weights:
        groups.setdefault(_name(weight), []).append(weight)
    pairs = {weight.shape for weight in weights if (use := _use(weight)) and candidates.is_linear(use.node)}
    made = [_part(name, group, total, pairs) for name, group in groups.items()]
    return tuple(sorted(made, key=lambda part: -part.bytes))


def _part(name: str, group: Sequence[Weight], total: int, pairs: set[tuple[int, ...]]) -> Part:
    largest = max(group, key=lambda weight: weight.bytes)
    use, stored = _use(largest), sum(weight.bytes for weight in group)
    return Part(
        layer=name,
        op=use.node.op_type if use else "-",
        shape=" x ".join(map(str, largest.shape)),
        numbers=sum(weight.numbers for weight in group),
        bytes=stored,
        share=stored / total,
        fits=candidates.fits(use.node, largest.shape, pairs) if use and use.as_data and not use.function else (),
    )


def _use(weight: Weight) -> Use | None:
    """Returns the first node that computes with a weight, or else the first node that has it as an input."""
    computing = (use for use in weight.uses if not passes_on(use.node))
    return next(computing, weight.uses[0] if weight.uses else None)


def _function(weight: Weight) -> str:
    use = _use(weight)
    return use.function if use else ""


def _name(weight: Weight) -> str:
    """Returns the layer of a weight: from the metadata of its node, the scope in its name, or the node itself."""
    use = _use(weight)
    if use is None:
        return weight.name
    if use.function:
        return use.function
    layer = layer_of(use.node.name, metadata(use.node))
    if layer is not None:
        return layer
    scope = weight.name.rpartition(".")[0]
    return scope or use.node.name or text(next(iter(use.node.output), "")) or use.node.op_type

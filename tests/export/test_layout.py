"""A layer is found by its files: layer, operator, tests. And what every function of every operator keeps."""

import ast
import json
from pathlib import Path

import onnx_ir as ir
import pytest

from edgefc.export import declarations
from edgefc.export.building.body import DOMAIN, ONNXRUNTIME
from edgefc.export.operator import Operator, factors
from edgefc.export.registry import built_in, operators

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ROOT / "edgefc/layers"
FILES = {str(path.relative_to(FAMILIES).with_suffix("")): path for path in FAMILIES.glob("*/[!_]*.py")}
OPS = sorted(path.stem for path in (ROOT / "export/ops").glob("[!_]*.py"))


def shows_a_node(path: Path) -> bool:
    """Does it become a node of its own? Layers made of other layers do not. Read, not imported."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return bool({"layer_node", "layer_nodes"} & {ast.unparse(call) for call in calls})


def has_entries(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(ast.unparse(node.targets[0]) == "ENTRIES" for node in tree.body if isinstance(node, ast.Assign))


LAYERS = sorted(name for name, path in FILES.items() if has_entries(path))
NODES = sorted(name.replace("/linear", "").replace("/", "_") for name in LAYERS if shows_a_node(FILES[name]))


def test_a_file_that_shows_a_node_is_a_layer() -> None:
    """So a layer without ENTRIES, which nothing would find, is noticed."""
    assert {name for name, path in FILES.items() if shows_a_node(path)} <= set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_its_test(name: str) -> None:
    family, _, file = name.partition("/")
    test = f"tests/layers/{family}/test_{file}.py"
    assert (ROOT / test).is_file(), f"edgefc/layers/{name}.py needs {test}"


@pytest.mark.parametrize("name", NODES)
def test_a_layer_that_shows_a_node_has_its_operator(name: str) -> None:
    assert name in OPS, f"the layer {name} needs export/ops/{name}.py"


@pytest.mark.parametrize("name", OPS)
def test_an_operator_has_its_layer(name: str) -> None:
    """Of the same name, or with more behind it where one layer shows itself by several ops: prp, prp_hadamard."""
    assert any(name == layer or name.startswith(f"{layer}_") for layer in NODES)


def test_there_are_layers() -> None:
    """An empty list would make every check above pass."""
    assert {"circulant", "prp"} <= set(NODES)
    assert {"circulant/linear", "attention/structured"} <= set(LAYERS)


def test_the_registry_is_the_folder() -> None:
    """Other packages that are installed may add to it."""
    assert len(built_in()) == len(OPS)
    assert set(built_in()) <= set(operators())


def test_what_is_generated_is_in_step() -> None:
    """If not: python -m edgefc.export.declarations."""
    for path, text in declarations.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m edgefc.export.declarations"
    assert set(json.loads((ROOT / "edgefc/declarations.json").read_text())["operators"]) == set(built_in())


# ---- every declaration


FOR_ONNXRUNTIME = ("QuantizedLinear",)
READERS = ("P m", "d + e")  # of EUGenStoredLinear
every_operator = pytest.mark.parametrize("operator", list(built_in().values()), ids=list(built_in()))


@every_operator
def test_axes_are_attributes(operator: Operator) -> None:
    """Other axes are numbers or letters for readers ("B", "kh"). A misspelt attribute is longer, and is not checked."""
    axes_of = (axis for axes in operator.inputs.values() for axis in axes or () if isinstance(axis, str))
    named = {axis for axis in axes_of if not axis.isdigit()}
    assert all(factors(name, operator.attributes) for name in named if len(name) > 2 and name not in READERS)
    assert all(... not in (axes or ())[1:] for axes in operator.inputs.values())


# ---- every function


FUNCTIONS = {
    f"{name}-{body}-{opset}": operator.function(opset, body)
    for name, operator in built_in().items()
    for body in operator.bodies
    for opset in (18, 20, 23)
}
every_function = pytest.mark.parametrize("function", list(FUNCTIONS.values()), ids=list(FUNCTIONS))


@every_function
def test_stands_alone_on_the_default_domain(function: ir.Function) -> None:
    """No function calls another, none has an overload: older runtimes mix those up. Standard operators, and
    onnxruntime's where a body is for onnxruntime."""
    domains = {"", ONNXRUNTIME} if function.name in FOR_ONNXRUNTIME else {""}
    assert {node.domain for node in function.all_nodes()} <= domains
    assert {""} <= set(function.opset_imports) <= domains
    assert (function.domain, function.overload) == (DOMAIN, "")


@every_function
def test_owns_no_weights(function: ir.Function) -> None:
    """Weights come in by the inputs. Constants are a few numbers: tables are computed from sizes."""
    assert not function.graph.initializers
    graphs = [
        a.as_graph() for n in function.all_nodes() for a in n.attributes.values() if a.type == ir.AttributeType.GRAPH
    ]
    assert not any(graph.initializers for graph in graphs)
    assert all(tensor.size <= 16 for tensor in constants(function))


def constants(function: ir.Function) -> list[ir.TensorProtocol]:
    return [n.attributes["value"].as_tensor() for n in function.all_nodes() if "value" in n.attributes]


def test_constants_are_found() -> None:
    """So that the limit of their size is tested, although some bodies have no constant."""
    assert all(constants(FUNCTIONS[f"CirculantLinear-{body}-20"]) for body in ("matmul", "dft"))


@every_function
def test_names_every_node_and_value_once(function: ir.Function) -> None:
    """Over the function and all its subgraphs, so that a profile or an error points at one."""
    nodes = list(function.all_nodes())
    assert all(node.name for node in nodes)
    assert len({node.name for node in nodes}) == len(nodes)
    values = [value.name for node in nodes for value in node.outputs]
    assert all(values)
    assert len(set(values)) == len(values)


@every_function
def test_leaves_nothing_unused(function: ir.Function) -> None:
    """A node that feeds nothing is work that a runtime without an optimiser does for nobody."""
    outputs = {id(value) for value in function.outputs}
    outputs |= {
        id(value)
        for node in function.all_nodes()
        for attribute in node.attributes.values()
        if attribute.type == ir.AttributeType.GRAPH
        for value in attribute.as_graph().outputs
    }
    unused = [n.name for n in function.all_nodes() for v in n.outputs if not v.uses() and id(v) not in outputs]
    assert not unused


@every_function
def test_declares_the_attributes_that_it_reads(function: ir.Function) -> None:
    read = {
        attribute.ref_attr_name
        for node in function.all_nodes()
        for attribute in node.attributes.values()
        if attribute.ref_attr_name
    }
    assert read <= set(function.attributes)

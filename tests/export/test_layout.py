"""A layer is three files: the layer, its lowering, its test. And what every function of every lowering keeps."""

import ast
from pathlib import Path

import onnx_ir as ir
import pytest

from edgefc.export.build import DOMAIN
from edgefc.export.options import Options
from edgefc.export.registry import lowerings

ROOT = Path(__file__).resolve().parents[2]

BODIES = [
    Options(circulant="matmul", prp="resident"),
    Options(circulant="dft", prp="streaming"),
]


def defines_a_module(path: Path) -> bool:
    """Does the file define a module? Read, not imported; helpers such as seeded.py do not, nor private classes."""
    return any(
        isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.bases
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


def shows_a_node(path: Path) -> bool:
    """Does it become a node of its own? Layers made of other layers do not."""
    return bool({"layer_node", "layer_nodes"} & names_called(path))


def names_called(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


FAMILIES = ROOT / "edgefc/layers"
FILES = {str(path.relative_to(FAMILIES).with_suffix("")): path for path in FAMILIES.glob("*/[!_]*.py")}
LAYERS = sorted(name for name, path in FILES.items() if defines_a_module(path))
LOWERED = sorted(name.replace("/linear", "").replace("/", "_") for name in LAYERS if shows_a_node(FILES[name]))
LOWERINGS = sorted(path.stem for path in (ROOT / "export/lowerings").glob("[!_]*.py"))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_its_test(name: str) -> None:
    family, _, file = name.partition("/")
    test = f"tests/layers/{family}/test_{file}.py"
    assert (ROOT / test).is_file(), f"edgefc/layers/{name}.py needs {test}"


@pytest.mark.parametrize("name", LOWERED)
def test_a_layer_that_shows_a_node_has_its_lowering(name: str) -> None:
    assert name in LOWERINGS, f"the layer {name} needs export/lowerings/{name}.py"


@pytest.mark.parametrize("name", LOWERINGS)
def test_a_lowering_has_its_layer(name: str) -> None:
    """Of the same name, or with more behind it where one layer shows itself by several ops: prp, prp_hadamard."""
    assert any(name == layer or name.startswith(f"{layer}_") for layer in LOWERED)


def test_there_are_layers() -> None:
    """An empty list would make every check above pass."""
    assert {"circulant", "prp"} <= set(LOWERED)
    assert not {"common/seeded", "common/onnx_node"} & set(LAYERS)


# ---- every function


FUNCTIONS = {
    f"{name}-{options.circulant}-{options.prp}-{opset}": lowering.lower(opset, options)
    for name, lowering in lowerings().items()
    for options in BODIES
    for opset in (18, 20, 23)
}
every_function = pytest.mark.parametrize("function", list(FUNCTIONS.values()), ids=list(FUNCTIONS))


@every_function
def test_stands_alone_on_the_default_domain(function: ir.Function) -> None:
    """Standard operators only, no function calls another, none has an overload: older runtimes mix those up."""
    assert {node.domain for node in function.all_nodes()} == {""}
    assert set(function.opset_imports) == {""}
    assert (function.domain, function.overload) == (DOMAIN, "")


@every_function
def test_owns_no_weights(function: ir.Function) -> None:
    """Weights come in by the inputs. Constants are a few numbers: tables are computed from sizes."""
    assert not function.graph.initializers
    graphs = [
        a.as_graph() for n in function.all_nodes() for a in n.attributes.values() if a.type == ir.AttributeType.GRAPH
    ]
    assert not any(graph.initializers for graph in graphs)
    constants = [n.attributes["value"].as_tensor() for n in function.all_nodes() if "value" in n.attributes]
    assert all(tensor.size <= 16 for tensor in constants)
    assert constants


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


def test_the_registry_is_the_folder() -> None:
    assert len(lowerings()) == len(LOWERINGS)
    assert {"CirculantLinear", "PRPLinear"} <= set(lowerings())

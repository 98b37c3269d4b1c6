"""A family of layers imports common/ and itself. attention/ and tied/ combine layers of other families."""

import ast
from pathlib import Path

import pytest

LAYERS = Path(__file__).resolve().parents[2] / "edgefc" / "layers"
FAMILIES = sorted(path.parent.name for path in LAYERS.glob("*/__init__.py") if path.parent.name != "common")
ALLOWED = {"attention": set(FAMILIES), "tied": {"attention"}}


def imported(source: str) -> set[str]:
    """The folders and modules of edgefc.layers that a source file imports."""
    names = [
        name
        for node in ast.walk(ast.parse(source))
        for name in (
            [f"{node.module}.{each.name}" for each in node.names]
            if isinstance(node, ast.ImportFrom)
            else [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    ]
    return {name.split(".")[2] for name in names if name.startswith("edgefc.layers.")}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_does_not_import_another(family: str) -> None:
    allowed = {family, "common", *ALLOWED.get(family, ())}
    others = {path.name: imported(path.read_text()) - allowed for path in (LAYERS / family).glob("*.py")}
    assert not {name: each for name, each in others.items() if each}


def test_an_import_of_another_family_is_noticed() -> None:
    assert imported("def f():\n    from edgefc.layers.prp.linear import PRPLinear\n") == {"prp"}
    assert imported("from edgefc.layers import prp\nimport edgefc.layers.tied.ffn\n") == {"prp", "tied"}

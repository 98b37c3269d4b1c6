"""python -m edgefc.export.declarations: write the files generated from the declarations of operators and layers.

    edgefc/declarations.json   for code that runs without this package, for example on boards
                               operators: the axes of their inputs and the rules of their attributes
                               layers: the module of each public name, and the torch layer that it replaces
    edgefc/__init__.pyi        the public names for type checkers
    export/ops/README.md       the table of the operators

Run it after you add an operator or layer. A test compares the files with the declarations. Needs torch.
"""

import json
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import edgefc
from edgefc.export import ops
from edgefc.export.operator import Axes, Operator, factors
from edgefc.export.registry import built_in
from edgefc.layers.registry import public
from edgefc.screen import out
from edgefc.tables import markdown_table

FUNCTIONS: Mapping[str, str] = vars(edgefc)["FUNCTIONS"]  # not in the stub, which names what users call
HERE = Path(edgefc.__file__).parent
_HEAD = """# The operators

Written by `python -m edgefc.export.declarations` from the files of this folder; a test compares them. Axes that are not
attributes are letters: B batch, S steps of a sequence, p x q blocks, T terms, kh x kw kernel.
[../README.md](../README.md) describes the file as a whole.

"""


def files() -> dict[Path, str]:
    """The content of each generated file."""
    layers = public()
    return {
        HERE / "declarations.json": _data(layers, built_in()),
        HERE / "__init__.pyi": _stub(layers),
        Path(ops.__path__[0]) / "README.md": _page(built_in().values()),
    }


def _data(layers: Mapping[str, Any], operators: Mapping[str, Operator]) -> str:
    """One line for each entry, so that branches with different new operators merge without conflicts."""
    parts = {"layers": layers, "operators": {name: _operator(operators[name]) for name in sorted(operators)}}
    blocks = []
    for title, entries in parts.items():
        lines = [f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
        blocks.append(f'  "{title}": {{\n' + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _operator(operator: Operator) -> dict[str, Any]:
    return {
        "inputs": {name: _axes(axes, operator.attributes) for name, axes in operator.inputs.items()},
        "attributes": {name: [rule.kind, *rule.bounds] for name, rule in operator.attributes.items()},
    }


def _axes(axes: Axes | None, attributes: Container[str]) -> list[str | list[str] | None]:
    """For each axis, the attributes whose product is its size, or None for a letter, which is only documentation."""
    return ["..." if axis is ... else factors(axis, attributes) for axis in axes or ()]


def _page(operators: Iterable[Operator]) -> str:
    columns = ("op", "meaning: n inputs, m outputs", "inputs", "attributes", "bodies, the default first")
    return _HEAD + markdown_table(columns, map(_row, sorted(operators, key=lambda each: each.name)), left=5) + "\n"


def _row(operator: Operator) -> tuple[str, ...]:
    inputs = ", ".join(f"{name}{_shape(axes)}" for name, axes in operator.inputs.items())
    return f"`{operator.name}`", operator.meaning, inputs, ", ".join(operator.attributes), ", ".join(operator.choices)


def _shape(axes: Axes | None) -> str:
    if axes is None:
        return ""
    return f" ({', '.join('...' if axis is ... else axis for axis in axes)}{',' * (len(axes) == 1)})"


def _stub(layers: Mapping[str, Mapping[str, str]]) -> str:
    names = sorted({*layers, *FUNCTIONS, "__version__", "plan"})
    modules = {**{name: layer["module"] for name, layer in layers.items()}, **FUNCTIONS}
    imports = sorted(f"from {module} import {name} as {name}" for name, module in modules.items())
    return "\n".join([
        "# Written by python -m edgefc.export.declarations.",
        "from edgefc import plan as plan",
        *imports,
        "",
        "__version__: str",
        "__all__ = [",
        *(f'    "{name}",' for name in names),
        "]",
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        out(f"wrote {path.relative_to(HERE.parent)}")

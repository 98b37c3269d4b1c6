"""The agent is one file for old boards: Python 3.9, the standard library, numpy and onnxruntime."""

import ast
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgefc.devices.agent import boot
from edgefc.devices.board import pack

ALLOWED = {"numpy", "onnxruntime", "edgefc"}
SOURCES = {name: path for name, path in pack.sources().items() if path.suffix == ".py"}
# What came after 3.9, by the name that uses it has. Parsing finds new syntax, this finds new functions.
TOO_NEW = {
    "pairwise", "file_digest", "batched", "tomllib", "ExceptionGroup", "TaskGroup", "StrEnum", "Self", "override",
    "aclosing", "anext", "aiter", "bit_count", "UTC", "get_annotations", "add_note", "process_cpu_count",
    "hardlink_to",
    "from_exception", "orig_argv", "stdlib_module_names", "assert_never", "reveal_type",
}  # fmt: skip
TOO_NEW_KEYWORDS = {"zip": {"strict"}, "dataclass": {"slots", "kw_only"}, "bisect": {"key"}, "glob": {"root_dir"}}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_file_is_python_3_9(name: str) -> None:
    tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"), feature_version=(3, 9))

    assert not too_new(tree)
    assert not evaluated_unions(tree)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_file_imports_what_a_board_has(name: str) -> None:
    tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
    inside = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in SOURCES}
    for module in imported(tree):
        top = module.partition(".")[0]
        assert top in sys.stdlib_module_names or top in ALLOWED, module
        assert top != "edgefc" or module in inside or "TYPE_CHECKING" in ast.unparse(tree), module


def test_the_packed_declarations_are_read(tmp_path: Path) -> None:
    """From inside the archive, as a board reads them."""
    path = tmp_path / "agent.pyz"
    path.write_bytes(pack.pack()[0])
    code = f"""
import sys
sys.path = [{str(path)!r}, *(each for each in sys.path if "site-packages" not in each)]
import edgefc.attributes
assert {str(path)!r} in edgefc.attributes.__file__
print(edgefc.attributes.fault("PRPLinear", {{"in_features": 8}}, {{1: [9]}}))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.stderr, done.stdout) == ("", "has in_features 8, which does not fit its input 1 of shape [9]\n")


def test_the_first_program_is_any_python_3() -> None:
    """It reports an old Python, so it must run there. No f-strings, no annotations."""
    tree = ast.parse(Path(boot.__file__).read_text(encoding="utf-8"), feature_version=(3, 4))

    assert not any(isinstance(node, (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr)) for node in ast.walk(tree))
    assert {module.partition(".")[0] for module in imported(tree)} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "text",
    ["from itertools import pairwise", "zip(a, b, strict=True)", "x = int | None", "hashlib.file_digest(f)",
     "isinstance(x, int | str)", "def f(x: int | None): pass"],
)  # fmt: skip
def test_the_check_can_fail(text: str) -> None:
    """Meta-test."""
    tree = ast.parse(text)
    assert too_new(tree) or evaluated_unions(tree)


def test_the_same_sources_give_the_same_bytes() -> None:
    data, sha256 = pack.pack()
    pack.pack.cache_clear()

    assert pack.pack() == (data, sha256)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert len(data) < 100_000
    assert "__main__.py" in zipfile.ZipFile(io.BytesIO(data)).namelist()


def too_new(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        names += [node.attr] if isinstance(node, ast.Attribute) else [node.id] if isinstance(node, ast.Name) else []
        found += [name for name in names if name in TOO_NEW]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            found += [called for word in node.keywords if word.arg in TOO_NEW_KEYWORDS.get(called, ())]
        found += [type(node).__name__] if type(node).__name__ in ("Match", "TryStar", "TypeAlias") else []
    return found


def evaluated_unions(tree: ast.Module) -> list[str]:
    """`int | None` where Python computes it: everywhere but in annotations of a file that postpones them."""
    postponed = any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body)
    annotations: set[int] = set()
    for node in ast.walk(tree) if postponed else ():
        for field in ("annotation", "returns"):
            part = getattr(node, field, None)
            annotations |= {id(inner) for inner in ast.walk(part)} if part is not None else set()
    kinds = {"None", "str", "int", "float", "bool", "bytes", "dict", "list", "tuple", "Path"}
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and id(node) not in annotations
        and kinds & {ast.unparse(node.left), ast.unparse(node.right)}
    ]  # fmt: skip


def imported(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found

"""Sentences to calibrate and test a text model with: the docstrings of Python's standard library."""

import ast
import random
import re
import sysconfig
from collections.abc import Iterable
from pathlib import Path

CALIBRATION, TEST = 1024, 256


def sentences() -> tuple[list[str], list[str]]:
    """Returns CALIBRATION sentences and TEST sentences, in random order. They come from different modules."""
    library = Path(sysconfig.get_paths()["stdlib"])
    modules = sorted(path for path in library.rglob("*.py") if not {"site-packages", "test", "idlelib"} & {*path.parts})
    random.Random(0).shuffle(modules)  # noqa: S311  not for cryptography
    half = len(modules) // 2
    return _from_modules(modules[:half], CALIBRATION), _from_modules(modules[half:], TEST)


def _from_modules(modules: Iterable[Path], count: int) -> list[str]:
    found: dict[str, None] = {}
    for module in modules:
        try:
            tree = ast.parse(module.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", text):
                    line = " ".join(sentence.split())
                    if 20 <= len(line) <= 400:
                        found[line] = None
    return random.Random(1).sample(list(found), count)  # noqa: S311

"""Data sets that Python packages contain, so that nothing is downloaded, and their splits.

digits()              scikit-learn: 1,797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak, UCI 1998)
faces()               scikit-image: 100 faces of Labeled Faces in the Wild and 100 images without a face, 25 x 25 pixels
photograph(name)      scikit-image: the photographs in PHOTOGRAPHS, which the wheel contains
library_docstrings()  the docstrings of modules of Python's standard library: mostly English

folders.py reads the data sets of the papers into the same classes, and downloaded.py downloads MNIST.
"""

import ast
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgefc.errors import UsageError

PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "moon", "page", "rocket", "text",
)  # fmt: skip
MODULES = (
    "argparse", "ast", "calendar", "cmd", "codecs", "configparser", "contextlib", "copy", "csv", "datetime", "difflib",
    "dis", "doctest", "enum", "fileinput", "fractions", "functools", "getopt", "gettext", "glob", "hashlib", "heapq",
    "inspect", "ipaddress", "locale", "mailbox", "operator", "os", "pathlib", "pdb", "pickle", "platform", "random",
    "selectors", "shlex", "shutil", "smtplib", "socket", "statistics", "string", "subprocess", "tarfile", "tempfile",
    "textwrap", "threading", "timeit", "tokenize", "trace", "turtle", "typing", "uuid", "weakref", "zipfile",
)  # fmt: skip
_HELD_OUT = 0.2  # share of the training rows that is held out to choose a learning rate


class Part(NamedTuple):
    """x (rows, channels, height, width) float32 in 0..1, y (rows,) int64."""

    x: Tensor
    y: Tensor

    def take(self, rows: Tensor) -> "Part":
        return Part(self.x[rows], self.y[rows])


@dataclass(frozen=True)
class Images:
    """Labelled images. If there is no separate test part, split() holds out `test_share`, different for each seed."""

    about: str
    train: Part
    test: Part | None
    classes: int
    test_share: float = 0.25

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.x.shape[1:]
        return channels, height, width

    @property
    def test_over_train(self) -> float:
        """Number of test rows / number of training rows if each seed has its own split; otherwise 0."""
        return 0.0 if self.test is not None else self.test_share / (1 - self.test_share)

    def split(self, seed: int, *, tuning: bool = False) -> tuple[Part, Part]:
        """The training part and the test part, stratified by class. With `tuning`, both are taken from the
        training data, and the test data are not used."""
        train, test = (self.train, self.test) if self.test is not None else _apart(self.train, self.test_share, seed)
        return _apart(train, _HELD_OUT, seed) if tuning else (train, test)


@dataclass(frozen=True)
class Text:
    """One long text."""

    about: str
    text: str

    def split(self, *, tuning: bool = False) -> tuple[str, str]:
        """The first eight tenths for training, and the last tenth for testing. With `tuning`, the ninth tenth replaces
        the last.
        """
        first, second = len(self.text) * 8 // 10, len(self.text) * 9 // 10
        return self.text[:first], self.text[first:second] if tuning else self.text[second:]


def digits() -> Images:
    """Grey images of shape (1, 8, 8) in ten classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    whole = Part(torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(y, dtype=torch.int64))
    return Images("scikit-learn's 1,797 digits of 8 x 8 pixels, with a different split for each seed", whole, None, 10)


def faces() -> Images:
    """Grey images of shape (1, 25, 25). Class 1 is a face."""
    from skimage.data import lfw_subset

    x = torch.tensor(np.asarray(lfw_subset()), dtype=torch.float32)[:, None]  # type: ignore[no-untyped-call]
    y = (torch.arange(len(x)) < len(x) // 2).to(torch.int64)
    return Images(
        "scikit-image's LFW subset, 200 images of 25 x 25 pixels, with a different split for each seed",
        Part(x, y),
        None,
        2,
    )


def photograph(name: str, size: int) -> Tensor:
    """The central square of a photograph, resized to (size, size), or (size, size, 3) if it is in colour.

    Raises:
        UsageError: the name is not in PHOTOGRAPHS.
    """
    import skimage.data
    from skimage.transform import resize

    if name not in PHOTOGRAPHS:
        raise UsageError(
            f"scikit-image's wheel contains no photograph {name!r}. Choose one of: {', '.join(PHOTOGRAPHS)}."
        )
    picture = np.asarray(getattr(skimage.data, name)(), dtype=np.float32) / 255
    side = min(picture.shape[:2])
    top, left = ((whole - side) // 2 for whole in picture.shape[:2])
    square = picture[top : top + side, left : left + side]
    small = np.asarray(resize(square, (size, size), anti_aliasing=True))  # type: ignore[no-untyped-call]
    return torch.tensor(small, dtype=torch.float32).clamp(0, 1)


def library_docstrings(characters: int = 300_000) -> Text:
    """The docstrings of MODULES in that order, cut after `characters`. `about` names the version of Python."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for source in _sources() for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))
    taken, length = [], 0
    for docstring in filter(None, map(ast.get_docstring, nodes)):
        taken.append(docstring)
        length += len(docstring)
        if length >= characters:
            break
    text = "\n\n".join(taken)[:characters]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return Text(f"{len(text):,} characters of docstrings of the standard library of {python}", text)


def _sources() -> list[str]:
    folder = Path(os.__file__).parent
    files = (path for name in MODULES for path in (folder / f"{name}.py", folder / name / "__init__.py"))
    texts = [path.read_text(encoding="utf-8") for path in files if path.is_file()]
    if len(texts) < len(MODULES) // 2:
        raise UsageError(
            f"cannot read the sources of the standard library: {folder} has {len(texts)} of {len(MODULES)} modules. "
            "Use a Python that is installed with its sources, or pass a folder of .txt files as --data."
        )
    return texts


def _apart(part: Part, share: float, seed: int) -> tuple[Part, Part]:
    """Split off a share of the rows, stratified by class. Returns (rest, share)."""
    chosen, generator = [], torch.Generator().manual_seed(seed)
    for label in torch.unique(part.y):
        rows = torch.nonzero(part.y == label).flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        chosen.append(rows[: max(1, round(len(rows) * share))])
    aside = torch.cat(chosen).sort().values
    rest = torch.ones(len(part.y), dtype=torch.bool)
    rest[aside] = False
    return part.take(torch.nonzero(rest).flatten()), part.take(aside)

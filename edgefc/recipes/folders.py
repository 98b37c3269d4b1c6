"""Read the data sets of the papers from a folder of the user.

Sizes are checked before memory is allocated. Pickled data are not read.

mnist(folder)         the four idx files, plain or .gz (Fashion-MNIST and others have the same format)
cifar10(folder)       the binary version: data_batch_1.bin ... and test_batch.bin
pictures(folder, n)   one folder of images per class, resized to n x n; optionally in train/ and test/ (or val/)
text(folder)          .txt files, in the order of their names
images(folder, n)     the first of these three that the folder contains
digits_or_images()    the bundled digits if no folder is given
"""

import gzip
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from edgefc.errors import UsageError
from edgefc.recipes.data import Images, Part, Text, digits

LARGEST_BYTES = 2**28  # limit for the numbers in one file, and for all pictures of one part
LARGEST_PIXELS = 50_000_000  # limit for one picture
_IDX = {"images": (0x803, 3), "labels": (0x801, 1)}
_CIFAR_SHAPE, _CIFAR_ROW = (3, 32, 32), 1 + 3 * 32 * 32
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_TEST_NAMES = ("test", "val", "valid", "validation")

WANTS_MNIST = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or .gz)"
)
WANTS_CIFAR = "data_batch_1.bin to data_batch_5.bin and test_batch.bin, the binary version of CIFAR-10"
WANTS_PICTURES = "one folder of images for each class, directly or in train/ and test/"


def images(folder: Path, size: int = 32, *, grey: bool = False) -> Images:
    """Read MNIST, CIFAR-10 or pictures, depending on the contents of the folder. `size` and `grey` apply to pictures.

    Raises:
        UsageError: the folder has none of them, or files are damaged or too large.
    """
    _check(folder)
    if _idx(folder, "train", "images"):
        return mnist(folder)
    if _cifar_folder(folder):
        return cifar10(folder)
    if _classes(_part_folders(folder)[0]):
        return pictures(folder, size, grey=grey)
    if any((place / "data_batch_1").exists() for place in (folder, folder / "cifar-10-batches-py")):
        raise UsageError(
            f"{folder} contains the pickled version of CIFAR-10, which is not supported. Use {WANTS_CIFAR}."
        )
    raise UsageError(
        f"{folder} contains no data that this recipe can read. It accepts: {WANTS_MNIST}; {WANTS_CIFAR}; "
        f"{WANTS_PICTURES}."
    )


def digits_or_images(folder: Path | None) -> Images:
    """The data of a recipe for image classes: those of the folder, or the bundled digits."""
    return digits() if folder is None else images(folder)


def mnist(folder: Path) -> Images:
    """Images of shape (1, height, width). The test files are the test part."""
    _check(folder)
    train, test = (_mnist_part(folder, stem) for stem in ("train", "t10k"))
    if train.x.shape[1:] != test.x.shape[1:]:
        _refuse(folder, f"training images have {list(train.x.shape[2:])} pixels, test images {list(test.x.shape[2:])}")
    size = " x ".join(map(str, train.x.shape[2:]))
    about = (
        f"the user's idx files, {len(train.y):,} images of {size} pixels for training and {len(test.y):,} for testing"
    )
    return Images(about, train, test, int(max(train.y.max(), test.y.max())) + 1)


def cifar10(folder: Path) -> Images:
    """Images of shape (3, 32, 32) in ten classes. test_batch.bin is the test part."""
    _check(folder)
    place = _cifar_folder(folder)
    if place is None or not (place / "test_batch.bin").is_file():
        raise UsageError(f"{folder} does not contain CIFAR-10. It needs {WANTS_CIFAR}.")
    parts = [_cifar_part(path) for path in sorted(place.glob("data_batch_*.bin"))]
    train, test = Part(*map(torch.cat, zip(*parts, strict=True))), _cifar_part(place / "test_batch.bin")
    about = f"the user's CIFAR-10, {len(train.y):,} images for training and {len(test.y):,} for testing"
    return Images(about, train, test, 10)


def pictures(folder: Path, size: int, *, grey: bool = False) -> Images:
    """Images of shape (3, size, size), or (1, size, size) if grey. Classes are in the order of their folders' names."""
    _check(folder)
    first, second = _part_folders(folder)
    names = [path.name for path in _classes(first)]
    if not names:
        raise UsageError(f"{folder} contains no classes of images. It needs {WANTS_PICTURES}.")
    train = _pictures_part(first, names, size, grey)
    test = None if second is None else _pictures_part(second, names, size, grey)
    own = "with a different split for each seed" if test is None else f"and {len(test.y):,} for testing"
    about = f"the user's {len(train.y):,} images in {len(names)} classes, resized to {size} x {size}, {own}"
    return Images(about, train, test, len(names))


def text(folder: Path, characters: int = 1_000_000) -> Text:
    """All .txt files, concatenated and cut after `characters`."""
    _check(folder)
    parts, left = [], characters
    for path in sorted(folder.glob("*.txt")):
        with path.open(encoding="utf-8", errors="replace") as file:
            parts.append(file.read(left))
        left -= len(parts[-1])
    whole = "".join(parts)
    if not whole.strip():
        raise UsageError(f"{folder} contains no text. It needs .txt files.")
    return Text(f"{len(whole):,} characters of the user's text", whole)


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}. Pass the folder of the data as --data, or omit --data.")


def _refuse(path: Path, what: str) -> NoReturn:
    raise UsageError(f"cannot read {path}: {what}. Download the data again, or omit --data.")


def _idx(folder: Path, stem: str, kind: str) -> Path | None:
    axes = _IDX[kind][1]
    names = (f"{stem}-{kind}{mark}idx{axes}-ubyte{end}" for mark in "-." for end in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _mnist_part(folder: Path, stem: str) -> Part:
    x, y = (_read_idx(folder, stem, kind) for kind in _IDX)
    if len(x) != len(y):
        _refuse(folder, f"{stem} has {len(x):,} images but {len(y):,} labels")
    return Part(torch.from_numpy(x)[:, None].to(torch.float32) / 255, torch.from_numpy(y).to(torch.int64))


def _read_idx(folder: Path, stem: str, kind: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    path, (magic, axes) = _idx(folder, stem, kind), _IDX[kind]
    if path is None:
        raise UsageError(f"{folder} does not contain the {kind} of {stem}. It needs {WANTS_MNIST}.")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * axes)
            if len(head) < 4 + 4 * axes or struct.unpack(">I", head[:4])[0] != magic:
                _refuse(path, f"it is not an idx file of {kind}")
            shape = struct.unpack(f">{axes}I", head[4:])
            if not 0 < math.prod(shape) <= LARGEST_BYTES:
                _refuse(path, f"its header declares {' x '.join(map(str, shape))} bytes")
            body = file.read(math.prod(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        _refuse(path, str(error))
    if len(body) != math.prod(shape):
        actual = f"only {len(body):,}" if len(body) < math.prod(shape) else "more"
        _refuse(path, f"its header declares {math.prod(shape):,} bytes, but it has {actual}")
    return np.frombuffer(bytearray(body), np.uint8).reshape(shape)


def _cifar_folder(folder: Path) -> Path | None:
    places = (folder, folder / "cifar-10-batches-bin")
    return next((place for place in places if any(place.glob("data_batch_*.bin"))), None)


def _cifar_part(path: Path) -> Part:
    size = path.stat().st_size
    if not 0 < size <= LARGEST_BYTES or size % _CIFAR_ROW:
        _refuse(path, f"its {size:,} bytes are not a multiple of the {_CIFAR_ROW:,} bytes of an image")
    rows = torch.from_numpy(np.fromfile(path, np.uint8)).reshape(-1, _CIFAR_ROW)
    if int(rows[:, 0].max()) > 9:
        _refuse(path, f"it has the label {int(rows[:, 0].max())}, but labels are from 0 to 9")
    return Part(rows[:, 1:].reshape(-1, *_CIFAR_SHAPE).to(torch.float32) / 255, rows[:, 0].to(torch.int64))


def _part_folders(folder: Path) -> tuple[Path, Path | None]:
    """The training folder and the test folder. If there is no train/, the folder itself and None."""
    if not (folder / "train").is_dir():
        return folder, None
    tests = (folder / name for name in _TEST_NAMES)
    return folder / "train", next((place for place in tests if _classes(place)), None)


def _classes(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and _files(path)) if folder.is_dir() else []


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES and path.is_file())


def _pictures_part(folder: Path, names: list[str], size: int, grey: bool) -> Part:
    files = [(path, label) for label, name in enumerate(names) for path in _files(folder / name)]
    taken = len(files) * size * size * (1 if grey else 3)
    if not files or taken > LARGEST_BYTES:
        _refuse(folder, f"{len(files):,} images of {size} x {size} pixels need {taken:,} bytes")
    x = torch.stack([_picture(path, size, grey) for path, _ in files])
    return Part(x, torch.tensor([label for _, label in files]))


def _picture(path: Path, size: int, grey: bool) -> torch.Tensor:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    _refuse(path, f"{image.width:,} x {image.height:,} pixels exceed the limit of {LARGEST_PIXELS:,}")
                small = image.convert("L" if grey else "RGB").resize((size, size), Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        if isinstance(error, UsageError):
            raise
        _refuse(path, str(error).replace(str(path), "the file"))
    pixels = torch.from_numpy(np.array(small)).to(torch.float32) / 255
    return pixels.reshape(size, size, -1).permute(2, 0, 1)

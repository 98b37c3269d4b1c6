"""Data of the recipes: what is bundled, and the user's folders, whole and damaged. No download, no pickle."""

import gzip
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("skimage")

import numpy as np
import torch
from PIL import Image

from edgefc.errors import UsageError
from edgefc.recipes import data, folders


def idx(magic: int, *shape: int, body: bytes | None = None) -> bytes:
    body = bytes(i % 251 for i in range(int(np.prod(shape)))) if body is None else body
    return struct.pack(f">{1 + len(shape)}I", magic, *shape) + body


def write_mnist(folder: Path, *, packed: bool = False, dot: bool = False) -> None:
    for stem, rows in (("train", 4), ("t10k", 2)):
        parts = {"images-idx3": idx(0x803, rows, 3, 5), "labels-idx1": idx(0x801, rows, body=bytes(range(rows)))}
        for name, content in parts.items():
            path = folder / f"{stem}-{name.replace('-idx', '.idx') if dot else name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)


def write_cifar(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, labels in (("data_batch_1", (3, 9)), ("data_batch_2", (0,)), ("test_batch", (1,))):
        rows = (bytes([label]) + bytes([label]) * 1024 + bytes(1024) + bytes([255]) * 1024 for label in labels)
        (folder / f"{name}.bin").write_bytes(b"".join(rows))


def write_pictures(folder: Path, per_class: int = 1) -> None:
    for shade, name in ((0, "b"), (255, "a")):
        (folder / name / "images").mkdir(parents=True)
        for index in range(per_class):
            Image.new("RGB", (7, 9), (shade, shade, 128)).save(folder / name / "images" / f"{index}.png")


# ---- bundled


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was opened")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    shapes = [data.photograph(name, 16).shape[:2] for name in data.PHOTOGRAPHS]

    assert shapes == [(16, 16)] * len(data.PHOTOGRAPHS)
    assert data.faces().shape == (1, 25, 25)
    assert data.digits().shape == (1, 8, 8)


@pytest.mark.parametrize(("images", "rows", "test"), [(data.digits, 1797, 450), (data.faces, 200, 50)])
def test_splits_are_whole_stratified_and_the_seeds_own(images: Any, rows: int, test: int) -> None:
    found = images()
    (train, held), again, other = found.split(0), found.split(0), found.split(1)

    assert len(train.y) + len(held.y) == rows
    assert len(held.y) == pytest.approx(test, abs=2)
    assert torch.equal(held.x, again[1].x) and not torch.equal(held.x, other[1].x)
    shares = torch.bincount(held.y) / torch.bincount(found.train.y)
    assert shares == pytest.approx(torch.full((found.classes,), 0.25), abs=0.01)
    assert (train.x.min(), train.x.max()) == (0, pytest.approx(1, abs=0.01))
    assert found.test_over_train == pytest.approx(len(held.y) / len(train.y), rel=0.02)


def test_tuning_leaves_the_test_rows_alone() -> None:
    whole = data.Part(torch.arange(40.0).reshape(40, 1, 1, 1), torch.arange(40) % 2)
    for images in (data.Images("", whole, None, 2), data.Images("", whole, whole, 2)):
        train, test = images.split(3)
        fit, held = images.split(3, tuning=True)

        assert sorted(torch.cat([fit.x, held.x]).flatten().tolist()) == sorted(train.x.flatten().tolist())
        assert len(held.y) == round(len(train.y) * 0.2)
        assert images.test is not None or not set(held.x.flatten().tolist()) & set(test.x.flatten().tolist())


def test_the_librarys_text() -> None:
    text = data.library_docstrings(50_000)

    assert len(text.text) == 50_000 and "def " not in text.text[:1000] and text == data.library_docstrings(50_000)
    assert "standard library of CPython 3." in text.about
    train, test = text.split()
    assert (len(train), len(test)) == (40_000, 5_000) and text.text.startswith(train) and text.text.endswith(test)
    assert text.split(tuning=True) == (train, text.text[40_000:45_000])


def test_an_absent_photograph() -> None:
    with pytest.raises(
        UsageError, match=r"scikit-image's wheel contains no photograph 'eagle'\. Choose one of: astronaut"
    ):
        data.photograph("eagle", 8)


# ---- the user's


@pytest.mark.parametrize("form", [{}, {"packed": True}, {"dot": True}])
def test_mnist(tmp_path: Path, form: dict[str, bool]) -> None:
    write_mnist(tmp_path, **form)

    found = folders.images(tmp_path)

    assert found.test is not None
    assert found.shape == (1, 3, 5) and found.classes == 4 and found.test_over_train == 0
    assert found.train.x.flatten().tolist() == pytest.approx([i / 255 for i in range(60)])
    assert found.test.y.tolist() == [0, 1] and found.train.y.tolist() == [0, 1, 2, 3]
    assert "4 images of 3 x 5 pixels for training and 2 for testing" in found.about and str(tmp_path) not in found.about


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is not an idx file of images"),
        (idx(0x801, 4), "it is not an idx file of images"),
        (idx(0x803, 4, 3, 5, body=bytes(59)), "its header declares 60 bytes, but it has only 59"),
        (idx(0x803, 4, 3, 5, body=bytes(61)), "its header declares 60 bytes, but it has more"),
        (idx(0x803, 2**31, 2**31, 2**31, body=b""), "its header declares 2147483648 x 2147483648 x 2147483648 bytes"),
        (idx(0x803, 0, 3, 5), "its header declares 0 x 3 x 5 bytes"),
        (idx(0x803, 3, 3, 5), "train has 3 images but 4 labels"),
    ],
)
def test_damaged_mnist(tmp_path: Path, content: bytes, says: str) -> None:
    write_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)

    with pytest.raises(UsageError, match=says):
        folders.images(tmp_path)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(idx(0x803, 4, 3, 5))[:30]], ids=["text", "half"])
def test_damaged_gzip(tmp_path: Path, content: bytes) -> None:
    write_mnist(tmp_path, packed=True)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)

    with pytest.raises(UsageError, match=r"cannot read .*train-images-idx3-ubyte\.gz: "):
        folders.images(tmp_path)


def test_mnist_that_lacks_a_file(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()

    with pytest.raises(UsageError, match=r"does not contain the labels of t10k\. It needs train-images-idx3-ubyte, "):
        folders.images(tmp_path)


@pytest.mark.parametrize("below", [".", "cifar-10-batches-bin"])
def test_cifar(tmp_path: Path, below: str) -> None:
    write_cifar(tmp_path / below)

    found = folders.images(tmp_path)

    assert found.test is not None
    assert found.shape == (3, 32, 32) and found.classes == 10
    assert found.train.y.tolist() == [3, 9, 0] and found.test.y.tolist() == [1]
    assert found.train.x[1].mean((1, 2)).tolist() == pytest.approx([9 / 255, 0, 1])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "its 0 bytes are not a multiple of the 3,073 bytes of an image"),
        (bytes(3072), "its 3,072 bytes are not a multiple"),
        (bytes([10]) + bytes(3072), "it has the label 10, but labels are from 0 to 9"),
    ],
)
def test_damaged_cifar(tmp_path: Path, content: bytes, says: str) -> None:
    write_cifar(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(content)

    with pytest.raises(UsageError, match=says):
        folders.images(tmp_path)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"\x80\x04.")

    with pytest.raises(
        UsageError, match=r"contains the pickled version of CIFAR-10, which is not supported\. Use data_batch_1\.bin"
    ):
        folders.images(tmp_path)


@pytest.mark.parametrize("grey", [False, True])
def test_pictures(tmp_path: Path, grey: bool) -> None:
    write_pictures(tmp_path, 2)

    found = folders.images(tmp_path, 4, grey=grey)

    assert found.shape == (1 if grey else 3, 4, 4) and found.test is None and found.classes == 2
    assert found.train.y.tolist() == [0, 0, 1, 1]
    assert found.train.x[0, 0].tolist() == pytest.approx(np.full((4, 4), 0.945 if grey else 1.0), abs=0.01)


def test_pictures_that_are_divided(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", 2)
    write_pictures(tmp_path / "val")

    found = folders.images(tmp_path, 4)

    assert found.test is not None
    assert (len(found.train.y), len(found.test.y)) == (4, 2)


def test_damaged_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(folders, "LARGEST_PIXELS", 62)
        with pytest.raises(UsageError, match="7 x 9 pixels exceed the limit of"):
            folders.images(tmp_path)
        patch.setattr(folders, "LARGEST_BYTES", 95)
        with pytest.raises(UsageError, match="2 images of 4 x 4 pixels need 96 bytes"):
            folders.images(tmp_path, 4)
    path = tmp_path / "b" / "images" / "0.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UsageError, match=r"cannot read .*0\.png: "):
        folders.images(tmp_path)


def test_text(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.txt").write_text("first ")

    assert folders.text(tmp_path).text == "first second"
    assert folders.text(tmp_path, 8).text == "first se"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"contains no text\. It needs \.txt files\."):
        folders.text(tmp_path / "empty")

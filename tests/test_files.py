"""Files are written whole or not at all, and leave nothing beside them."""

import os
from pathlib import Path

import pytest

from edgefc.errors import UsageError
from edgefc.files import check_writable, staged, write_text
from tests.cli_models import files


def test_text(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "ä.txt", "grün\n")

    assert (tmp_path / "deep" / "er" / "ä.txt").read_bytes() == "grün\n".encode()
    assert len(files(tmp_path)) == 3


def test_a_name_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    write_text("r.json", "{}")

    assert (tmp_path / "r.json").read_text() == "{}"


def test_several_files_move_together(tmp_path: Path) -> None:
    """The named one last: who sees it finds the others."""
    moved = []
    with pytest.MonkeyPatch.context() as patch:
        replace = os.replace
        patch.setattr(os, "replace", lambda a, b: (moved.append(Path(b).name), replace(a, b)))
        with staged(tmp_path / "m.onnx") as folder:
            for name in ("m.onnx", "z.data", "a.data"):
                (folder / name).write_text(name)
            assert [path for path in tmp_path.iterdir() if path.is_file()] == []

    assert sorted(files(tmp_path)) == ["a.data", "m.onnx", "z.data"] and moved[-1] == "m.onnx"


def test_a_block_that_fails_leaves_everything(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("old")
    before = files(tmp_path)

    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "m.onnx") as folder:  # noqa: PT012
        (folder / "m.onnx").write_text("new")
        raise KeyboardInterrupt

    assert files(tmp_path) == before


def test_folders_made_for_nothing_are_removed(tmp_path: Path) -> None:
    """Those that were there stay, empty or not."""
    (tmp_path / "there").mkdir()

    check_writable(tmp_path / "there" / "a" / "b" / "m.onnx")
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "there" / "a" / "m.onnx"):
        raise ZeroDivisionError
    with pytest.raises(UsageError), staged(tmp_path / "there" / "a" / ("x" * 300) / "m.onnx"):
        pass

    assert files(tmp_path) == {"there": "folder"}


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("", "it is a folder. Name a file in it."),
        ("file/m.onnx", "Choose a place that can be written."),
        ("x" * 300, "Choose a place that can be written."),
        ("/proc/absent/m.onnx", "Choose a place that can be written."),
    ],
    ids=["folder", "below-a-file", "long-name", "no-file-system-for-it"],
)
def test_places_that_cannot_be_written(tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "file").write_text("no folder")
    before = files(tmp_path)

    for action in (check_writable, lambda path: write_text(path, "text")):
        with pytest.raises(UsageError, match=r"^cannot write ") as caught:
            action(tmp_path / place)
        assert str(caught.value).endswith(said) and "\n" not in str(caught.value)
    assert files(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)

    with pytest.raises(UsageError, match="Permission denied"):
        check_writable(tmp_path / "closed" / "m.onnx")

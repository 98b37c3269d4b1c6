"""Files are written whole or not at all, and leave nothing beside them."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgefc.errors import UsageError
from edgefc.files import check_writable, staged, write_text
from tests.support.cli_models import files

ROOT = Path(__file__).resolve().parents[1]


def test_text(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "ä.txt", "grün\n")

    assert (tmp_path / "deep" / "er" / "ä.txt").read_bytes() == "grün\n".encode()
    assert len(files(tmp_path)) == 3


def test_a_name_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    write_text("r.json", "{}")

    assert (tmp_path / "r.json").read_text() == "{}"


def test_a_block_that_fails_leaves_everything(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("old")
    before = files(tmp_path)

    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "m.onnx") as file:  # noqa: PT012
        file.write_text("new")
        assert (tmp_path / "m.onnx").read_text() == "old"
        raise KeyboardInterrupt

    assert files(tmp_path) == before


def test_a_check_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("old")

    check_writable(tmp_path / "m.onnx")

    assert (tmp_path / "m.onnx").read_text() == "old" and len(files(tmp_path)) == 1


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
        ("file/m.onnx", "Choose a path that can be written."),
        ("x" * 300, "Choose a path that can be written."),
        ("/proc/absent/m.onnx", "Choose a path that can be written."),
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


def linked(folder: Path) -> Path:
    (folder / "store").mkdir()
    (folder / "store" / "v1.txt").write_text("old")
    (folder / "a.json").symlink_to("store/v1.txt")
    return folder / "store" / "v1.txt"


def chained(folder: Path) -> Path:
    """Three links, one absolute and one in a folder that is a link itself."""
    (folder / "real" / "deep").mkdir(parents=True)
    (folder / "short").symlink_to("real/deep")
    (folder / "a.json").symlink_to("short/b.json")
    (folder / "real" / "deep" / "b.json").symlink_to("../c.json")
    (folder / "real" / "c.json").symlink_to(folder / "d.txt")
    (folder / "d.txt").write_text("old")
    return folder / "d.txt"


def dangling(folder: Path) -> Path:
    (folder / "a.json").symlink_to("later.txt")
    return folder / "later.txt"


def into_folders_that_do_not_exist(folder: Path) -> Path:
    (folder / "a.json").symlink_to("x/y/later.txt")
    return folder / "x" / "y" / "later.txt"


def below_a_dangling_folder(folder: Path) -> Path:
    (folder / "a.json").symlink_to("out/a.txt")
    (folder / "out").symlink_to("not/yet")
    return folder / "not" / "yet" / "a.txt"


LINKS = [linked, chained, dangling, into_folders_that_do_not_exist, below_a_dangling_folder]


@pytest.mark.parametrize("make", LINKS)
def test_links_stay_and_their_target_is_written(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    target = make(tmp_path)
    links = {path: os.readlink(path) for path in tmp_path.rglob("*") if path.is_symlink()}

    write_text(tmp_path / "a.json", "new")

    assert target.read_text() == "new" and not target.is_symlink()
    assert {path: os.readlink(path) for path in tmp_path.rglob("*") if path.is_symlink()} == links
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("make", [into_folders_that_do_not_exist, below_a_dangling_folder])
def test_a_link_that_only_could_be_written_makes_no_folder(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(tmp_path)
    before = files(tmp_path)

    check_writable(tmp_path / "a.json")

    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("a.json", "symbolic links form a cycle. Choose another name."),
        ("b.json", "symbolic links form a cycle. Choose another name."),
        ("folder", "it is a folder. Name a file in it."),
        ("pipe", "it is not a regular file. Choose another name."),
        ("file/m.onnx", "Choose a path that can be written."),
        ("x" * 300, "Choose a path that can be written."),
        ("loop/m.onnx", "Choose a path that can be written."),
    ],
)
def test_links_that_cannot_be_written(tmp_path: Path, to: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "b.json").symlink_to("a.json")
    try:
        (tmp_path / "a.json").symlink_to(to)
    except OSError:
        pytest.skip("the file system takes no such link")
    before = sorted(os.listdir(tmp_path))

    with pytest.raises(UsageError, match=r"^cannot write ") as caught:
        write_text(tmp_path / "a.json", "text")

    assert str(caught.value).endswith(said) and "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_the_message_says_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("folder")
    (tmp_path / "folder").mkdir()

    with pytest.raises(UsageError, match=rf"a\.json \(a link to {tmp_path}/folder\): it is a folder"):
        write_text(tmp_path / "a.json", "text")


def test_a_name_with_nul(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a name cannot contain a NUL character"):
        write_text(f"{tmp_path}/a\0.json", "text")


@pytest.mark.parametrize("length", [200, 240, 255])
def test_names_as_long_as_they_may_be(tmp_path: Path, length: int) -> None:
    name = "ä" * ((length - 5) // 2) + "a" * ((length - 5) % 2) + ".json"
    assert len(name.encode()) == length

    write_text(tmp_path / name, "text")

    assert (tmp_path / name).read_text() == "text"


def test_another_suffix_behind_a_link(tmp_path: Path) -> None:
    """What writes by suffix (pictures) sees that of the name that was given."""
    (tmp_path / "p.png").symlink_to("blob")

    with staged(tmp_path / "p.png") as file:
        assert file.suffix == ".png"
        file.write_text("picture")

    assert (tmp_path / "blob").read_text() == "picture"


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o755, 0o444])
def test_permissions_of_the_file_that_is_replaced(tmp_path: Path, bits: int) -> None:
    (tmp_path / "a.json").write_text("old")
    (tmp_path / "a.json").chmod(bits)

    write_text(tmp_path / "a.json", "new")

    assert (tmp_path / "a.json").stat().st_mode & 0o7777 == bits


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o777])
def test_permissions_of_a_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.json", "new")
    finally:
        os.umask(before)

    assert (tmp_path / "a.json").stat().st_mode & 0o7777 == 0o666 & ~mask
    assert files(tmp_path).keys() == {"a.json"}


FAULTS = ["fsync", "chmod", "replace"]


@pytest.mark.parametrize("call", FAULTS)
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "a.json: No space left on device. Free some space there, or choose another path."),
        (errno.EIO, "a.json: Input/output error. Choose a path that can be written."),
    ],
)
def test_errors_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, said: str
) -> None:
    """Wherever they come: the old file stays, and nothing is beside it."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "a.json").write_text("old")
    (tmp_path / "a.json").chmod(0o640)
    before = files(tmp_path)
    place, name = (Path, call) if call == "chmod" else (os, call)
    with monkeypatch.context() as patch, pytest.raises(UsageError) as caught, staged(tmp_path / "a.json") as file:  # noqa: PT012
        file.write_text("new")
        patch.setattr(place, name, fail)

    assert str(caught.value).endswith(said)
    assert files(tmp_path) == before


def test_a_target_that_became_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Is a directory"), staged(tmp_path / "a.json") as file:  # noqa: PT012
        file.write_text("new")
        (tmp_path / "a.json").mkdir()

    assert files(tmp_path) == {"a.json": "folder"}


def test_a_folder_that_went_away(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"), staged(tmp_path / "f" / "a.json") as file:  # noqa: PT012
        file.write_text("new")
        shutil.rmtree(tmp_path / "f")

    assert files(tmp_path) == {}


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys; from edgefc.files import staged\n"
        "with staged(sys.argv[1]) as file: file.write_text('half'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.json")], check=False, cwd=ROOT)
    assert "a.json" not in files(tmp_path) and len(files(tmp_path)) == 2

    write_text(tmp_path / "other.json", "text")

    assert files(tmp_path).keys() == {"other.json"}


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """As `ulimit -f` sets it: the system refuses while the file is written."""
    (tmp_path / "a.json").write_text("old")
    code = (
        "import resource, sys; from edgefc.files import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_text(sys.argv[1], 'x' * 2000)\n"
        "except ValueError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.json")], check=True, cwd=ROOT, capture_output=True, text=True
    )

    assert done.stdout.startswith("UsageError cannot write ") and "File too large. Free some space there" in done.stdout
    assert files(tmp_path).keys() == {"a.json"} and (tmp_path / "a.json").read_text() == "old"

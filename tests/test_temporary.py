"""Temporary folders: gone at the end of the block, and gone after a kill when the next one is made."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edgefc import temporary
from edgefc.errors import UsageError

_HELD = """
import sys
from edgefc import temporary
with temporary.folder("held-", sys.argv[1]) as made:
    (made / "file").write_text("half")
    print(made.name, flush=True)
    sys.stdin.read()
"""


def _holder(place: Path) -> "tuple[subprocess.Popen[str], str]":
    process = subprocess.Popen(
        [sys.executable, "-c", _HELD, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_folder_ends_with_its_block_also_when_that_fails(tmp_path: Path) -> None:
    with temporary.folder("a-", tmp_path) as made:
        (made / "deep").mkdir()
        (made / "deep" / "file").write_text("x")
        assert made.parent == tmp_path
        assert made.stat().st_mode & 0o077 == 0
    with pytest.raises(RuntimeError), temporary.folder("a-", tmp_path):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_by_the_next_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    killed, left = _holder(tmp_path)
    living, held = _holder(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (tmp_path / left / "file").is_file()
    with temporary.folder("held-", tmp_path) as made:
        assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([held, made.name])
    living.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_only_own_folders_with_the_prefix_are_removed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("kept")
    (tmp_path / "held-link").symlink_to(elsewhere)
    (tmp_path / "held-file").write_text("kept")
    (tmp_path / "other-folder").mkdir()
    newborn, old = tmp_path / "held-new-1", tmp_path / "held-new-2"
    for made in (newborn, old):
        made.mkdir()
    os.utime(old, (time.time() - 3600, time.time() - 3600))
    with temporary.folder("held-", tmp_path):
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "elsewhere", "held-file", "held-link", "held-new-1", "other-folder",
    ]  # fmt: skip
    assert (elsewhere / "file").read_text() == "kept"


@pytest.mark.skipif(os.name == "nt", reason="processes are looked up by os.kill")
def test_a_folder_of_a_process_that_was_killed_before_locking_is_removed_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal\nfrom edgefc import temporary\n"
        "temporary._locked = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"with temporary.folder('held-', {str(tmp_path)!r}):\n    pass"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("held-new-")
    other = tmp_path / left.name.replace(temporary._HOST, "00000000")  # as if by another machine
    other.mkdir()
    with temporary.folder("held-", tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [other]


def test_without_locks_a_folder_is_made_and_removed_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    (tmp_path / "held-1").mkdir()
    with temporary.folder("held-", tmp_path) as made:
        assert made.is_dir()
    assert [entry.name for entry in tmp_path.iterdir()] == ["held-1"]


def test_no_place_for_temporary_files_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with (
        pytest.raises(UsageError, match=r"^cannot make a temporary folder: No usable .* Set TMPDIR to a folder"),
        temporary.folder("a-"),
    ):
        pass


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("9 requested and 0 written")])
def test_no_room_for_what_the_block_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: OSError) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))

    with pytest.raises(UsageError) as caught, temporary.folder("a-"):
        raise error

    assert str(caught.value) == (
        f"cannot write temporary files to {tmp_path}: {error.strerror or error}. "
        "Free some space there, or set TMPDIR to a folder on another disk."
    )
    with pytest.raises(OSError, match="^" + re.escape(str(error))), temporary.folder("a-", tmp_path):
        raise error  # as it is: the caller gave the place, and names what it writes there


def test_other_errors_of_the_block_are_not_about_the_place() -> None:
    with pytest.raises(FileNotFoundError), temporary.folder("a-"):
        raise FileNotFoundError(2, "No such file or directory")

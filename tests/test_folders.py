"""The user's folders: what the specification says, and one sentence where there is no home."""

import os
import pwd
from pathlib import Path
from typing import NoReturn

import pytest

from edgefc import folders
from edgefc.cli import main
from edgefc.devices import inventory
from edgefc.devices.browser import onnxruntime_web
from edgefc.devices.inventory import Device
from edgefc.errors import UsageError
from tests.support import userland
from tests.support.onnx_models import matmul


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry in passwd."""

    def absent(number: int) -> NoReturn:
        raise KeyError(number)

    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "EDGEFC_ARM64_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", absent)


def test_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, expected in ((str(tmp_path / "x"), tmp_path / "x"), ("", None), ("relative", None)):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        monkeypatch.setenv("XDG_CONFIG_HOME", given)
        assert folders.cache() == (expected or tmp_path / ".cache") / "edgefc"
        assert folders.config() == (expected or tmp_path / ".config") / "edgefc"
    monkeypatch.delenv("HOME")
    assert folders.cache() == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache/edgefc"


@pytest.mark.usefixtures("homeless")
def test_no_home(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = (
        f"the user {os.getuid()} has no home folder: HOME is '', and {{0}} is not set. Set {{0}} to the absolute path"
    )
    model = matmul(tmp_path / "m.onnx")
    for use, variable in ((inventory.path, "CONFIG"), (userland.place, "CACHE"), (onnxruntime_web.cache, "CACHE")):
        with pytest.raises(UsageError) as caught:
            use()
        assert str(caught.value).startswith(said.format(f"XDG_{variable}_HOME"))
    assert main(["devices"]) == 0 and main(["estimate", str(model), "--device", "pi5"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["devices", "add", "pi", "--ssh", "pi"]) == 2 and main(["devices", "remove", "pi"]) == 2
    assert capsys.readouterr().err.count("edgefc devices: the user ") == 2
    assert main(["profile", str(model), "--device", "pi"]) == 2 and "XDG_CONFIG_HOME" in capsys.readouterr().err
    assert main(["devices", "check", "web"]) == 2 and "XDG_CACHE_HOME" in capsys.readouterr().err
    assert userland.main([]) in (2, 3) and capsys.readouterr().err.startswith("edgefc: the ")


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "large", "not UTF-8", "not searchable"])
def test_an_inventory_that_is_none(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a wait nor a traceback, and add does not write over it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgefc").mkdir()
    file, why = inventory.path(), ""
    if kind == "pipe":
        os.mkfifo(file)
        why = "it is not a regular file"
    elif kind == "folder":
        file.mkdir()
        why = "it is not a regular file"
    elif kind == "loop":
        file.symlink_to(file)
        why = "Too many levels of symbolic links"
    elif kind == "large":
        with file.open("wb") as large:
            large.truncate(100 << 20)
        why = "it has more than 1048576 bytes"
    elif kind == "not UTF-8":
        file.write_bytes(b"[devices.\xff]\n")
        why = "it is not valid TOML"
    else:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ("x" * 300)))
        why = "File name too long"
    for command in (["devices"], ["devices", "add", "pi", "--ssh", "pi"]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert why in err and err.count("\n") == 1


def test_a_link_to_an_inventory_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgefc").mkdir()
    inventory.path().symlink_to(tmp_path / "dotfiles.toml")
    assert inventory.devices() == {}


def test_a_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"Not a directory\. Set XDG_CONFIG_HOME to a folder that can be written\.$"):
        inventory.add("pi", Device(transport="ssh", address="pi"))

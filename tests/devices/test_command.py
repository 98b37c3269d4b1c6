"""A system behind a command: what is run, and the messages if that fails."""

import sys
from pathlib import Path

import pytest

from edgefc.devices import inventory
from edgefc.devices.board.client import Board
from edgefc.devices.connect import transport
from edgefc.devices.transports.command import CommandTransport
from edgefc.errors import DeviceError


def test_the_agent_answers_behind_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`env` with another home folder is used instead of a container."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    python = f"env HOME={tmp_path} XDG_CACHE_HOME={tmp_path}/cache PATH={Path(sys.executable).parent}:/usr/bin:/bin"
    inventory.add("box", inventory.Device(transport="command", address=python))

    with Board(transport("box")) as board:
        facts = board.call("check", silence_s=120.0)

    assert facts["onnxruntime"] and facts["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert (tmp_path / "cache/edgefc").is_dir()


def test_a_command_that_is_not_installed() -> None:
    with pytest.raises(DeviceError) as caught:
        Board(CommandTransport("box", ["no-such-program", "exec"]))
    assert str(caught.value) == "cannot reach box: there is no program 'no-such-program' here. Install it."


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("kill -9 $$", "sh on this machine was killed by SIGKILL. Run the command again."),
        ("echo 'exec /bin/python3: exec format error' >&2; exit 1",
         "this machine cannot run programs of that processor. Install qemu-user-static."),
        ("echo no such container >&2; exit 1", "no such container"),
    ],
)  # fmt: skip
def test_a_command_that_fails(script: str, sentence: str) -> None:
    with pytest.raises(DeviceError) as caught:
        Board(CommandTransport("box", ["sh", "-c", script]))
    assert "box" in str(caught.value) and sentence in str(caught.value)

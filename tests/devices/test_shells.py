"""Login shells of boards, behind a real sshd: each of them starts the agent, whatever its start files print; where one
starts nothing, the sentence says what was seen.
"""

from pathlib import Path

import pytest

from edgefc.devices.board.client import Board
from edgefc.devices.transports.base import quoted
from edgefc.devices.transports.ssh import SshTransport
from edgefc.errors import DeviceError
from tests.support.sshd import Sshd, clean, login_shell

pytestmark = pytest.mark.slow


def started(board: Sshd, monkeypatch: pytest.MonkeyPatch, start_s: float = 60.0) -> None:
    """Twice: with and without the agent there already. Nothing stays."""
    monkeypatch.setenv("EDGEFC_SSH_CONFIG", str(board.config))
    for _ in range(2):
        with Board(SshTransport(board.name, board.name), start_s=start_s) as there:
            assert there.call("have", sha256="0" * 64, size=1) == 0
    assert clean(board)


@pytest.mark.parametrize("shell", ["sh", "bash", "rbash", "dash", "tcsh", "csh", "fish", "zsh", "ksh", "busybox sh"])
def test_a_login_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    with Sshd(tmp_path, "kitchen", force=login_shell(shell)) as board:
        started(board, monkeypatch)


JSON = '{"edgefc": 1, "need": false}\n{"id": 1, "answer": {"protocol": 1}}'
NOISES = {
    "without a line end": "printf hello",
    "lines like ours": f"echo '{JSON}'; echo 'edgefc-0123456789abcdef {{\"need\": false}}'",
    "escapes and no UTF-8": r"printf '\033[2J\377\376\000\r\n\033]0;title\007'",
    "on stderr": "echo 'root@kitchen: Permission denied (publickey).' >&2",
    "at the end": "trap 'echo good; printf bye >&2' EXIT",
    "a million lines": "yes 'a line of a long banner' | head -n 1000000",
}


@pytest.mark.parametrize("noise", NOISES)
def test_start_files_that_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str) -> None:
    with Sshd(tmp_path, "kitchen", force=login_shell("bash")) as board:
        (board.home / ".bashrc").write_text(NOISES[noise] + "\n")
        started(board, monkeypatch)


def test_start_files_of_other_shells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tcsh shows every command that it runs, on both streams."""
    with Sshd(tmp_path, "kitchen", force=login_shell("tcsh")) as board:
        (board.home / ".tcshrc").write_text("echo hello\nset echo verbose\n")
        started(board, monkeypatch)


@pytest.mark.parametrize(
    ("force", "message"),
    [
        ("/bin/false", r"kitchen ended the session \(exit 1\) before the agent started, and printed nothing\. "
         r"Check what this command does: ssh kitchen python3 --version"),
        ("/usr/sbin/nologin", r"\(exit 1\) before the agent started; its last line was 'This account is currently no"),
        ("echo only backups", r"\(exit 0\) before the agent started; its last line was 'only backups'\."),
        ("exec kill -9 $$", r"\(SIGKILL\) before the agent started, and printed nothing|exit 255"),
    ],
)  # fmt: skip
def test_what_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: str, message: str) -> None:
    with Sshd(tmp_path, "kitchen", force=force) as board:
        monkeypatch.setenv("EDGEFC_SSH_CONFIG", str(board.config))
        with pytest.raises(DeviceError, match=message):
            Board(SshTransport("kitchen", "kitchen"))
        assert clean(board)


def test_start_files_that_wait_for_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sshd(tmp_path, "kitchen") as board:
        monkeypatch.setenv("EDGEFC_SSH_CONFIG", str(board.config))
        (board.home / ".bashrc").write_text("echo Who is there; read answer\n")
        with pytest.raises(DeviceError, match=r"kitchen did not start the agent in time; its last line was 'Who is th"):
            Board(SshTransport("kitchen", "kitchen"), start_s=2.0)
        assert clean(board)


@pytest.mark.parametrize("shell", ["bash", "tcsh", "fish"])
def test_no_python_in_the_words_of_each_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    with Sshd(tmp_path, "kitchen", force=login_shell(shell), PATH="/usr/sbin") as board:
        monkeypatch.setenv("EDGEFC_SSH_CONFIG", str(board.config))
        with pytest.raises(DeviceError, match=r"^kitchen has no python3\. Install Python 3\.9"):
            Board(SshTransport("kitchen", "kitchen"))


def test_words_that_shells_read_differently() -> None:
    for word in ("it's", "a\\b", "wow!", "two\nlines", "ä", "\x1b"):
        with pytest.raises(DeviceError, match="cannot be quoted for every login shell"):
            quoted([word])

"""Debian's own sshd on loopback, with keys, known hosts and configuration of its own: boards for tests.

    with Sshd(tmp_path, "kitchen") as board:
        SshTransport("kitchen", "kitchen")      with $EDGEFC_SSH_CONFIG set to board.config

Several boards are several sshd, each with an environment of its own; with `chroot`, an arm64 folder is behind
it. The user's ssh configuration is never read.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import userland

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def needs_sshd() -> str:
    """The program; a loud skip where there is none."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("NOT TESTED: ssh needs Debian's openssh-server and openssh-client, which are not installed here")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    return SSHD


class Sshd:
    """One board, by the alias `name`; `environment` is what its programs see.

    `force` is what runs there in place of the command, which is in $SSH_ORIGINAL_COMMAND; login_shell() makes one.

    Attributes:
        config   for ssh -F, or $EDGEFC_SSH_CONFIG
        cache    the folder where the agent keeps what it is sent
    """

    def __init__(
        self, folder: Path, name: str = "board", chroot: Path | None = None, force: str | None = None,
        **environment: str,
    ) -> None:  # fmt: skip
        self.program, self.folder, self.name, self.chroot = needs_sshd(), folder / name, name, chroot
        self.force = force
        home = self.folder / "home" if chroot is None else Path(f"/tmp/edgefc-test-{os.getpid()}-{name}")
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin" if chroot is None else "/usr/local/bin:/usr/bin:/bin"
        self.environment = {"HOME": str(home), "PATH": path, **environment}
        self.home = home if chroot is None else chroot / home.relative_to("/")
        self.config, self.cache = folder / "ssh_config", self.home / ".cache/edgefc"
        self.hosts = folder / f"known_hosts_{name}"

    def __enter__(self) -> "Sshd":
        self.folder.mkdir(parents=True)
        self.home.mkdir()
        for key in ("host", "user"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key))
        shutil.copy(self.folder / "user.pub", self.folder / "authorized_keys")
        self.port = _free_port()
        settings = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.folder}/host", "PidFile none",
            f"AuthorizedKeysFile {self.folder}/authorized_keys", "PasswordAuthentication no", "StrictModes no",
            "KbdInteractiveAuthentication no", "UsePAM no", "LogLevel ERROR",
            f'SetEnv {" ".join(f"{name}={value}" for name, value in self.environment.items())}',
            *([f"ChrootDirectory {self.chroot}"] if self.chroot else []),
            *([f"ForceCommand {self.force}"] if self.force else []),
        ]  # fmt: skip
        (self.folder / "sshd_config").write_text("\n".join(settings) + "\n")
        command = [self.program, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        if self.chroot is not None:
            command = userland.mounted(self.chroot, command)
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.trust(self.folder / "host.pub")
        with self.config.open("a") as file:
            file.write(
                f"Host {self.name}\n HostName 127.0.0.1\n Port {self.port}\n IdentityFile {self.folder}/user\n"
                f" IdentitiesOnly yes\n UserKnownHostsFile {self.hosts}\n GlobalKnownHostsFile /dev/null\n"
                " IdentityAgent none\n"
            )
        _wait_for(self.port)
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.connections():
            _kill(child)
        self.process.terminate()
        self.process.wait(10)
        if self.chroot is not None:
            shutil.rmtree(self.home)

    def trust(self, public: Path) -> None:
        """Expect this host key."""
        kind, key = public.read_text().split()[:2]
        self.hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def connections(self) -> list[int]:
        """The processes of sshd that serve one connection each."""
        return children(self.process.pid)

    def agents(self) -> list[int]:
        """Every process that runs the agent, or a probe, on this board."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    seen = (folder / "environ").read_bytes().split(b"\0")
                    words = (folder / "cmdline").read_bytes()
                except OSError:
                    continue
                if f"HOME={self.environment['HOME']}".encode() in seen and b"sshd" not in words:
                    found.append(int(folder.name))
        return found

    def leftovers(self) -> list[str]:
        """What runs have left in the cache; empty when all is removed."""
        return sorted(path.name for path in (self.cache / "runs").glob("*"))


def login_shell(program: str) -> str:
    """The command that does as sshd does for a user with this login shell; a loud skip where it is not installed."""
    name, *options = program.split()
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"NOT TESTED: {name} is not installed here; .ci/system installs it")
    return f'exec {" ".join([found, *options])} -c "$SSH_ORIGINAL_COMMAND"'


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(FileNotFoundError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


def clean(board: Sshd, within_s: float = 20.0) -> bool:
    """Whether the board comes to have neither a process nor a folder of a run."""
    until = time.monotonic() + within_s
    while board.agents() or board.leftovers():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, 9)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise TimeoutError(f"sshd does not listen on port {port}")

"""For tests: an arm64 Debian folder on this machine, run by qemu: python -m tests.support.userland [--folder DIR]

What runs in it runs arm64 machine code, onnxruntime's arm64 wheel among it, so its answers are those of a board. Its
speed is qemu's and says nothing about any board, and its memory holds qemu and the code that qemu makes besides.

The folder is made once, by root, with Debian's own programs (REQUIRED), in about a minute; where it is complete already
the command only says where it is. It is ${XDG_CACHE_HOME:-~/.cache}/edgefc/arm64, or EDGEFC_ARM64_ROOT names another.
It holds Debian 12 with Python 3.11 and the versions of numpy and onnxruntime that are installed here. Its packages are
unpacked by this machine's dpkg and never configured, which emulated takes four minutes and brings nothing that is used.

Nothing stays mounted: every command gets its own /proc in a mount namespace that ends with it.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from edgefc import folders
from edgefc.devices.transports.command import CommandTransport
from edgefc.errors import DeviceError, EdgefcError, UsageError, first_line, reason_of, shortened
from edgefc.screen import Parser, err, out, run

SUITE, PYTHON = "bookworm", "3.11"
REQUIRED = {  # Debian package: the program of it that is used
    "debootstrap": "debootstrap",
    "qemu-user-static": "qemu-aarch64-static",
    "dpkg": "dpkg-deb",
    "mount": "mount",
    "util-linux": "unshare",
}
_INCLUDED = "python3,python3-venv"
_STAMP = "etc/edgefc-userland.json"
_WHEELS = f"usr/local/lib/python{PYTHON}/dist-packages"
_TAGS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_RULE = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
_LIMIT_S = 1800  # of one step of the build, on a busy machine
_UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/lib/apt/lists")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_FIRST = "import numpy, onnxruntime; open('/proc/self/status').close(); open('/dev/null', 'w').close()"

# $1 the folder, $2 what to show at /mnt or nothing, then a command.
_MOUNTS = """
mount -t proc proc "$1/proc" && mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm" || exit 125
if [ -n "$2" ]; then mount --bind "$2" "$1/mnt" || exit 125; fi
shift 2
exec "$@"
"""
# $1 the folder, then Debian packages to unpack over it, which keeps its links /bin to usr/bin.
_UNPACK = """
root=$1
shift
for package in "$@"; do
  dpkg-deb --fsys-tarfile "$package" | tar -C "$root" --keep-directory-symlink -xf - || exit 1
done
"""


def folder() -> Path | None:
    """The folder, where it is complete and can be run now; missing() says why not."""
    return None if missing() else place()


def missing(root: Path | None = None) -> str | None:
    """In one sentence, why nothing can be run in the folder, place() when left out; None where it can."""
    root = root or place()
    if os.geteuid() != 0:
        return "the arm64 folder is used by root only, and this is another user."
    if absent := _absent():
        return f"the arm64 folder needs {absent}."
    if _stamp(root) != _wanted():
        make = "python -m tests.support.userland" + ("" if root == place() else f" --folder {root}")
        return f"{root} holds no arm64 folder of these versions. Make it with: {make}"
    if not _registered():
        return "arm64 programs do not run here since the last start. Run again: python -m tests.support.userland"
    return None


def place() -> Path:
    """Where the folder is, or will be."""
    if given := os.environ.get("EDGEFC_ARM64_ROOT"):
        return Path(given).absolute()
    return folders.cache() / "arm64"


def command(
    root: Path, argv: Sequence[str], env: Mapping[str, str] | None = None, share: Path | None = None
) -> list[str]:
    """What runs `argv` in the folder as root, from its /, with `env` over a small environment.

    `share` is a folder of this machine that it sees at /mnt. The process that is started becomes the program itself:
    signals reach it, and its /proc and /mnt are gone when it and its children are.
    """
    variables = {"HOME": "/root", "PATH": _PATH, "LANG": "C.UTF-8", **(env or {})}
    if bad := [name for name in variables if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)]:
        raise UsageError(f"{bad[0]!r} is no name of an environment variable. Use letters, digits and underscores.")
    pairs = [f"{name}={value}" for name, value in variables.items()]
    return mounted(root, ["env", "-i", *pairs, "chroot", str(root), *argv], share)


def transport(root: Path, home: str) -> CommandTransport:
    """The device "arm": the folder, reached without ssh. `home` is the home of its user there."""
    return CommandTransport("arm", command(root, [], {"HOME": home}))


def mounted(root: Path, argv: Sequence[str], share: Path | None = None) -> list[str]:
    """What runs `argv` of this machine while /proc (and `share` at /mnt) are in the folder, for it alone.

    For an sshd with ChrootDirectory, say: its sessions find what Python needs.
    """
    inside = ["/bin/sh", "-c", _MOUNTS, "edgefc", str(root), str(share or ""), *argv]
    return ["unshare", "--mount", "--propagation", "private", "--", *inside]


def build(root: Path) -> Path:
    """Make the folder where it is not complete, and let this machine run arm64 programs.

    Raises:
        DeviceError: something is missing that it takes, or a step of it fails.
    """
    if os.geteuid() != 0:
        raise DeviceError("the arm64 folder is made by root only (debootstrap and chroot need it). Run it as root.")
    if absent := _absent():
        raise DeviceError(f"the arm64 folder needs {absent}.")
    _register()
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with _alone(root):
            if _stamp(root) != _wanted():
                _build(root)
    except OSError as error:
        reason = reason_of(error)
        raise DeviceError(f"the arm64 folder {root} cannot be made: {reason}. Choose another place.") from None
    return root


def _build(root: Path) -> None:
    """Beside its place, moved there when it is complete. Packages that an earlier try has fetched are used."""
    part, debs, log = (root.with_name(root.name + end) for end in (".part", ".debs", ".log"))
    log.unlink(missing_ok=True)
    shutil.rmtree(part, ignore_errors=True)
    debs.mkdir(exist_ok=True)
    options = ["--arch=arm64", "--variant=minbase", f"--include={_INCLUDED}", f"--cache-dir={debs}"]
    _step("Debian's packages", ["debootstrap", "--foreign", *options, SUITE, str(part)], log)
    packages = [str(path) for path in sorted((part / "var/cache/apt/archives").glob("*.deb"))]
    _step("unpacking", ["/bin/sh", "-c", _UNPACK, "edgefc", str(part), *packages], log)
    _configure(part)
    _step("numpy and onnxruntime", _install(part / _WHEELS), log)
    _step("a first start", command(part, ["python3", "-c", _FIRST]), log)
    (part / _STAMP).write_text(json.dumps(_wanted()))
    shutil.rmtree(root, ignore_errors=True)
    part.rename(root)
    shutil.rmtree(debs, ignore_errors=True)


def _configure(part: Path) -> None:
    """The little that is used here of what Debian's packages do when they are configured."""
    for name in ("passwd", "group"):
        shutil.copy(part / f"usr/share/base-passwd/{name}.master", part / "etc" / name)
    if (part / "proc").is_symlink():  # debootstrap in a container
        (part / "proc").unlink()
    for name in ("proc", "mnt", "sys/devices/system/cpu"):
        (part / name).mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present"):  # onnxruntime's start reads them
        (part / "sys/devices/system/cpu" / name).write_text(f"0-{(os.cpu_count() or 1) - 1}\n")
    for unread in _UNREAD:
        shutil.rmtree(part / unread, ignore_errors=True)


def _install(target: Path) -> list[str]:
    """pip of this machine fetches wheels of the other; it runs nothing of them."""
    kind = ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    kind += [f"--platform={tag}" for tag in _TAGS]
    pins = [f"{name}=={version}" for name, version in _versions().items()]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", *kind, f"--target={target}", *pins]


def _step(what: str, argv: Sequence[str], log: Path) -> None:
    """Run one step, its output at the end of the log."""
    start = time.monotonic()
    err(f"arm64 folder: {what} ...")
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=_LIMIT_S
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceError(
                f"the arm64 folder could not be made: {what}: {first_line(error)}. {log} has more."
            ) from None
    if done:
        last = shortened(log.read_text(errors="replace").strip().rpartition("\n")[2])
        raise DeviceError(f"the arm64 folder could not be made: {what}: exit {done}, {last!r}. {log} has more.")
    err(f"arm64 folder: {what}: {time.monotonic() - start:.0f} s")


def _absent() -> str | None:
    """What is missing here and how to get it."""
    if sys.platform != "linux":
        return f"Linux, and this is {sys.platform}"
    path = os.environ.get("PATH", "") + os.pathsep + _PATH
    packages = [package for package, program in REQUIRED.items() if shutil.which(program, path=path) is None]
    return f"{', '.join(packages)}. Install with: apt-get install {' '.join(packages)}" if packages else None


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("numpy", "onnxruntime")}


def _wanted() -> dict[str, object]:
    return {"recipe": 1, "suite": SUITE, "packages": _INCLUDED, **_versions()}


def _stamp(root: Path) -> object:
    try:
        return json.loads((root / _STAMP).read_bytes())
    except (OSError, ValueError):
        return None


def _registered() -> bool:
    """Does the kernel start arm64 programs, in a chroot too (flag F: qemu is open already)?"""
    try:
        lines = (_BINFMT / "qemu-aarch64").read_text().splitlines()
    except OSError:
        return False
    return "enabled" in lines and any(line.startswith("flags:") and "F" in line for line in lines)


def _register() -> None:
    if _registered():
        return
    try:
        if not (_BINFMT / "register").exists():
            mount = ["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)]
            subprocess.run(mount, check=True, capture_output=True)
        if (_BINFMT / "qemu-aarch64").exists():  # without F, or disabled
            (_BINFMT / "qemu-aarch64").write_text("-1")
        (_BINFMT / "register").write_bytes(_RULE.read_bytes().strip())
    except (OSError, subprocess.CalledProcessError) as error:
        said = first_line(error)
        raise DeviceError(f"the kernel could not be told to run arm64 programs with {_RULE}: {said}.") from None
    if not _registered():
        raise DeviceError(f"{_RULE} has no flag F, so a chroot runs no arm64 programs. Use Debian's qemu-user-static.")


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One build at a time; a second one waits and then finds the folder."""
    with root.with_name(root.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            err("arm64 folder: another process is making it; waiting ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folder and print where it is."""
    parser = Parser(prog="python -m tests.support.userland", description=(__doc__ or "").split(": ")[0])
    parser.add_argument("--folder", type=Path, metavar="DIR", help="default: edgefc/arm64 in the user's cache")
    try:
        out(build((parser.parse_args(argv).folder or place()).absolute()))
    except EdgefcError as error:
        err(f"edgefc: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(run(main))

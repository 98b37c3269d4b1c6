# The first program on a board: `python3 -c <loader> SHA256 SIZE MARK`. The loader contains this text (board/client.py).
# If the agent is not in the cache, this program requests it. Then it replaces itself by the agent. Every line that it
# prints begins with MARK, which is random for each connection, so that output of a login shell is not mistaken for it.
# Every Python 3 must be able to run this file, so that an old one can report its version.
# mypy: ignore-errors
import errno
import hashlib
import json
import os
import sys


def send(mark, **reply):
    # Start with a newline, because a banner may end without one.
    os.write(1, ("\n%s %s\n" % (mark, json.dumps(reply))).encode())


def digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def cache():
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return given
    if not os.environ.get("HOME"):
        os.environ.pop("HOME", None)  # expanduser would replace an empty HOME by /
    home = os.path.expanduser("~")
    return os.path.join(home, ".cache") if os.path.isabs(home) else None


def unwritable(folder, error):
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "Free some space there, or set XDG_CACHE_HOME there to a folder with free space"
    else:
        remedy = "Set XDG_CACHE_HOME there to a writable folder"
    return "it cannot write %s: %s. %s" % (folder, error.strerror, remedy)


def receive(size):
    data = b""
    while len(data) < size:
        part = os.read(0, min(65536, size - len(data)))
        if not part:
            return None
        data += part
    return data


def keep(path, data, wanted):
    # Write to a temporary file and rename it. Return whether the data has the wanted hash.
    new = "%s.%d" % (path, os.getpid())
    try:
        with open(new, "wb") as file:
            file.write(data)
        if digest(new) != wanted:
            return False
        os.replace(new, path)
        return True
    finally:
        if os.path.exists(new):
            os.unlink(new)


def main(wanted, size, mark):
    if sys.version_info < (3, 9):
        version = sys.version.split()[0]
        return send(mark, error="its Python is %s, but edgefc needs 3.9. Install a newer one there" % version)
    if cache() is None:
        return send(
            mark,
            error="its user %d has no home folder: HOME is %r there, and XDG_CACHE_HOME is not set. "
            "Set one of them there to a writable folder" % (os.getuid(), os.environ.get("HOME", "")),
        )
    root = os.path.join(cache(), "edgefc")
    path = os.path.join(root, "agent", wanted + ".pyz")
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if digest(path) != wanted:
            send(mark, need=True)
            data = receive(size)
            if data is None:
                return None
            if not keep(path, data, wanted):
                return send(mark, error="the received agent differs from the one that was sent. Try again")
    except OSError as error:
        return send(mark, error=unwritable(os.path.dirname(path), error))
    send(mark, need=False)
    try:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", path, root])
    except (OSError, ValueError) as error:
        send(mark, error="it cannot start its Python %r again: %s" % (sys.executable, error))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

# The first program on a board: `python3 -c <this text> SHA256 SIZE`. It asks for the agent when that is not there yet,
# and becomes it. It must be understood by every Python 3, so that an old one can say so.
# mypy: ignore-errors
import hashlib
import json
import os
import sys


def say(**reply):
    os.write(1, json.dumps(dict(reply, edgefc=1)).encode() + b"\n")


def digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def main(wanted, size):
    if sys.version_info < (3, 9):
        return say(error="its Python is %s, and edgefc needs 3.9. Install a newer one there" % sys.version.split()[0])
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = os.path.join(cache, "edgefc", "agent", wanted + ".pyz")
    new = "%s.%d" % (path, os.getpid())
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if digest(path) != wanted:
            say(need=True)
            data = b""
            while len(data) < size:
                part = os.read(0, min(65536, size - len(data)))
                if not part:
                    return None
                data += part
            try:
                with open(new, "wb") as file:
                    file.write(data)
                if digest(new) != wanted:
                    return say(error="the agent arrived with other bytes than were sent. Try again")
                os.replace(new, path)
            finally:
                if os.path.exists(new):
                    os.unlink(new)
        say(need=False)
        os.execv(sys.executable, [sys.executable, path])
    except OSError as error:
        say(error="it cannot write %s: %s. Make room there" % (os.path.dirname(path), error.strerror))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

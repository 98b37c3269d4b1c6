"""Hostile requests to `devices serve`: they are rejected, reveal nothing, and the server continues to work."""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from edgefc.devices.browser.link import Link
from edgefc.devices.browser.server import LARGEST_BODY, Server
from tests.attack.harness import Case
from tests.attack.outcome import Fault, Outcome

COUNT = 400
_CLIENT = "0123456789abcdef"
_SECRET = b"what no page may read"
_PATHS = (
    "/", "/T", "/T/", "/T//", "/T/secret", "/T/../secret", "/T/%2e%2e/secret", "/T/..%2fsecret", "/T/file/0",
    "/T/file/1",
    "/T/file/-1", "/T/file/../secret", "/T/file/0/../../secret", "/T/file/%00", "/T/next", "/T/next?client=zz", "//T/",
    "/T/next?client=CLIENT&client=CLIENT", "/T/answer?client=CLIENT", "/T/hello?client=CLIENT", "/T/bye?client=CLIENT",
    "/T/alive?client=CLIENT", "/wrong/", "/wrong/file/0", "*", "http://127.0.0.1/T/secret", "/T/\\..\\secret",
    "/T/./secret",
    "/T;/secret", "/T/index.html", "/T/INDEX.HTML", "/T/page.js", "/T/ort/../secret", "//etc/passwd",
    "/T/" + "a" * 70_000,
    "/" + "%2e%2e/" * 50 + "etc/passwd", "/T/\xff\xfe", "/T/?client=CLIENT#frag", "", " ", "/T/file/0 HTTP/1.1\r\nX: y",
)  # fmt: skip
_METHODS = (
    "GET",
    "POST",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PATCH",
    "get",
    "G" * 5000,
    "",
    "\x00GET",
    "PRI",
)
_VERSIONS = (
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/9.9",
    "HTTP/1.1.1",
    "HTTP/-1.1",
    "",
    "http/1.1",
    "HTTP/" + "9" * 400,
)
_HEADERS = (
    "Host: example.com", "Content-Length: 5", "Content-Length: -1", "Content-Length: 0x5",
    "Content-Length: " + "9" * 500,
    f"Content-Length: {LARGEST_BODY + 1}", "Content-Length: 5\r\nContent-Length: 6", "Transfer-Encoding: chunked",
    "X: " + "y" * 70_000,
    "\r\n".join(f"X{i}: y" for i in range(300)), "Expect: 100-continue", "Connection: keep-alive",
    "Upgrade: websocket", "no colon",
    ": no name", " folded", "X:\x00", "Range: bytes=0-1", "Content-Length: \u0665".encode().decode("latin-1"),
    "Cookie: a=b",
    "Origin: http://evil.example", "Content-Type: text/plain", "Content-Length: 1e3", "Content-Length:",
    "Accept-Encoding: gzip",
)  # fmt: skip
_BODIES = (
    b"", b"{}", b"[]", b"1", b"null", b"{", b"\xff", b"[" * 100_000, b'{"id": 1}', b'{"id": "1", "answer": NaN}',
    b'{"id": 1e999}',
    b'{"id": ' + b"9" * 10_000 + b"}", b'{"a": "\\ud800"}', b'{"id": true, "error": "x", "text": "\\u001b[2J"}',
    b"\x00" * 5000,
    b'{"facts": {"user_agent": "' + b"x" * 100_000 + b'"}}', b'{"a": ' * 5000 + b"1" + b"}" * 5000,
)  # fmt: skip


def case(rng: random.Random, number: int, folder: Path) -> Case:
    request = rng.choice((_line, _headers, _body, _body, _noise, _cut))(rng)
    flood = number % 40 == 39
    name = "80 connections that say nothing" if flood else f"{request[:150]!r}, {len(request)} bytes"
    return Case(name, partial(_act, request, flood), limit_s=120)


def _act(request: bytes, flood: bool, work: Path) -> Outcome | None:
    raised: list[str] = []
    sys.excepthook = threading.excepthook = lambda *args: raised.append(repr(args))  # type: ignore[assignment]
    for name, content in (("index.html", b"the page"), ("secret", _SECRET)):
        (work / name).write_bytes(content)
    server = Server(Link(5.0), {"index.html": work / "index.html"})
    try:
        server.offer(work / "index.html")
        if flood:
            _flood(server)
        else:
            sent = request.replace(b"/T", f"/{server.token}".encode()).replace(b"CLIENT", _CLIENT.encode())
            _check(request, _talk(server, sent))
        _serves_on(server)
    finally:
        closing = threading.Thread(target=server.close, daemon=True)
        closing.start()
        closing.join(20)
    if closing.is_alive():
        return Outcome("hang", "the server does not close")
    return Outcome("traceback", raised[0][:500]) if raised else None


def _talk(server: Server, data: bytes) -> bytes:
    reply = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line, suppress(OSError):
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        line.settimeout(22)
        while part := line.recv(65536):
            reply += part
    return reply


def _check(request: bytes, reply: bytes) -> None:
    if _SECRET in reply or b"root:" in reply:
        raise Fault("wrong value", f"a file was given away: {reply[-200:]!r}")
    if b"Traceback" in reply or (b"Error response" in reply and b"Exception" in reply):
        raise Fault("raw text", repr(reply[-300:]))
    if b"the page" in reply and b"/T" not in request:
        raise Fault("wrong value", "the page without its token")
    if (
        reply
        and not reply.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
        and b"HTTP/0.9" not in request
        and b"<" not in reply
    ):
        raise Fault("wrong value", f"no HTTP reply: {reply[:100]!r}")
    if b" 500 " in reply.split(b"\r\n", 1)[0]:
        raise Fault("exception", repr(reply[:200]))


def _serves_on(server: Server) -> None:
    """The page is served, and hello from a page is accepted."""
    for _ in range(3):
        reply = _talk(server, f"GET /{server.token}/ HTTP/1.0\r\n\r\n".encode())
        if reply.endswith(b"the page"):
            break
        time.sleep(1)
    else:
        raise Fault("wrong value", f"the page is served no more: {reply[:100]!r}")
    body = json.dumps({}).encode()
    head = f"POST /{server.token}/hello?client=fedcba9876543210 HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    status = _talk(server, head.encode() + body).split(b"\r\n", 1)[0]
    if b" 204 " not in status and b" 409 " not in status:
        raise Fault("wrong value", f"a page that says hello gets {status!r}")


def _flood(server: Server) -> None:
    """Open more connections than the server accepts, then close them."""
    lines = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(80)]
    time.sleep(0.2)
    for line in lines:
        line.close()
    time.sleep(0.5)


def _line(rng: random.Random) -> bytes:
    words = rng.choice(_METHODS), rng.choice(_PATHS), rng.choice(_VERSIONS)
    return f"{words[0]} {words[1]} {words[2]}\r\n\r\n".encode("latin-1", "replace")


def _headers(rng: random.Random) -> bytes:
    chosen = "\r\n".join(rng.choice(_HEADERS) for _ in range(rng.randrange(1, 5)))
    head = f"{rng.choice(('GET', 'POST'))} {rng.choice(_PATHS)} HTTP/1.1\r\n{chosen}\r\n\r\n"
    return head.encode("latin-1", "replace") + rng.choice(_BODIES)


def _body(rng: random.Random) -> bytes:
    body, verb = rng.choice(_BODIES), rng.choice(("hello", "answer", "alive", "bye", "next", ""))
    length = len(body) + rng.choice((0, 0, 0, 1, -1, 1000))
    client = rng.choice(("?client=CLIENT", "?client=CLIENT", "", "?client=" + "g" * 16, "?client=CLIENTx"))
    return f"POST /T/{verb}{client} HTTP/1.1\r\nContent-Length: {max(0, length)}\r\n\r\n".encode() + body


def _noise(rng: random.Random) -> bytes:
    return rng.choice(
        (rng.randbytes(rng.choice((1, 100, 70_000))), b"\x16\x03\x01\x02\x00\x01\x00", b"\r\n" * 5000, b"\x00" * 70_000)
    )


def _cut(rng: random.Random) -> bytes:
    whole = _body(rng)
    return whole[: rng.randrange(len(whole))]

"""The server of the page: random token in all addresses, fixed list of files, bounded requests, loopback by default.

    GET  /TOKEN/                 the page
    GET  /TOKEN/NAME             page.js, worker.js, ort/...: exactly the names in `files`
    GET  /TOKEN/file/ID          a model, weights or inputs, by the id from offer()
    GET  /TOKEN/next?client=C    the next question; waits up to link.POLL_S
    POST /TOKEN/hello|answer|alive|bye?client=C

The headers Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy isolate the page. Isolation is required for
SharedArrayBuffer (and so for threads), a finer clock and the memory API:
https://developer.mozilla.org/docs/Web/API/Window/crossOriginIsolated
"""

import hmac
import json
import re
import secrets
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgefc.devices.browser.link import Link, Refused
from edgefc.errors import DeviceError, reason_of
from edgefc.runtime.probes.plain import encode

LARGEST_BODY = 192 << 20  # bytes of a posted answer
_MOST_CONNECTIONS = 64
_IDLE_S = 60.0
_CLIENT = re.compile(r"client=([0-9a-f]{16})")
_TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8", ".wasm": "application/wasm",
}  # fmt: skip
_BYTES = "application/octet-stream"
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Reply = tuple[int, str, bytes | Path]


class Server:
    """The server, from construction to close(). `files` maps names below the token to paths.

    Raises:
        DeviceError: the server cannot listen on the address.
    """

    def __init__(self, link: Link, files: dict[str, Path], host: str = "127.0.0.1", port: int = 0) -> None:
        self.link, self.files = link, files
        self.token = secrets.token_urlsafe(16)
        self.offered: dict[str, Path | bytes] = {}
        try:
            self._http = _Http((host, port), self)
        except (OSError, OverflowError) as error:
            message = f"cannot listen on {host} port {port}: {reason_of(error)}. Choose another address or port."
            raise DeviceError(message) from None
        self.port = int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{self.token}/"

    def offer(self, content: Path | bytes) -> str:
        """Let the page download a file or bytes. Returns the id for GET /TOKEN/file/ID."""
        number = str(len(self.offered))
        self.offered[number] = content
        return number

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def get(self, name: str, client: str) -> Reply:
        if name == "next":
            question = self.link.next(client)
            return (204, "", b"") if question is None else _json(question)
        if name.startswith("file/"):
            content = self.offered.get(name[5:])
            return _plain(404, "no such file") if content is None else (200, _BYTES, content)
        path = self.files.get(name or "index.html")
        return _plain(404, "no such file") if path is None else (200, _TYPES.get(path.suffix, _BYTES), path)

    def post(self, name: str, client: str, body: bytes) -> Reply:
        if name == "alive":
            return (204, "", b"") if self.link.alive(client) else _plain(410, "the measurement has ended")
        if name == "bye":
            self.link.bye(client)
        elif name in ("hello", "answer"):
            try:
                value = json.loads(body)
            except (ValueError, RecursionError):
                return _plain(400, "the body is not JSON")
            if not isinstance(value, dict) or not client:
                return _plain(400, "the body is not a JSON object, or the client is missing")
            self.link.hello(client, value) if name == "hello" else self.link.answer(client, value)
        else:
            return _plain(404, "no such address")
        return 204, "", b""


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], served: Server) -> None:
        self.served = served
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of requests: the link reports a page that disconnects."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    server: _Http

    def do_GET(self) -> None:
        self._replied(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 12:
            self._last(411, "the header Content-Length is missing or invalid")
        elif int(length) > LARGEST_BODY:
            self._last(413, f"the body has more than {LARGEST_BODY} bytes")
        elif self._name() is None:
            self._last(404, "no such address")
        else:
            self._replied(self.rfile.read(int(length)))

    def _replied(self, body: bytes) -> None:
        name = self._name()
        if name is None:
            return self._last(404, "no such address")
        match = _CLIENT.fullmatch(urlsplit(self.path).query)
        client = match[1] if match else ""
        served = self.server.served
        try:
            reply = served.get(name, client) if self.command == "GET" else served.post(name, client, body)
        except Refused as refused:
            reply = _plain(409, str(refused))
        return self._send(*reply)

    def _name(self) -> str | None:
        """The part of the address after the token. None if the token is missing or wrong."""
        token, _, name = urlsplit(self.path).path[1:].partition("/")
        known = hmac.compare_digest(token.encode("utf-8", "replace"), self.server.served.token.encode())
        return name if known else None

    def _last(self, status: int, text: str) -> None:
        """Send a last reply and close the connection, because the body was not read."""
        self.close_connection = True
        self._send(*_plain(status, text))

    def _send(self, status: int, kind: str, content: bytes | Path) -> None:
        file = content.open("rb") if isinstance(content, Path) else None
        try:
            size = content.stat().st_size if isinstance(content, Path) else len(content)
            self.send_response(status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            if kind:
                self.send_header("Content-Type", kind)
            if status != 204:
                self.send_header("Content-Length", str(size))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if file is None:
                self.wfile.write(content if isinstance(content, bytes) else b"")
            else:
                shutil.copyfileobj(file, self.wfile, 1 << 20)
        finally:
            if file is not None:
                file.close()

    def version_string(self) -> str:
        return "edgefc"

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _json(value: Any) -> Reply:
    return 200, "application/json", encode(value).encode()


def _plain(status: int, text: str) -> Reply:
    return status, "text/plain; charset=utf-8", text.encode()

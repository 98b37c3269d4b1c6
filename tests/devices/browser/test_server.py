"""What the browser's server gives away and takes, and what ends a question; without a browser."""

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgefc.devices.browser.link import Link
from edgefc.devices.browser.server import LARGEST_BODY, Server
from edgefc.errors import DeviceError
from tests.support.web_pages import CLIENT, fetch


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "index.html").write_text("the page")
    (tmp_path / "secret").write_text("secret")
    made = Server(Link(5.0), {"index.html": tmp_path / "index.html"})
    yield made
    made.close()


# What the server gives away


def test_the_page_is_isolated_and_kept_from_other_sites(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", f"/{server.token}/")
    reply = connection.getresponse()
    assert (reply.status, reply.read()) == (200, b"the page")
    wanted = {
        "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin", "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer", "Content-Type": "text/html; charset=utf-8",
    }  # fmt: skip
    assert {name: reply.getheader(name) for name in wanted} == wanted
    connection.close()


@pytest.mark.parametrize(
    "path",
    ["/", "/index.html", "/TOKEN", "/TOKEN/secret", "/TOKEN/../secret", "/TOKEN/%2e%2e/secret", "/TOKEN/file/",
     "/TOKEN/file/7", "/TOKEN/file/../secret", "/TOKEN//etc/passwd", "/WRONG/", "//TOKEN/", "/TOKEN/index.html/",
     "/%54OKEN/", "*", "/TOKEN/file/-1", "/\xfcTOKEN/"],
)  # fmt: skip
def test_nothing_else_is_served(server: Server, path: str) -> None:
    address = path.replace("TOKEN", server.token).replace("WRONG", server.token[::-1])
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection._encode_request = lambda request: request.encode("latin-1")  # type: ignore[attr-defined]  # as it is
    connection.request("GET", address)
    reply = connection.getresponse()
    assert reply.status == (200 if path == "//TOKEN/" else 404) or (path == "/TOKEN" and reply.status == 200)
    assert b"secret" not in reply.read()
    connection.close()


def test_only_offered_files_are_fetched(server: Server, tmp_path: Path) -> None:
    number = server.offer(tmp_path / "secret")
    assert fetch(f"{server.url()}file/{number}") == (200, b"secret")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 411), ({"Content-Length": "-1"}, 411), ({"Content-Length": "x"}, 411), ({"Content-Length": "9" * 30}, 411),
     ({"Content-Length": str(LARGEST_BODY + 1)}, 413), ({"Transfer-Encoding": "chunked"}, 411)],
)  # fmt: skip
def test_bodies_are_bounded(server: Server, headers: dict[str, str], status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("POST", f"/{server.token}/answer?client={CLIENT}", skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"\xff", b'{"a": NaN' + b"[" * 100_000])
def test_what_is_posted_is_a_json_object(server: Server, body: bytes) -> None:
    assert fetch(f"{server.url()}hello?client={CLIENT}", body)[0] == 400
    assert fetch(f"{server.url()}hello", b"{}")[0] == 400
    assert fetch(f"{server.url()}elsewhere?client={CLIENT}", b"{}")[0] == 404


def test_one_page_at_a_time(server: Server) -> None:
    assert fetch(f"{server.url()}hello?client={CLIENT}", b"{}")[0] == 204
    status, text = fetch(f"{server.url()}hello?client={CLIENT[::-1]}", b"{}")
    assert (status, text) == (409, b"another page is being measured; close it first")
    assert fetch(f"{server.url()}next?client={CLIENT[::-1]}")[0] == 409
    assert fetch(f"{server.url()}bye?client={CLIENT}", b"")[0] == 204
    assert fetch(f"{server.url()}hello?client={CLIENT[::-1]}", b"{}")[0] == 204


def test_an_address_that_cannot_be_listened_on() -> None:
    with pytest.raises(DeviceError, match=r"cannot listen on 203\.0\.113\.1 port 0: .*\. Choose another"):
        Server(Link(1.0), {}, "203.0.113.1")


# What ends a question


def test_nobody_comes() -> None:
    with pytest.raises(DeviceError, match=r"no page connected within 0.1 s\. Open it"):
        Link(1.0).facts(0.1, "Open it.")
    with pytest.raises(DeviceError, match=r"no page connected: chromium ended\. Open it"):
        Link(1.0, lambda: "chromium ended").facts(9.0, "Open it.")


@pytest.mark.parametrize(
    ("what", "message"),
    [("bye", "m was not finished: the page was closed or reloaded"), ("", "the page sent nothing for 0.3 s"),
     ("gone", "m was not finished: chromium ended"), ("alive", "m was still running after 0.6 s")],
    ids=["closed", "silent", "ended", "late"],
)  # fmt: skip
def test_a_question_that_is_not_answered(what: str, message: str) -> None:
    link = Link(0.3, lambda: "chromium ended" if what == "gone" else None)
    link.hello(CLIENT, {})
    asked: Any = {
        "bye": link.bye,
        "alive": lambda client: [link.alive(client) for _ in range(9) if not time.sleep(0.1)],
    }
    thread = threading.Thread(target=asked.get(what, lambda client: None), args=(CLIENT,))
    thread.start()
    with pytest.raises(DeviceError, match=message):
        link.ask({"verb": "run"}, about="m", limit_s=0.6 if what == "alive" else 9.0)
    thread.join()


def test_an_answer_to_another_question_is_dropped() -> None:
    link = Link(9.0)
    link.hello(CLIENT, {})
    link.answer(CLIENT, {"id": 1, "answer": "early"})
    with pytest.raises(DeviceError, match="still running"):
        link.ask({"verb": "run"}, about="m", limit_s=0.0)
    link.answer(CLIENT, {"id": 1, "answer": "late"})
    assert link.next(CLIENT, 0.0) is None


def test_a_question_that_was_lost_on_the_way_is_given_again() -> None:
    """But not once it is answered."""
    link, found = Link(9.0), []
    link.hello(CLIENT, {})
    host = threading.Thread(target=lambda: found.append(link.ask({"verb": "run"}, about="m", limit_s=9.0)))
    host.start()
    assert link.next(CLIENT) == link.next(CLIENT) == {"verb": "run", "id": 1, "about": "m"}
    link.answer(CLIENT, {"id": 1, "answer": 5})
    assert link.next(CLIENT, 0.0) is None
    host.join()
    assert found == [{"id": 1, "answer": 5}]


def test_stopped_from_another_thread() -> None:
    """As Ctrl-C with several devices does: the question is given up, and no more are taken."""
    link = Link(9.0)
    link.hello(CLIENT, {})
    thread = threading.Timer(0.1, link.end, (0.0,))
    thread.start()
    with pytest.raises(DeviceError, match="m was not finished: it was stopped on this machine"):
        link.ask({"verb": "run"}, about="m", limit_s=9.0)
    thread.join()
    assert not link.alive(CLIENT)
    assert link.next(CLIENT) == {"verb": "end"}

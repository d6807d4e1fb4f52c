"""The page in front of an adapter, and a browser without scripts that visits it."""

from __future__ import annotations

import re
import socket
from contextlib import closing, contextmanager
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from urllib3.filepost import encode_multipart_formdata

from kfadapter_console.app import make_app, serving
from kfadapter_console.security import POLICY
from kfadapter_grpc.client import Client
from kfadapter_grpc.daemon.listening import bound_socket

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_UPLOAD_BYTES = 1 << 20
"""The largest file that the page of tests accepts."""
WAIT_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """An answer; its header names may be in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def words(self) -> str:
        """The text of an HTML page as people see it, with single spaces."""
        return " ".join(unescape(re.sub(r"<script.*?</script>|<[^>]*>", " ", self.text, flags=re.DOTALL)).split())

    @property
    def html(self) -> Html:
        """The page, read."""
        return Html(self.text)

    @property
    def path(self) -> str:
        """The path and query of the page that is shown."""
        split = urlsplit(self.url)
        return split.path + (f"?{split.query}" if split.query else "")


@dataclass(frozen=True)
class Form:
    """A form of a page: where it goes, and its fields by name, with their types and values."""

    action: str
    method: str
    fields: dict[str, tuple[str, str]]


class Html(HTMLParser):
    """Reads a page, and fails if it has something that the Content-Security-Policy forbids or names could bring in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.forms: list[Form] = []
        self.feed(text)
        self.close()
        twice = {one for one in self.ids if self.ids.count(one) > 1}
        assert not twice, f"ids that occur twice: {twice}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Checks an element."""
        given = {name: value or "" for name, value in attrs}
        assert tag not in {"style", "object", "embed", "base", "img"}, self.get_starttag_text()
        assert not any(name == "style" or name.startswith("on") for name in given), self.get_starttag_text()
        for name in ("href", "src", "action", "formaction", "xlink:href"):
            is_ours = given.get(name, "/").startswith(("/", "#", "?")) and not given.get(name, "/").startswith("//")
            is_outside = tag == "a" and given.get(name, "").startswith(("https://", "http://"))
            assert is_ours or is_outside or not given[name], self.get_starttag_text()
        assert tag != "script" or given.get("src", "").startswith("/static/console.js"), self.get_starttag_text()
        if tag == "a" and given.get("href", "").startswith("/"):
            self.links.append(given["href"])
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get").lower(), {}))
        elif tag in {"input", "select", "textarea"} and self.forms and "name" in given:
            self.forms[-1].fields[given["name"]] = given.get("type", tag), given.get("value", "")


class Visitor:
    """Gets pages and posts forms, with cookies and redirects; each page is held against `Html`."""

    def __init__(self, url: str) -> None:
        """Visits the page at a URL."""
        self.url = url
        self.cookies: dict[str, str] = {}
        self._pool = urllib3.PoolManager(retries=False, timeout=WAIT_SECONDS, maxsize=10)

    def get(self, path: str, *, follow: bool = True, headers: Mapping[str, str] | None = None) -> Answer:
        """Gets a page."""
        return self._send("GET", path, None, headers or {}, follow=follow)

    def post(
        self,
        path: str,
        fields: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        *,
        file: tuple[str, str, bytes] | None = None,
        csrf: str | None = None,
        follow: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Posts a form as a browser does, with the session's CSRF token.

        Args:
            path: Where the form is posted to.
            fields: Its fields; pairs if a name occurs twice.
            file: The name of a file's field, its file name, and its content; the form is multipart then.
            csrf: Another CSRF token.
            follow: Whether to follow the redirect.
            headers: Further headers.
        """
        pairs = [*(fields.items() if hasattr(fields, "items") else fields)]
        pairs.append(("csrf", self.csrf() if csrf is None else csrf))
        if file is None:
            body, kind = urlencode(pairs).encode(), "application/x-www-form-urlencoded"
        else:
            body, kind = encode_multipart_formdata([*pairs, (file[0], (file[1], file[2]))])
        sent = {"content-type": kind, "origin": self.url, "sec-fetch-site": "same-origin", **(headers or {})}
        return self._send("POST", path, body, sent, follow=follow)

    def raw(self, head: str, body: bytes = b"") -> bytes:
        """Sends bytes, and reads the head of the answer, or nothing if the connection is closed."""
        split = urlsplit(self.url)
        with socket.create_connection((split.hostname or "", split.port or 0), WAIT_SECONDS) as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + body)
            answer = b""
            while b"\r\n\r\n" not in answer and (piece := connection.recv(65536)):
                answer += piece
            return answer

    def csrf(self) -> str:
        """Returns the CSRF token of the session, as each form has it."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get("/login").text)
        assert found
        return found[1]

    def events(self, path: str) -> Iterator[tuple[str, str]]:
        """Yields the events (name, data) of a live stream until it ends."""
        answer = self._pool.request(
            "GET", self.url + path, headers=self._headers({"accept": "text/event-stream"}), preload_content=False
        )
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        with closing(answer):
            lines: list[str] = []
            for raw in answer:
                if line := raw.decode().rstrip("\n"):
                    lines.append(line)
                    continue
                data = "\n".join(one.removeprefix("data: ") for one in lines if one.startswith("data: "))
                names = [one.removeprefix("event: ") for one in lines if one.startswith("event: ")]
                lines = []
                if names:
                    yield names[0], data

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {**({"cookie": cookie} if cookie else {}), **more}

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], *, follow: bool) -> Answer:
        url = urljoin(self.url, path)
        reply = self._pool.request(method, url, body=body, headers=self._headers(headers), redirect=False)
        for given in reply.headers.getlist("set-cookie"):
            for name, value in SimpleCookie(given).items():
                self.cookies[name] = value.value
        is_page = "html" in reply.headers.get("content-type", "") and "content-disposition" not in reply.headers
        if is_page and reply.headers["content-security-policy"] == POLICY:
            Html(reply.data.decode())
        if follow and reply.status in {302, 303, 307}:
            return self._send("GET", urljoin(url, reply.headers["location"]), None, {}, follow=True)
        return Answer(reply.status, reply.headers, reply.data, url)


def addresses(visitor: Visitor, more: Sequence[str] = (), *, most: int = 400) -> dict[str, str]:
    """Follows the links of the page; returns one address of each of its pages, by the route.

    Args:
        visitor: Gets the pages, which must all be found.
        more: Addresses to begin with, besides `/`.
        most: How many pages to get at most.
    """
    found: dict[str, str] = {}
    waiting, seen = ["/", *more], set[str]()
    while waiting and len(seen) < most:
        address = waiting.pop(0).partition("#")[0]
        if not address or address in seen:
            continue
        seen.add(address)
        answer = visitor.get(address)
        assert answer.status == 200, (address, answer.words)
        if "text/html" in answer.headers["content-type"] and "content-disposition" not in answer.headers:
            shape = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", answer.path.partition("?")[0])
            found.setdefault(re.sub(r"(?<=/tasks/).*?(?=/|$)", "TASK", shape), answer.path)
            waiting += answer.html.links if answer.headers["content-security-policy"] == POLICY else []
    return found


@contextmanager
def page(
    target: str,
    *,
    token: str = "",
    hosts: Sequence[str] = ("127.0.0.1",),
    read_only: bool = False,
    max_upload_bytes: int = MAX_UPLOAD_BYTES,
) -> Iterator[Visitor]:
    """Serves the page in front of an adapter, on a free port; yields a visitor."""
    client = Client(target, tls=False, token=token or None)
    app = make_app(client, hosts=hosts, read_only=read_only, max_upload_bytes=max_upload_bytes)
    with (
        closing(bound_socket("127.0.0.1:0", "--listen")) as listener,
        serving(app, listener),
        closing(client),
    ):
        yield Visitor(f"http://127.0.0.1:{listener.getsockname()[1]}")

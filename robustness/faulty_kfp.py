"""A KFP of which some requests meet with one kind of fault."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections import Counter
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from tests.scripted_kfp import ScriptedKfp, answers, drips, head, resets, sends, stalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.scripted_kfp import Behaviour, Connection, Received
    from typing_extensions import Self

HUGE_BYTES = 160 * 1024 * 1024
"""The size of a huge body: above what the adapter takes (128 MiB)."""
REFUSE, BAD_TLS = "refuse", "bad TLS"
"""The faults that a URL of its own stands for."""
_PIECE = b" " * (1024 * 1024)
_PARTIAL = head(200, {"Content-Type": "application/json", "Content-Length": "1000"}) + b'{"run_id": "'
_KINDS = {"runs": "Run", "pipelines": "Pipeline", "experiments": "Experiment", "recurringruns": "Job"}
_SECONDS = 10.0


def _huge(connection: Connection, _: Received) -> bool:
    connection.send(head(200, {"Content-Type": "application/json", "Content-Length": str(HUGE_BYTES)}))
    for _number in range(HUGE_BYTES // len(_PIECE)):
        connection.send(_PIECE)
    return True


def _not_found(connection: Connection, received: Received) -> bool:
    """What KFP says of a thing that is not there, by the path that names it."""
    found = re.search(r"/(runs|pipelines|experiments|recurringruns)/([^/?:]*)", received.path)
    kind, name = (_KINDS[found[1]], found[2]) if found else ("Thing", "")
    text = f"Failed: ResourceNotFoundError: {kind} {name} not found"
    return answers(404, {"code": 5, "message": text, "details": []})(connection, received)


def _refusal(status: int, code: int, message: str, **headers: str) -> Behaviour:
    return answers(
        status,
        {"code": code, "message": message, "details": []},
        headers={key.replace("_", "-"): value for key, value in headers.items()},
    )


FAULTS: dict[str, Behaviour | None] = {
    REFUSE: None,
    "reset": resets(),
    "stall": stalls(),
    "drip": drips(_PARTIAL, 0.1),
    "truncate": sends(_PARTIAL, then_close=True),
    "bad JSON": answers(200, b"{'no': json"),
    "wrong types": answers(200, [1, {"run_id": 7, "pipelines": "none"}]),
    "huge body": _huge,
    "401": _refusal(401, 16, "Unauthenticated"),
    "403": _refusal(403, 7, "User is not authorized"),
    "404": _not_found,
    "409": _refusal(409, 6, "AlreadyExist: The name new already exists. Please specify a new name."),
    "429": _refusal(429, 8, "Too many requests", Retry_After="1"),
    "500": _refusal(500, 13, "Internal Server Error"),
    "503": answers(503, b"no healthy upstream", content_type="text/plain"),
    BAD_TLS: None,
}
"""The kinds of fault, each with what the KFP does."""


def asked(netloc: str, received: Received) -> tuple[int, Behaviour]:
    """Sends a request on to a server; gives the status of its answer, and what repeats the answer."""
    behind = http.client.HTTPConnection(netloc, timeout=_SECONDS)
    try:
        kept = {key: value for key, value in received.headers.items() if key != "host"}
        behind.request(received.method, received.path, received.body or None, kept)
        answer = behind.getresponse()
        content_type = answer.headers.get("Content-Type", "")
        return answer.status, answers(answer.status, answer.read(), content_type=content_type)
    finally:
        behind.close()


@contextmanager
def begun(netloc: str, received: Received) -> Iterator[None]:
    """Sends half of a request on to a server; the rest never comes, and the line ends with the block."""
    host, _, port = netloc.partition(":")
    with socket.create_connection((host, int(port)), _SECONDS) as line:
        fields = "".join(f"{key}: {value}\r\n" for key, value in received.headers.items())
        head = f"{received.method} {received.path} HTTP/1.1\r\n{fields}\r\n"
        line.sendall(head.encode() + received.body[: len(received.body) // 2])
        yield


Meets: TypeAlias = "Callable[[Received, int], bool]"
"""Tells which requests meet with a fault; each is the n-th of its call."""


def everything(_: Received, __: int) -> bool:
    """Has every request meet with a fault."""
    return True


def changes_only(received: Received, _: int) -> bool:
    """Has those requests meet with a fault that change something."""
    return received.method != "GET"


def from_the_nth_on(begins: Mapping[str, int]) -> Meets:
    """Has a call's n-th request and all after it meet with a fault; `begins` tells n by the call's request id."""

    def meets(received: Received, number: int) -> bool:
        begin = begins.get(call_of(received))
        return begin is not None and number >= begin

    return meets


def call_of(received: Received) -> str:
    """The request id of the call that a request belongs to."""
    return received.headers.get("x-request-id", "")


class FaultyKfp:
    """Stands before a KFP that is well.

    Attributes:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self._server = ScriptedKfp()
        for method in ("GET", "POST", "DELETE", "PUT", "PATCH"):
            self._server.on(method, "", self._serve)
        self.url = self._server.url
        self._behind = urlsplit(url).netloc
        self._lock = threading.Lock()
        self._fault: Behaviour | None = None
        self._meets: Meets = everything
        self._asked: Counter[str] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)

    def misbehave(self, fault: Behaviour | None, meets: Meets = everything) -> None:
        """Begins a fault, or ends it with None; forgets what has come so far."""
        with self._lock:
            self._fault, self._meets = fault, meets
            self._asked.clear()
            self._refused.clear()
            self._server.requests.clear()

    def requests(self) -> Counter[str]:
        """How many requests have come since of each call, by its request id."""
        with self._lock:
            return self._asked.copy()

    def writes(self) -> Counter[tuple[str, str]]:
        """How often each request that changes something has come since; by its call, and in words.

        What the KFP behind refused because the name is taken does not count: that changed nothing.
        """
        came = [one for one in self._server.requests if changes_only(one, 0)]
        with self._lock:
            return Counter(map(_words, came)) - self._refused

    def _serve(self, connection: Connection, received: Received) -> bool:
        with self._lock:
            self._asked[call_of(received)] += 1
            fault = self._fault if self._meets(received, self._asked[call_of(received)]) else None
        if fault is not None:
            return fault(connection, received)
        status, answer = asked(self._behind, received)
        if status == HTTPStatus.CONFLICT:
            with self._lock:
                self._refused[_words(received)] += 1
        return answer(connection, received)


def _words(received: Received) -> tuple[str, str]:
    return call_of(received), f"{received.method} {received.path.partition('?')[0]}"

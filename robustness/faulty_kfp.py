"""A KFP of which everything, or every request that changes something, meets with one kind of fault."""

from __future__ import annotations

import http.client
import re
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.scripted_kfp import ScriptedKfp, answers, drips, head, resets, sends, stalls

if TYPE_CHECKING:
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


def pass_on(netloc: str, connection: Connection, received: Received) -> bool:
    """Has a server answer a request, as a behaviour does."""
    return asked(netloc, received)(connection, received)


def asked(netloc: str, received: Received) -> Behaviour:
    """Sends a request on to a server; gives what the server answers."""
    behind = http.client.HTTPConnection(netloc, timeout=_SECONDS)
    try:
        kept = {key: value for key, value in received.headers.items() if key != "host"}
        behind.request(received.method, received.path, received.body or None, kept)
        answer = behind.getresponse()
        return answers(answer.status, answer.read(), content_type=answer.headers.get("Content-Type", ""))
    finally:
        behind.close()


class FaultyKfp:
    """Stands before a KFP that is well.

    Attributes:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self._server = ScriptedKfp()
        self._server.on("GET", "", self._read)
        for method in ("POST", "DELETE", "PUT", "PATCH"):
            self._server.on(method, "", self._write)
        self.url = self._server.url
        self._behind = urlsplit(url).netloc
        self._fault: Behaviour | None = None
        self._reads_too = False

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)

    def misbehave(self, fault: Behaviour | None, *, reads_too: bool) -> None:
        """Begins a fault, or ends it with None; forgets what has come so far."""
        self._fault, self._reads_too = fault, reads_too
        self._server.requests.clear()

    def writes(self) -> Counter[str]:
        """How often each request that changes something has come since."""
        came = [one for one in self._server.requests if one.method != "GET"]
        return Counter(f"{one.method} {one.path.partition('?')[0]}" for one in came)

    def _read(self, connection: Connection, received: Received) -> bool:
        if self._fault is not None and self._reads_too:
            return self._fault(connection, received)
        return pass_on(self._behind, connection, received)

    def _write(self, connection: Connection, received: Received) -> bool:
        return (
            self._fault(connection, received)
            if self._fault is not None
            else pass_on(self._behind, connection, received)
        )

"""Servers between an adapter and its KFP or its clients that fail at a request, a moment, or a byte."""

from __future__ import annotations

import http.client
import re
import select
import socket
import sys
import threading
from collections import Counter
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from benchmarks.pipeline_text import KIB
from tests.scripted_kfp import ScriptedKfp, answers, drips, head, resets, sends, stalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.scripted_kfp import Behaviour, Connection, Received
    from typing_extensions import Self

HUGE_BYTES = 160 * KIB * KIB
"""The size of a huge body: above what the adapter takes (128 MiB)."""
REFUSE, BAD_TLS = "refuse", "bad TLS"
"""The faults that a URL of its own stands for."""
METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH")
_JSON = {"Content-Type": "application/json"}
_PARTIAL = head(200, {**_JSON, "Content-Length": "1000"}) + b'{"run_id": "'
_KINDS = {"runs": "Run", "pipelines": "Pipeline", "experiments": "Experiment", "recurringruns": "Job"}


def _huge(connection: Connection, _: Received) -> bool:
    connection.send(head(200, {**_JSON, "Content-Length": str(HUGE_BYTES)}))
    for _number in range(HUGE_BYTES // (KIB * KIB)):
        connection.send(b" " * (KIB * KIB))
    return True


def _refusal(status: int, code: int, message: str, **headers: str) -> Behaviour:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return answers(status, {"code": code, "message": message, "details": []}, headers=named)


def _not_found(connection: Connection, received: Received) -> bool:
    """KFP's response if the named resource is missing."""
    found = re.search(r"/(runs|pipelines|experiments|recurringruns)/([^/?:]*)", received.path)
    kind, name = (_KINDS[found[1]], found[2]) if found else ("Thing", "")
    return _refusal(404, 5, f"Failed: ResourceNotFoundError: {kind} {name} not found")(connection, received)


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

Meets: TypeAlias = "Callable[[Received, int], bool]"
"""Which requests meet with a fault; each is the n-th of its call."""


def everything(_: Received, __: int) -> bool:
    """Makes every request fail."""
    return True


def changes_only(received: Received, _: int) -> bool:
    """Makes the requests fail that change something."""
    return received.method != "GET"


def from_the_nth_on(begins: Mapping[str, int]) -> Meets:
    """Makes a call's n-th request and all later ones fail; `begins` has n by the call's request id."""
    return lambda received, number: number >= begins.get(call_of(received), number + 1)


def call_of(received: Received) -> str:
    """The request id of the call that a request belongs to."""
    return received.headers.get("x-request-id", "")


class Between(ScriptedKfp):
    """A proxy of the KFP at a URL; subclasses say what happens to a request."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._behind = urlsplit(url).netloc
        self._lock = threading.Lock()
        for method in METHODS:
            self.on(method, "", self._respond)

    def _respond(self, connection: Connection, received: Received) -> bool:
        raise NotImplementedError

    def _ask(self, received: Received) -> tuple[int, Behaviour]:
        """Forwards a request; returns the status of its response, and a behavior that repeats the response."""
        with self._sent(received, received.body) as behind:
            answer = behind.getresponse()
            content_type = answer.headers.get("Content-Type", "")
            return answer.status, answers(answer.status, answer.read(), content_type=content_type)

    @contextmanager
    def _sent(self, received: Received, body: bytes) -> Iterator[http.client.HTTPConnection]:
        """Forwards a request with a body, or with half of it: the rest is never sent, and the connection ends."""
        with closing(http.client.HTTPConnection(self._behind, timeout=10)) as behind:
            behind.putrequest(received.method, received.path, skip_host=True, skip_accept_encoding=True)
            for key, value in received.headers.items():
                behind.putheader(key, value)
            behind.endheaders(body)
            yield behind


class FaultyKfp(Between):
    """A proxy that makes some requests fail."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._fault: Behaviour | None = None
        self._meets: Meets = everything
        self._came: Counter[str] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()

    def misbehave(self, fault: Behaviour | None, meets: Meets = everything) -> None:
        """Begins a fault, or ends it with None; resets the counts."""
        with self._lock:
            self._fault, self._meets = fault, meets
            for one in (self._came, self._refused, self.requests):
                one.clear()

    def came(self) -> Counter[str]:
        """The number of requests of each call since then, by its request id."""
        with self._lock:
            return self._came.copy()

    def writes(self) -> Counter[tuple[str, str]]:
        """How often each changing request has come since then; by its call and in words.

        Requests that KFP refused because the name is taken do not count, as they changed nothing.
        """
        with self._lock:
            return Counter(_words(one) for one in self.requests if changes_only(one, 0)) - self._refused

    def _respond(self, connection: Connection, received: Received) -> bool:
        with self._lock:
            self._came[call_of(received)] += 1
            fault = self._fault if self._meets(received, self._came[call_of(received)]) else None
        if fault is not None:
            return fault(connection, received)
        status, answer = self._ask(received)
        if status == HTTPStatus.CONFLICT:
            with self._lock:
                self._refused[_words(received)] += 1
        return answer(connection, received)


def _words(received: Received) -> tuple[str, str]:
    return call_of(received), f"{received.method} {received.path.partition('?')[0]}"


class Step(Enum):
    """The progress of a request to KFP."""

    BEFORE = "before it is sent on"
    HALFWAY = "when half of it has arrived"
    ANSWERED = "when KFP has answered, and the adapter does not know it yet"


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a call: its description, and the request to KFP that marks it, by method, path and step.

    `lost` is a pattern of the path of an earlier POST whose response must have been lost; empty for none.
    """

    what: str
    method: str
    path: str
    step: Step = Step.BEFORE
    lost: str = ""


class Tripwire(Between):
    """Forwards requests; at one moment it first runs an action, after which the connection breaks."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._moment: Moment | None = None
        self._lost = ""
        self._action: Callable[[], None] = lambda: None

    def arm(self, moment: Moment | None, action: Callable[[], None] = lambda: None) -> None:
        """Runs `action` at the moment, once; None disarms it."""
        with self._lock:
            self._moment, self._lost, self._action = moment, moment.lost if moment else "", action

    def _respond(self, connection: Connection, received: Received) -> bool:
        try:
            if self._is_moment(received, Step.BEFORE):
                return self._act()
            if self._is_moment(received, Step.HALFWAY):
                with self._sent(received, received.body[: len(received.body) // 2]):
                    return self._act()
            _, answer = self._ask(received)
        except (OSError, http.client.HTTPException):
            return False
        with self._lock:
            loses = bool(self._lost) and received.method == "POST" and re.search(self._lost, received.path) is not None
            self._lost = "" if loses else self._lost
        if loses:
            return False
        return self._act() if self._is_moment(received, Step.ANSWERED) else answer(connection, received)

    def _act(self) -> bool:
        self._action()
        return False  # breaks the connection

    def _is_moment(self, received: Received, step: Step) -> bool:
        with self._lock:
            moment = self._moment
            if moment is None or self._lost or (moment.step, moment.method) != (step, received.method):
                return False
            if not re.search(moment.path, received.path):
                return False
            self._moment = None
        return True


class CuttingProxy:
    """Forwards connections to a server on loopback, and cuts them after some bytes, or at `cut`.

    Attributes:
        target: Its address.
        cuts: The number of connections that were cut.
    """

    def __init__(self, server: str, cut_after: Callable[[], int] = lambda: sys.maxsize) -> None:
        """Listens for a server at an address; `cut_after` has a connection's limit of bytes in both directions."""
        host, _, port = server.partition(":")
        self._server, self._cut_after = (host, int(port)), cut_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0
        self._lock = threading.Lock()
        self._open: set[tuple[socket.socket, socket.socket]] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut()

    def cut(self) -> None:
        """Cuts all open connections on both sides at once; data in transit is lost."""
        with self._lock:
            self.cuts += len(self._open)
            for side in [side for sides in self._open for side in sides]:
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._pass, args=(self._listener.accept()[0],), daemon=True).start()

    def _pass(self, caller: socket.socket) -> None:
        """Forwards bytes in both directions until either side ends, or the limit is reached."""
        left = self._cut_after()
        with suppress(OSError), caller, socket.create_connection(self._server, 5) as server:
            other = {caller: server, server: caller}
            with self._lock:
                self._open.add((caller, server))
            with suppress(OSError):
                while left and (data := (source := select.select([*other], [], [])[0][0]).recv(min(left, 64 * KIB))):
                    other[source].sendall(data)
                    left -= len(data)
            with self._lock:
                self.cuts += left == 0
                self._open.discard((caller, server))

"""What stands between an adapter and a KFP: it misbehaves, never answers, or does something at a moment of a call."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
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

HUGE_BYTES = 160 * KIB * KIB
"""The size of a huge body: above what the adapter takes (128 MiB)."""
REFUSE, BAD_TLS = "refuse", "bad TLS"
"""The faults that a URL of its own stands for."""
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
    """What KFP says of a thing that is not there, by the path that names it."""
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
    """Has every request meet with a fault."""
    return True


def changes_only(received: Received, _: int) -> bool:
    """Has those requests meet with a fault that change something."""
    return received.method != "GET"


def from_the_nth_on(begins: Mapping[str, int]) -> Meets:
    """Has a call's n-th request and all after it meet with a fault; `begins` gives n by the call's request id."""
    return lambda received, number: number >= begins.get(call_of(received), number + 1)


def call_of(received: Received) -> str:
    """The request id of the call that a request belongs to."""
    return received.headers.get("x-request-id", "")


class Between(ScriptedKfp):
    """Stands before the KFP of a URL, if any."""

    def __init__(self, url: str = "") -> None:
        super().__init__()
        self._behind = urlsplit(url).netloc
        self._lock = threading.Lock()
        for method in ("GET", "POST", "DELETE", "PUT", "PATCH"):
            self.on(method, "", self.serve)

    def serve(self, connection: Connection, received: Received) -> bool:
        """Answers a request; returns whether the line may stay."""
        raise NotImplementedError

    def ask(self, received: Received) -> tuple[int, Behaviour]:
        """Sends a request on; returns the status of its answer, and what repeats the answer."""
        behind = http.client.HTTPConnection(self._behind, timeout=10)
        try:
            kept = {key: value for key, value in received.headers.items() if key != "host"}
            behind.request(received.method, received.path, received.body or None, kept)
            answer = behind.getresponse()
            content_type = answer.headers.get("Content-Type", "")
            return answer.status, answers(answer.status, answer.read(), content_type=content_type)
        finally:
            behind.close()


class FaultyKfp(Between):
    """Has some requests meet with a fault."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._fault: Behaviour | None = None
        self._meets: Meets = everything
        self._came: Counter[str] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()

    def misbehave(self, fault: Behaviour | None, meets: Meets = everything) -> None:
        """Begins a fault, or ends it with None; forgets what has come so far."""
        with self._lock:
            self._fault, self._meets = fault, meets
            for one in (self._came, self._refused, self.requests):
                one.clear()

    def came(self) -> Counter[str]:
        """How many requests have come since of each call, by its request id."""
        with self._lock:
            return self._came.copy()

    def writes(self) -> Counter[tuple[str, str]]:
        """How often each request that changes something has come since; by its call, and in words.

        What the KFP behind refused because the name is taken does not count: that changed nothing.
        """
        with self._lock:
            return Counter(_words(one) for one in self.requests if changes_only(one, 0)) - self._refused

    def serve(self, connection: Connection, received: Received) -> bool:
        """Misbehaves, or asks the KFP behind."""
        with self._lock:
            self._came[call_of(received)] += 1
            fault = self._fault if self._meets(received, self._came[call_of(received)]) else None
        if fault is not None:
            return fault(connection, received)
        status, answer = self.ask(received)
        if status == HTTPStatus.CONFLICT:
            with self._lock:
                self._refused[_words(received)] += 1
        return answer(connection, received)


def _words(received: Received) -> tuple[str, str]:
    return call_of(received), f"{received.method} {received.path.partition('?')[0]}"


class SlowKfp(Between):
    """Never answers, and notes when each call's line is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._came: dict[str, threading.Event] = {}
        self._closed: dict[str, float] = {}
        self._changed = threading.Condition()

    def expect(self, request_id: str) -> threading.Event:
        """Returns what is set when the first request of a call has come."""
        with self._changed:
            return self._came.setdefault(request_id, threading.Event())

    def closed_at(self, request_id: str, seconds: float) -> float | None:
        """When the line of a call was closed, waited for; None if that takes too long."""
        with self._changed:
            self._changed.wait_for(lambda: request_id in self._closed, seconds)
            return self._closed.get(request_id)

    def serve(self, connection: Connection, received: Received) -> bool:
        """Waits until the line is closed."""
        self.expect(call_of(received)).set()
        connection.sock.recv(1)
        with self._changed:
            self._closed.setdefault(call_of(received), time.monotonic())
            self._changed.notify_all()
        return False


class Step(Enum):
    """How far a request to KFP has come."""

    BEFORE = "before it is sent on"
    HALFWAY = "when half of it has arrived"
    ANSWERED = "when KFP has answered, and the adapter does not know it yet"


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a call: what happens then, and the request to KFP that marks it, by method, path and step.

    `lost` is a pattern of a path whose POST must have come first, and its answer been lost; empty: of none.
    """

    what: str
    method: str
    path: str
    step: Step = Step.BEFORE
    lost: str = ""


class Tripwire(Between):
    """Passes all on, and at one moment does something first, after which the line breaks."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._moment: Moment | None = None
        self._lost = ""
        self._action: Callable[[], None] = lambda: None

    def arm(self, moment: Moment | None, action: Callable[[], None] = lambda: None) -> None:
        """Has `action` done at the moment, once; None: nothing any more."""
        with self._lock:
            self._moment, self._lost, self._action = moment, moment.lost if moment else "", action

    def serve(self, connection: Connection, received: Received) -> bool:
        """Passes a request on, unless this is the moment."""
        if self._is_moment(received, Step.BEFORE):
            return self._act()
        try:
            if self._is_moment(received, Step.HALFWAY):
                with self._begun(received):
                    return self._act()
            _, answer = self.ask(received)
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
        return False  # which breaks the line

    @contextmanager
    def _begun(self, received: Received) -> Iterator[None]:
        """Sends half of a request on; the rest never comes, and the line ends with the block."""
        host, _, port = self._behind.partition(":")
        with socket.create_connection((host, int(port)), 10) as line:
            fields = "".join(f"{key}: {value}\r\n" for key, value in received.headers.items())
            first = f"{received.method} {received.path} HTTP/1.1\r\n{fields}\r\n"
            line.sendall(first.encode() + received.body[: len(received.body) // 2])
            yield

    def _is_moment(self, received: Received, step: Step) -> bool:
        with self._lock:
            moment = self._moment
            if moment is None or self._lost or moment.step is not step or moment.method != received.method:
                return False
            if not re.search(moment.path, received.path):
                return False
            self._moment = None
        return True

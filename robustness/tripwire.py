"""Stands before a KFP and does something at a certain moment of a call."""

from __future__ import annotations

import http.client
import re
import threading
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.scripted_kfp import ScriptedKfp

from robustness.faulty_kfp import asked, begun

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted_kfp import Connection, Received
    from typing_extensions import Self


class Step(Enum):
    """How far a request to KFP has come."""

    BEFORE = "before it is sent on"
    HALFWAY = "when half of it has arrived"
    ANSWERED = "when KFP has answered, and the adapter does not know it yet"


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a call.

    Attributes:
        what: What happens then, in words.
        method: Of the request to KFP that it is told by.
        path: A pattern of its path.
        step: How far that request has come.
        lost: A pattern of a path whose POST must have come first, and its answer been lost; empty: of none.
    """

    what: str
    method: str
    path: str
    step: Step = Step.BEFORE
    lost: str = ""


class Tripwire:
    """Passes all on, and at one moment does something first, after which the line breaks.

    Attributes:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self._server = ScriptedKfp()
        for method in ("GET", "POST", "DELETE"):
            self._server.on(method, "", self._pass)
        self.url = self._server.url
        self._behind = urlsplit(url).netloc
        self._lock = threading.Lock()
        self._moment: Moment | None = None
        self._lost = ""
        self._action: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)

    def arm(self, moment: Moment, action: Callable[[], None]) -> None:
        """Has `action` done at the moment, once."""
        with self._lock:
            self._moment, self._lost, self._action = moment, moment.lost, action

    def disarm(self) -> None:
        """Forgets what was to be done."""
        with self._lock:
            self._moment, self._lost = None, ""

    def _pass(self, connection: Connection, received: Received) -> bool:
        if self._trips(received, Step.BEFORE):
            return self._act()
        try:
            if self._trips(received, Step.HALFWAY):
                with begun(self._behind, received):
                    return self._act()
            _, answer = asked(self._behind, received)
        except (OSError, http.client.HTTPException):
            return False
        if self._loses(received):
            return False
        return self._act() if self._trips(received, Step.ANSWERED) else answer(connection, received)

    def _act(self) -> bool:
        self._action()
        return False  # which breaks the line

    def _trips(self, received: Received, step: Step) -> bool:
        with self._lock:
            moment = self._moment
            if moment is None or self._lost or moment.step is not step or moment.method != received.method:
                return False
            if not re.search(moment.path, received.path):
                return False
            self._moment = None
        return True

    def _loses(self, received: Received) -> bool:
        with self._lock:
            loses = bool(self._lost) and received.method == "POST" and re.search(self._lost, received.path) is not None
            self._lost = "" if loses else self._lost
        return loses

"""Stands before a KFP and does something at a certain moment of a call."""

from __future__ import annotations

import http.client
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.scripted_kfp import ScriptedKfp

from robustness.faulty_kfp import asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted_kfp import Connection, Received
    from typing_extensions import Self


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a call.

    Attributes:
        what: What happens then, in words.
        method: Of the request to KFP that it is told by.
        path: A pattern of its path.
        answered: Whether KFP has answered by then, and only the adapter does not know it.
    """

    what: str
    method: str
    path: str
    answered: bool = False


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
        self._action: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)

    def arm(self, moment: Moment, action: Callable[[], None]) -> None:
        """Has `action` done at the moment, once."""
        with self._lock:
            self._moment, self._action = moment, action

    def disarm(self) -> bool:
        """Forgets what was to be done; tells whether it was done."""
        with self._lock:
            done, self._moment = self._moment is None, None
        return done

    def _pass(self, connection: Connection, received: Received) -> bool:
        if self._trips(received, answered=False):
            return False
        try:
            answer = asked(self._behind, received)
        except (OSError, http.client.HTTPException):
            return False
        return not self._trips(received, answered=True) and answer(connection, received)

    def _trips(self, received: Received, *, answered: bool) -> bool:
        with self._lock:
            moment = self._moment
            if moment is None or moment.answered is not answered or moment.method != received.method:
                return False
            if not re.search(moment.path, received.path):
                return False
            self._moment = None
        self._action()
        return True

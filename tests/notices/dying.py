"""The program, killing itself at a named point, as by `kill -9`: `python -m tests.notices.dying POINT ARGUMENTS`.

The program is otherwise unchanged: a point is before or after one of its own functions.
"""

from __future__ import annotations

import functools
import http.client
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kfadapter_grpc.cli import main
from kfadapter_oran.notices import database, deliveries, outbox
from kfadapter_oran.notices.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable

POINTS: dict[str, tuple[Any, str, str]] = {
    "before the notice is written": (outbox.Outbox, "_write", "before"),
    "while the notice is written": (outbox.Outbox, "_write", "after"),  # the transaction is still open
    "after the notice was written": (outbox.Outbox, "record", "after a notice"),
    "before the post": (Receiver, "post", "before"),
    "during the post": (http.client.HTTPConnection, "getresponse", "before"),
    "after the post": (Receiver, "post", "after"),
    "while the delivery is noted": (deliveries.Deliveries, "delivered", "inside"),
    "after the delivery was noted": (deliveries.Deliveries, "delivered", "after"),
}
"""Where it can die: the class, the function, and whether before or after it."""


def die() -> None:
    """Kills the process immediately."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying(function: Callable[..., Any], when: str) -> Callable[..., Any]:
    """Wraps a function to kill the process before or after it."""

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any function
        if when == "before":
            die()
        result = function(*arguments, **named)
        if when == "after" or result is not None:
            die()
        return result

    return run


def die_at(point: str) -> None:
    """Sets the point at which the process kills itself."""
    owner, name, when = POINTS[point]
    if when == "inside":
        _die_in_the_transaction()
    else:
        setattr(owner, name, dying(getattr(owner, name), when))


def _die_in_the_transaction() -> None:
    """Sets the point between the statement that records a delivery and the end of its transaction."""
    delivered = deliveries.Deliveries.delivered
    writing = database.Database.writing

    def die_inside(self: deliveries.Deliveries, *arguments: Any) -> None:  # noqa: ANN401 - any function
        database.Database.writing = functools.wraps(writing)(_left_dead(writing))  # type: ignore[method-assign]
        delivered(self, *arguments)

    deliveries.Deliveries.delivered = die_inside  # type: ignore[method-assign, assignment]


def _left_dead(writing: Callable[..., Any]) -> Callable[..., Any]:
    @contextmanager
    def run(self: database.Database) -> Any:  # noqa: ANN401 - any function
        with writing(self) as connection:
            yield connection
            die()

    return run


if __name__ == "__main__":
    die_at(sys.argv.pop(1))
    main()

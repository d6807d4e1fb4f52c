"""The states that a run or a task went through, as the database keeps them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .execution import State
from .records import Status

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_history(text: str) -> tuple[Status, ...]:
    """Reads what `written_history` has written."""
    return tuple(Status(at, State(state)) for at, state in json.loads(text))


def written_history(history: Sequence[Status]) -> str:
    """A history as JSON text."""
    return json.dumps([[status.at, status.state.value] for status in history])


def continued(text: str, status: Status) -> str:
    """A written history with one state more, unless it is the one that it ends with."""
    history = read_history(text)
    return text if history and history[-1].state is status.state else written_history([*history, status])

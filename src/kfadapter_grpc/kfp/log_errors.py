"""Recognizes the errors that KFP writes into a log.

KFP answers a request for a log with status 200 before it looks for one. What then fails it writes as JSON at the end of
the body, also behind lines of the log (`run_log_server.go`). A program may print such JSON, too, so only the whole form
counts: exactly KFP's two keys, in its order, nothing behind them, and the message that it writes for this run. In
doubt it is text of the log.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_ERROR_BYTES = 64 * 1024
"""More than any error of KFP's; whatever is longer is text."""
_MESSAGE = "BadRequestError: Failed to read logs for run "


class NoLogError(Exception):
    """A source has no log, or no more of it; never leaves kfp.

    Attributes:
        why: What it says.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def text_of(run_id: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yields what is text of the log; holds back at most `MAX_ERROR_BYTES`, where an error may have begun.

    Raises:
        NoLogError: The log ends with an error of KFP's, which is not yielded.
    """
    mark = f'{{"error_message":"{_MESSAGE}{run_id}'.encode()
    held = b""
    for piece in pieces:
        held += piece
        start = _start(held, mark)
        if start:
            yield held[:start]
            held = held[start:]
    why = _message(held, run_id) if held.startswith(mark) else ""
    if why:
        raise NoLogError(why)
    if held:
        yield held


def _start(data: bytes, mark: bytes) -> int:
    """Where an error may begin: at its mark, or at the end where that may be the beginning of one."""
    begin = data.rfind(mark)
    if begin >= 0 and len(data) - begin <= MAX_ERROR_BYTES:
        return begin
    brace = data.rfind(b"{", max(0, len(data) - len(mark) + 1))  # the mark has one, in front
    return brace if brace >= 0 and mark.startswith(data[brace:]) else len(data)


def _message(data: bytes, run_id: str) -> str:
    """The message of an error; empty if this is none."""
    try:
        pairs = json.loads(data, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return ""
    is_whole = data.endswith(b"}") and [key for key, _ in pairs] == ["error_message", "error_details"]
    if not is_whole or not all(isinstance(value, str) for _, value in pairs):
        return ""
    message = str(pairs[0][1])
    form = rf"{_MESSAGE}{re.escape(run_id)}(: | due to (run|namespace) fetching error: )"
    return message if re.match(form, message) else ""

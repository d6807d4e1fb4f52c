"""Who is told: what is posted, and what the answers mean."""

from __future__ import annotations

import enum
import json
import re
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from kfadapter_grpc.client.credentials import Token
from kfadapter_grpc.contract.runs import RunState
from kfadapter_oran.notices.post import NoAnswerError, Poster, Url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from kfadapter_oran.notices.models import Notice
    from kfadapter_oran.notices.post import Answer

TRAINING_FAILED = "Training Failed"
"""What the training manager answers, with 500, to a notice of a failure that it has taken note of."""
_TRAINING_FAILED_KEY = "Error"
_AWAY = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_SHOWN_CHARACTERS = 200
_BEARER = "Bearer "
_SECRET_CHARACTERS = 8
_UNSHOWN = re.compile(r"\s+|[^\x20-\x7e\u00a0-\U0010ffff]+")


class Outcome(enum.Enum):
    """What came of an attempt."""

    DELIVERED = "delivered"
    """The receiver has it."""
    AWAY = "away"
    """Nobody was there, or had time: worth trying for long."""
    REFUSED = "refused"
    """It was answered, and not with a delivery: worth trying a few times, then somebody must look."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of an attempt, and in words."""

    outcome: Outcome
    said: str


@dataclass(frozen=True, slots=True)
class ReceiverOptions:
    """How to reach the receiver.

    Attributes:
        url: Where to post.
        headers: What to send along.
        token: A bearer token to send along, if there is one.
        ca: The authorities of its certificate, in PEM; None for those that the system trusts.
        seconds: How long one attempt may take.
    """

    url: Url
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: Token = field(default_factory=Token)
    ca: Path | None = None
    seconds: float = 30.0


class Receiver:
    """Posts notices to one receiver. Safe to use from several threads."""

    def __init__(self, options: ReceiverOptions) -> None:
        self._options = options
        tls = ssl.create_default_context(cafile=options.ca) if options.url.scheme == "https" else None
        self._poster = Poster(options.url, options.seconds, tls)

    def tell(self, notice: Notice) -> Attempt:
        """Posts a notice, and tells what came of it; whatever the receiver does, no exception."""
        headers = self._headers(notice)
        try:
            answer = self._poster.post(_body(notice), headers)
        except NoAnswerError as error:
            return Attempt(Outcome.AWAY, str(error))
        return Attempt(meaning(notice.state, answer), _shown(answer, self._secrets()))

    def _secrets(self) -> Iterator[str]:
        sent = [value.removeprefix(_BEARER) for _, value in self._options.token.metadata()]
        return (value for value in [*sent, *self._options.headers.values()] if len(value) >= _SECRET_CHARACTERS)

    def _headers(self, notice: Notice) -> dict[str, str]:
        token = {name.title(): value for name, value in self._options.token.metadata()}
        return {
            "Content-Type": "application/json",
            "User-Agent": "kfadapter-notify",
            # The training manager does not look at it; a receiver that does can tell a second copy from a first one.
            "Idempotency-Key": f"{notice.run_id}:{notice.state}",
            **token,
            **self._options.headers,
        }


def meaning(state: str, answer: Answer) -> Outcome:
    """Tells what an answer to a notice of this state means.

    The training manager answers 500 to every notice of a failure, after it has taken note of it. The same answer to a
    success means that it found no model: then it has not taken note of the success.
    """
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return Outcome.DELIVERED
    failure = state != RunState.SUCCEEDED.value
    if failure and answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and _error_in(answer.body) == TRAINING_FAILED:
        return Outcome.DELIVERED
    return Outcome.AWAY if answer.status in _AWAY else Outcome.REFUSED


def _body(notice: Notice) -> bytes:
    body = {"trainingjob_id": notice.job, "run_id": notice.run_id, "run_status": notice.state}
    return json.dumps(body).encode()


def _error_in(body: bytes) -> object:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return said.get(_TRAINING_FAILED_KEY) if isinstance(said, dict) else None


def _shown(answer: Answer, secrets: Iterable[str]) -> str:
    """Shows an answer on one line, without what was sent along should it be repeated there."""
    text = answer.body.decode("utf-8", "replace")
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _UNSHOWN.sub(" ", text).strip()[:_SHOWN_CHARACTERS]
    return f"{answer.status} {text}".strip()

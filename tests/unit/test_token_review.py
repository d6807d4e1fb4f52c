"""TokenReview: answers of an API server, and what callers get (a real one: tests/deploy/test_token_review.py)."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs
from tests.oidc import AUDIENCE, claims, token

from kfadapter_grpc.auth.bearer_tokens import Reviewer
from kfadapter_grpc.auth.issuers import TokenReview
from kfadapter_grpc.auth.signed_tokens import read_token
from kfadapter_grpc.auth.tokens import digest
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import IssuerUnavailableError, KfpTimeoutError, UnauthenticatedError
from kfadapter_grpc.contract.identity import Way

if TYPE_CHECKING:
    from kfadapter_grpc.contract.identity import Identity

NAME = "system:serviceaccount:ml:trainer"
USER = {"username": NAME, "groups": ["system:serviceaccounts"], "extra": {"a": ["b"]}}
VALID = {"status": {"authenticated": True, "user": USER, "audiences": [AUDIENCE]}}


class Server:
    """Answers with a status and a document."""

    def __init__(self, status: int = 201, body: object = None) -> None:
        self.status, self.body = status, json.dumps(VALID if body is None else body).encode()
        self.asked: list[str] = []

    def __call__(self, review: TokenReview, text: str, call: Call) -> tuple[int, bytes]:
        """Answers."""
        assert (review.audiences, call.remaining() <= 3) == ((AUDIENCE,), True)
        self.asked.append(text)
        if not self.status:
            raise KfpTimeoutError("x")
        return self.status, self.body


def review(server: Server, text: str, seconds: int = 10) -> Identity:
    """The identity of a token's bearer."""
    return ask(Reviewer(TokenReview((AUDIENCE,), cache_seconds=seconds), server), text)


def ask(reviewer: Reviewer, text: str) -> Identity:
    """The same, of a reviewer."""
    return reviewer.identity(read_token(text), digest(text), Call("test", 30.0))


def test_valid() -> None:
    """A token is reviewed once, for the adapter's audiences, and its identity is kept for some seconds."""
    server, text = Server(), token()
    reviewer = Reviewer(TokenReview((AUDIENCE,)), server)
    for _ in range(3):
        who = ask(reviewer, text)
        assert (who.name, who.way, who.groups) == (NAME, Way.TOKEN_REVIEW, ("system:serviceaccounts",))
    assert server.asked == [text]
    again = Server()
    for _ in range(2):
        review(again, text, seconds=0)
    assert len(again.asked) == 2


REJECTED = {
    "not authenticated": {"status": {"authenticated": False, "error": "x"}},
    "no status": {"status": {}},
    "another audience": {"status": {"authenticated": True, "user": USER, "audiences": ["other"]}},
    "no audiences": {"status": {"authenticated": True, "user": USER}},
    "no name": {"status": {"authenticated": True, "user": {}, "audiences": [AUDIENCE]}},
    "a name with a line break": {"status": {**VALID["status"], "user": {"username": "a\nb"}}},
}


@pytest.mark.parametrize("name", REJECTED)
def test_rejected(name: str) -> None:
    """What the API server does not clearly accept is refused, and that is kept, too."""
    server, text = Server(body=REJECTED[name]), token()
    reviewer = Reviewer(TokenReview((AUDIENCE,)), server)
    for _ in range(2):
        with pytest.raises(UnauthenticatedError) as caught:
            ask(reviewer, text)
        assert caught.value.metadata == {"fault": "REJECTED"}
    assert len(server.asked) == 1


@pytest.mark.parametrize(("status", "body"), [(403, {}), (500, {}), (0, {}), (201, []), (201, {"status": {"user": 7}})])
def test_unavailable(status: int, body: object) -> None:
    """Without a response the token may be valid: UNAVAILABLE, one log line, and nothing of the token in either."""
    server, text = Server(status, body), token()
    reviewer = Reviewer(TokenReview((AUDIENCE,)), server)
    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(IssuerUnavailableError) as caught:
                ask(reviewer, text)
    assert [line["event"] for line in lines] == ["tokens cannot be reviewed"]
    assert not any(part in f"{caught.value}{lines}" for part in text.split("."))
    server.status, server.body = 201, json.dumps(VALID).encode()
    assert ask(reviewer, text).name == NAME


@pytest.mark.parametrize("changed", [{"exp": 1}, {"exp": None}, {"aud": "other"}, {"nbf": time.time() + 3600}])
def test_what_is_not_sent(changed: dict[str, object]) -> None:
    """Tokens that cannot be valid are refused without a review."""
    server = Server()
    with pytest.raises(UnauthenticatedError):
        review(server, token(claims(**changed)))
    assert server.asked == []

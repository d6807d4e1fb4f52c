"""Requests to KFP are reported to the call and to the observer."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from tests.scripted_kfp import ScriptedKfp, answers, resets, stalls

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError, KfpTimeoutError
from kfadapter_grpc.kfp.transport import Request, Transport, TransportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scripted_kfp import Behaviour

    from kfadapter_grpc.kfp.exchange import KfpRequest


@pytest.fixture
def seen() -> list[KfpRequest]:
    """What the observer was called with."""
    return []


@pytest.fixture
def transport(kfp: ScriptedKfp, seen: list[KfpRequest]) -> Iterator[Transport]:
    """The transport to it."""
    made = Transport(TransportSettings(kfp.url, observer=seen.append))
    yield made
    made.close()


def test_a_response(kfp: ScriptedKfp, transport: Transport, seen: list[KfpRequest]) -> None:
    """A request with a response, of any status, is reported once, and the call counts the time it waited."""
    kfp.on("POST", "/x", answers(404))
    call = Call("r", 10)
    transport.send(Request("POST", "/x"), call, "make x")
    (one,) = seen
    assert (one.operation, one.status, one.reason) == ("make x", 404, "")
    assert (call.usage.kfp_requests, call.usage.kfp_seconds) == (1, one.seconds)
    assert one.seconds > 0


def test_repetitions(kfp: ScriptedKfp, transport: Transport, seen: list[KfpRequest]) -> None:
    """Every attempt is reported and counted."""
    kfp.on("GET", "/x", answers(503), resets(), answers(200))
    call = Call("r", 10)
    transport.send(Request("GET", "/x"), call, "get x")
    assert [(one.status, one.reason) for one in seen] == [(503, ""), (0, "KFP_UNAVAILABLE"), (200, "")]
    assert call.usage.kfp_requests == 3


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [(resets(), "KFP_UNAVAILABLE"), (stalls(), "KFP_TIMEOUT"), (answers(200, b"x" * 100), "KFP_ERROR")],
    ids=["reset", "silence", "too large"],
)
def test_no_response(
    kfp: ScriptedKfp, transport: Transport, seen: list[KfpRequest], behaviour: Behaviour, reason: str
) -> None:
    """A request without a response is reported with the reason."""
    kfp.on("POST", "/x", behaviour)
    with pytest.raises(AdapterError):
        transport.send(Request("POST", "/x", limit=50), Call("r", 0.3), "make x")
    assert [(one.operation, one.status, one.reason) for one in seen] == [("make x", 0, reason)]


def test_a_response_that_is_read_as_it_comes(kfp: ScriptedKfp, transport: Transport, seen: list[KfpRequest]) -> None:
    """With a streamed response, the request is reported when the response begins, whatever happens to it."""
    kfp.on("GET", "/x", stalls(b"HTTP/1.1 200 OK\r\n\r\nabc"))
    call = Call("r", 10)
    with suppress(KfpTimeoutError), transport.open(Request("GET", "/x"), call, "read x") as answer:
        assert next(answer.chunks) == b"abc"
        assert [(one.operation, one.status) for one in seen] == [("read x", 200)]
        raise KfpTimeoutError("while the answer is read")
    assert len(seen) == call.usage.kfp_requests == 1


def test_a_spare_budget_is_the_same_call(kfp: ScriptedKfp, transport: Transport) -> None:
    """Work for a call after its deadline has the call's request id towards KFP, and counts as the call's own."""
    kfp.on("DELETE", "/x", answers(200))
    call = Call("mine", -1)
    call.cancel()
    transport.send(Request("DELETE", "/x"), call.detached(10), "undo x")
    assert kfp.requests[0].headers["x-request-id"] == "mine"
    assert call.usage.kfp_requests == 1

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.client.fake_adapter import bare_status, wire_status

from kfadapter_grpc.client import CallFailedError, CannotConnectError, Client, DeadlineError
from kfadapter_grpc.contract.errors import (
    AdapterError,
    CallCancelledError,
    FieldViolation,
    InvalidFieldError,
    KfpUnavailableError,
    all_error_classes,
)

if TYPE_CHECKING:
    from tests.client.fake_adapter import FakeAdapter


@pytest.mark.parametrize("cls", list(all_error_classes()), ids=lambda cls: cls.reason)
def test_every_error_class_survives_the_wire(cls: type[AdapterError], client: Client, fake: FakeAdapter) -> None:
    """Every error that the adapter raises is raised by the client, with all of its details."""
    sent = cls(
        "what is wrong",
        metadata={"name": "세계"},
        violations=[FieldViolation("name", "is too long")],
        resource_name="train",
        retry_after=0.25,
    )
    fake.failures = [sent] * 5
    with pytest.raises(AdapterError) as caught:
        client.pipelines.get("x")
    got = caught.value
    assert type(got) is cls
    assert (got.message, got.metadata, got.violations) == (sent.message, sent.metadata, sent.violations)
    assert (got.resource_name, got.retry_after, got.request_id) == ("train", 0.25, "req-1")


@pytest.mark.slow
def test_no_listener_is_cannot_connect() -> None:
    """If no server is listening, the error names the address."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{reserved.getsockname()[1]}"
        with Client(target) as client, pytest.raises(CannotConnectError, match=target) as caught:
            client.pipelines.get("x")
    assert "refused" in caught.value.metadata["cause"]


def test_silence_is_a_deadline_error(target: str, fake: FakeAdapter) -> None:
    """If the adapter does not respond within the client's timeout, the error is DeadlineError."""
    fake.hold.clear()
    with Client(target, timeout=0.05) as client, pytest.raises(DeadlineError):
        client.pipelines.get("x")


def test_a_cancelled_call_is_cancelled(client: Client, fake: FakeAdapter) -> None:
    """A cancellation without details is the cancellation class, not a failure."""
    fake.failures = [bare_status(grpc.StatusCode.CANCELLED, "gone")]
    with pytest.raises(CallCancelledError):
        client.pipelines.get("x")


def test_a_foreign_server_keeps_its_status(client: Client, fake: FakeAdapter) -> None:
    """A status without the adapter's details keeps its code and message, and the id that the call was sent with."""
    fake.failures = [bare_status(grpc.StatusCode.PERMISSION_DENIED, "mesh says no")]
    with pytest.raises(CallFailedError, match="mesh says no") as caught:
        client.pipelines.get("x")
    assert caught.value.status is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.request_id == fake.call_metadata["x-request-id"]


def test_a_reason_of_the_future_is_reported(client: Client, fake: FakeAdapter) -> None:
    """A reason unknown to this version is named in the message, and the status is kept."""

    class TomorrowError(AdapterError, reason="MOON_PHASE", code=grpc.StatusCode.FAILED_PRECONDITION):
        """A reason of a later version."""

    fake.failures = [TomorrowError("wrong moon")]
    with pytest.raises(CallFailedError, match=r"wrong moon \(MOON_PHASE\)") as caught:
        client.pipelines.get("x")
    assert caught.value.status is grpc.StatusCode.FAILED_PRECONDITION


def test_garbled_details_do_not_hide_the_failure(client: Client, fake: FakeAdapter) -> None:
    """Details that cannot be parsed are ignored; the status is still reported."""
    trailers = (("grpc-status-details-bin", b"\xff\xff\xff"),)
    fake.failures = [bare_status(grpc.StatusCode.NOT_FOUND, "no such thing", trailers)]
    with pytest.raises(CallFailedError, match="no such thing"):
        client.pipelines.get("x")


def test_reads_are_repeated_while_the_adapter_is_unreachable(client: Client, fake: FakeAdapter) -> None:
    """A read that gets UNAVAILABLE is retried automatically and then succeeds."""
    fake.add("train")
    fake.failures = [wire_status(KfpUnavailableError("KFP is away"))] * 2
    assert client.pipelines.get("train").name == "train"
    assert fake.calls == ["Get"] * 3


def test_deletions_are_not_repeated(client: Client, fake: FakeAdapter) -> None:
    """A call with side effects is sent only once, whatever the error."""
    fake.add("train")
    fake.failures = [KfpUnavailableError("KFP is away")]
    with pytest.raises(KfpUnavailableError):
        client.pipelines.delete("train")
    assert fake.calls == ["Delete"]


def test_name_and_id_at_once_are_refused(client: Client, fake: FakeAdapter) -> None:
    """A name and an id at once are rejected before anything is sent, since the wire can hold only one of them."""
    with pytest.raises(InvalidFieldError):
        client.pipelines.get("train", pipeline_id="1")
    assert fake.calls == []

"""How an adapter authenticates callers, apart from the matrix of all RPCs (test_authorization.py)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from structlog.testing import capture_logs
from tests.contract.conftest import OWN_CONNECTION
from tests.contract.running import WAIT_SECONDS, Gate, Scripted, eventually, failure
from tests.contract.test_reflection import listed
from tests.contract.tokens import TOKENS, bearer, token_file, token_lines

from kfadapter.v1 import pipeline_pb2
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter_grpc.auth.tokens import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.contract.conftest import Serve
    from tests.contract.tokens import Metadata

GET = pipeline_pb2.GetPipelineRequest(name="hello")


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", ""),),
        (("authorization", "Bearer"),),
        (("authorization", f"Basic {TOKENS['writer']}"),),
        (("authorization", TOKENS["writer"]),),
        (("authorization", f"Bearer {TOKENS['writer']} x"),),
        (*bearer(TOKENS["writer"]), *bearer(TOKENS["writer"])),
        (("authorization-bin", f"Bearer {TOKENS['writer']}".encode()),),
        bearer(TOKENS["writer"][:-1]),
        bearer(digest(TOKENS["writer"]).hex()),
    ],
)
def test_malformed_credentials(serve: Serve, tmp_path: Path, metadata: Metadata) -> None:
    """Malformed credentials, several at once, a part of a token and its hash are all rejected."""
    running = serve(Scripted(), token_file=token_file(tmp_path, token_lines("writer")))
    it = failure(lambda: running.stub.Get(GET, metadata=metadata))
    assert (it.code, it.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert TOKENS["writer"] not in repr(it)


def test_the_scheme_in_any_case(serve: Serve, tmp_path: Path) -> None:
    """`bearer` may be written in any case, as HTTP has it."""
    running = serve(Scripted(), token_file=token_file(tmp_path, token_lines("writer")))
    metadata = (("authorization", f"bEARER {TOKENS['writer']}"),)
    assert running.stub.Get(GET, metadata=metadata).name == "hello"


def test_health_and_reflection_need_no_token(serve: Serve, tmp_path: Path) -> None:
    """Health checks and grpcurl's reflection requests need no credentials."""
    running = serve(Scripted(), token_file=token_file(tmp_path, token_lines("writer")))
    health = health_pb2_grpc.HealthStub(running.channel).Check(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert listed(running)


def test_the_log_names_the_caller(serve: Serve, tmp_path: Path) -> None:
    """The log line of a call names the caller, also if the call was rejected; no token is ever in it."""
    running = serve(Scripted(), token_file=token_file(tmp_path, token_lines("reader", "expired")))
    with capture_logs() as lines:
        running.stub.Get(GET, metadata=bearer(TOKENS["reader"]))
        failure(lambda: running.stub.Delete(pipeline_pb2.DeletePipelineRequest(), metadata=bearer(TOKENS["reader"])))
        failure(lambda: running.stub.Get(GET, metadata=bearer(TOKENS["expired"])))
        failure(lambda: running.stub.Get(GET))
        eventually(lambda: len([line for line in lines if line["event"] == "call"]) == 4)
    calls = [line for line in lines if line["event"] == "call"]
    assert [line.get("caller") for line in calls] == ["reader", "reader", None, None]
    assert [line.get("reason") for line in calls] == [None, "PERMISSION_DENIED", "UNAUTHENTICATED", "UNAUTHENTICATED"]
    assert not any(token in repr(lines) for token in TOKENS.values())


def test_strangers_take_no_place(serve: Serve, tmp_path: Path) -> None:
    """A call without a token is UNAUTHENTICATED even if all slots are taken or the server drains; it takes no slot."""
    gate = Gate()

    def held_get(context: grpc.ServicerContext) -> pipeline_pb2.Pipeline:
        gate.hold(context)
        return pipeline_pb2.Pipeline()

    tokens = token_file(tmp_path, token_lines("writer"))
    running = serve(Scripted(get=held_get), max_unary_calls=1, token_file=tokens)
    strangers = [failure(lambda: running.stub.Get(GET)).reason for _ in range(3)]
    held = running.stub.Get.future(GET, metadata=bearer(TOKENS["writer"]))
    gate.await_call()
    assert failure(lambda: running.stub.Get(GET, metadata=bearer(TOKENS["writer"]))).reason == "OVERLOADED"
    strangers.append(failure(lambda: running.stub.Get(GET)).reason)
    gate.opened.set()
    held.result(WAIT_SECONDS)
    running.server.admission.drain()
    strangers.append(failure(lambda: running.stub.Get(GET)).reason)
    assert set(strangers) == {"UNAUTHENTICATED"}


def test_a_name_is_one_caller_on_all_its_connections(serve: Serve, tmp_path: Path) -> None:
    """A caller known by name gets no more slots on another connection; another name on the same connection does."""
    gate = Gate()

    def held_get(context: grpc.ServicerContext) -> pipeline_pb2.Pipeline:
        gate.hold(context)
        return pipeline_pb2.Pipeline()

    tokens = token_file(tmp_path, token_lines("reader", "writer"))
    running = serve(Scripted(get=held_get), max_unary_calls=4, token_file=tokens)
    writer, reader = bearer(TOKENS["writer"]), bearer(TOKENS["reader"])
    held = [running.stub.Get.future(GET, metadata=writer) for _ in range(3)]
    for _ in held:
        gate.await_call()
    with grpc.insecure_channel(running.server.address, OWN_CONNECTION) as channel:
        other = PipelineServiceStub(channel)
        assert failure(lambda: other.Get(GET, metadata=writer)).reason == "OVERLOADED"
    held.append(running.stub.Get.future(GET, metadata=reader))
    gate.await_call()
    gate.opened.set()
    assert [one.result(WAIT_SECONDS) for one in held] == [pipeline_pb2.Pipeline()] * 4


def test_an_upload_is_refused_before_it_is_read(serve: Serve, tmp_path: Path) -> None:
    """An unauthenticated upload is rejected at once, regardless of what is sent after that."""
    running = serve(Scripted(), token_file=token_file(tmp_path, token_lines("writer")))
    answered = threading.Event()

    def endless() -> Iterator[pipeline_pb2.UploadPipelineRequest]:
        answered.wait(WAIT_SECONDS)
        yield from ()

    assert failure(lambda: running.stub.Upload(endless(), timeout=WAIT_SECONDS)).reason == "UNAUTHENTICATED"
    answered.set()


def test_changed_tokens_are_read(serve: Serve, tmp_path: Path) -> None:
    """A token removed from the file is rejected and a new one accepted, without a restart."""
    file = token_file(tmp_path, token_lines("writer"))
    running = serve(Scripted(), token_file=file)
    assert running.stub.Get(GET, metadata=bearer(TOKENS["writer"])).name == "hello"
    assert failure(lambda: running.stub.Get(GET, metadata=bearer(TOKENS["reader"]))).reason == "UNAUTHENTICATED"
    file.write_text(token_lines("reader"))
    eventually(lambda: answers(lambda: running.stub.Get(GET, metadata=bearer(TOKENS["reader"]))))
    assert failure(lambda: running.stub.Get(GET, metadata=bearer(TOKENS["writer"]))).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("text", ["", "x", None])
def test_a_bad_token_file_opens_nothing(serve: Serve, tmp_path: Path, text: str | None) -> None:
    """If the file becomes empty, invalid or missing, the log reports it, and the same callers as before have access."""
    file = token_file(tmp_path, token_lines("writer"))
    running = serve(Scripted(), token_file=file)
    with capture_logs() as lines:
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        (line,) = eventually(lambda: [one for one in lines if one["log_level"] == "error"])
    assert line["event"] == "the tokens: invalid; the last valid contents are used"
    assert line["files"] == [str(file)]
    assert running.stub.Get(GET, metadata=bearer(TOKENS["writer"])).name == "hello"
    assert failure(lambda: running.stub.Get(GET)).reason == "UNAUTHENTICATED"
    assert failure(lambda: running.stub.Get(GET, metadata=bearer(TOKENS["reader"]))).reason == "UNAUTHENTICATED"


def answers(call: Callable[[], object]) -> bool:
    """Returns whether a call succeeds."""
    try:
        call()
    except grpc.RpcError:
        return False
    return True

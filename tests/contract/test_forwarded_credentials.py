"""A server that forwards its callers' credentials to KFP: what is forwarded, what is not, and what stays secret."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.contract.running import eventually, failure, reported
from tests.contract.test_process import Process
from tests.scripted_kfp import Connection, Received, ScriptedKfp, answers

from kfadapter.v1 import pipeline_pb2, run_pb2
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from kfadapter_grpc.methods import METHODS, CallKind, RpcMethod
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.server.kfp import connect_kfp
from kfadapter_grpc.server.process import servicers
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALICE, BOB = "Bearer canary-of-alice", "Bearer canary-of-bob"
REFUSALS = {
    "401": answers(401, {"code": 16, "message": "Unauthenticated"}),
    "403": answers(403, {"code": 7, "message": "PermissionDenied"}),
    "login": answers(302, headers={"Location": "https://dex.example.org/auth?state=canary"}),
}


def _by_caller(connection: Connection, received: Received) -> bool:
    """Authorizes Alice only."""
    who = received.headers.get("authorization")
    answer = answers(200, {}) if who == ALICE else REFUSALS["401" if who is None else "403"]
    return answer(connection, received)


@pytest.fixture
def kfp() -> Iterator[ScriptedKfp]:
    """A KFP that authorizes Alice."""
    with ScriptedKfp() as server:
        for method in ("GET", "POST", "PATCH", "DELETE"):
            server.on(method, "", _by_caller)
        yield server


@pytest.fixture
def channel(kfp: ScriptedKfp) -> Iterator[grpc.Channel]:
    """A channel to the server, built as the process builds it."""
    settings = Settings.load(listen="127.0.0.1:0", kfp_url=kfp.url, kfp_credentials="forward")
    with _serving(settings) as made:
        yield made


class _serving:  # noqa: N801 - reads as a function
    """Runs the server for as long as the block lasts."""

    def __init__(self, settings: Settings) -> None:
        limits = UploadLimits()
        self._backend = connect_kfp(settings, limits.place)
        self._watches = WatchPoller(self._backend.runs)
        served = servicers(self._backend, self._watches, limits, "")
        self._server = AdapterServer(settings, served, lambda: True, self._watches.drain)

    def __enter__(self) -> grpc.Channel:
        self._server.start()
        self._channel = grpc.insecure_channel(self._server.address, (("grpc.use_local_subchannel_pool", 1),))
        return self._channel

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._server.stop()
        self._watches.close()
        self._backend.close()


def _call(channel: grpc.Channel, method: RpcMethod, *metadata: tuple[str, str]) -> object:
    if method.kind is CallKind.UPLOAD:
        return channel.stream_unary(method.path, request_serializer=bytes)(iter([b""]), timeout=30, metadata=metadata)
    if method.kind is CallKind.STREAM:
        return list(channel.unary_stream(method.path, request_serializer=bytes)(b"", timeout=30, metadata=metadata))
    return channel.unary_unary(method.path, request_serializer=bytes)(b"", timeout=30, metadata=metadata)


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", " "),),
        (("authorization", ALICE), ("authorization", BOB)),
        (("kubeflow-userid", "alice@example.org"),),
    ],
    ids=["none", "empty", "blank", "two", "a claim"],
)
def test_unauthenticated_callers(
    kfp: ScriptedKfp, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]
) -> None:
    """Every RPC without exactly one authorization is UNAUTHENTICATED, and KFP receives no request."""
    for method in METHODS.values():
        what = failure(lambda method=method: _call(channel, method, *metadata))  # type: ignore[misc]
        assert (what.code, what.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"), method.path
        assert "canary" not in what.message
    assert kfp.requests == []


def test_what_is_forwarded_to_kfp(kfp: ScriptedKfp, channel: grpc.Channel) -> None:
    """KFP receives the caller's authorization and nothing else that the caller sent, least of all a user's name."""
    stub = PipelineServiceStub(channel)
    metadata = (("authorization", ALICE), ("kubeflow-userid", "admin@example.org"), ("cookie", "authservice_session=1"))
    stub.List(pipeline_pb2.ListPipelinesRequest(), metadata=metadata)
    (request,) = kfp.requests
    assert request.headers["authorization"] == ALICE
    assert set(request.headers) == {"host", "accept", "accept-encoding", "x-request-id", "authorization"}


def test_each_caller_is_another(channel: grpc.Channel) -> None:
    """Concurrent callers on the same connections are each authorized or denied by their own credentials."""
    stub, found = PipelineServiceStub(channel), []

    def ask(who: str) -> None:
        for _ in range(20):
            try:
                stub.List(pipeline_pb2.ListPipelinesRequest(), metadata=(("authorization", who),), timeout=30)
                found.append((who, "OK"))
            except grpc.RpcError as error:
                found.append((who, reported(error).reason))

    threads = [threading.Thread(target=ask, args=(who,)) for who in (ALICE, BOB) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(found) == {(ALICE, "OK"), (BOB, "PERMISSION_DENIED")}
    assert len(found) == 160


@pytest.mark.slow
def test_a_watch_is_its_callers_alone(channel: grpc.Channel, kfp: ScriptedKfp) -> None:
    """Bob is denied the run that Alice watches, because KFP is called with his credentials; Alice's watch continues."""
    kfp.first("GET", r"/runs\?", _runs_of_alice)
    stub = RunServiceStub(channel)
    request = run_pb2.WatchRunsRequest(runs=run_pb2.RunIds(run_ids=["a-run"]))
    alice = stub.Watch(request, metadata=(("authorization", ALICE),), timeout=60)
    assert next(alice).changed.run.run_id == "a-run"
    what = failure(lambda: list(stub.Watch(request, metadata=(("authorization", BOB),), timeout=60)))
    assert (what.code, what.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    before = len(kfp.requests)
    eventually(lambda: any(one.headers.get("authorization") == ALICE for one in kfp.requests[before:]))
    assert alice.is_active()
    alice.cancel()


def _runs_of_alice(connection: Connection, received: Received) -> bool:
    if received.headers.get("authorization") != ALICE:
        return REFUSALS["403"](connection, received)
    return answers(200, {"runs": [{"run_id": "a-run", "state": "RUNNING", "display_name": "r"}], "total_size": 1})(
        connection, received
    )


def _get_as_alice(process: Process) -> object:
    request = pipeline_pb2.GetPipelineRequest(name="x")
    return process.stub.Get(request, metadata=(("authorization", ALICE),), timeout=30)


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("credentials", ["forward", "token-file"])
def test_no_secret_is_shown(tmp_path: Path, refusal: str, credentials: str) -> None:
    """The adapter's and its callers' tokens are in no error and no line of the log, however KFP rejects them."""
    token = tmp_path / "token"
    token.write_text("canary-of-the-adapter")
    with (
        ScriptedKfp() as kfp,
        closing(
            Process(
                kfp_url=kfp.url,
                kfp_credentials=credentials,
                log_level="debug",
                kfp_token_file=token if credentials == "token-file" else "",
            )
        ) as process,
    ):
        for method in ("GET", "POST"):
            kfp.on(method, "", REFUSALS[refusal])
        what = failure(lambda: _get_as_alice(process))
        token.write_text("canary with a mistake")
        failure(lambda: _get_as_alice(process))
        line = process.line("call")
        process._process.terminate()
        _, rest = process._process.communicate(timeout=60)
        asked = kfp.requests[-1].headers["authorization"]
    expected = {
        "forward": "PERMISSION_DENIED" if refusal == "403" else "UNAUTHENTICATED",
        "token-file": "KFP_REJECTED_CREDENTIALS",
    }
    assert what.reason == expected[credentials]
    assert asked == (ALICE if credentials == "forward" else "Bearer canary-of-the-adapter")
    assert "canary" not in f"{what} {line} {rest}"

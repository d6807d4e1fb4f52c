"""Runs of KFP 2.5 to 2.17 with ML Metadata: requests, results, and errors."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.certificates import CertificateAuthority
from tests.connecting import connect
from tests.mlmd import FakeStore, Recording, large_run
from tests.repository.conftest import call
from tests.scripted_kfp import answers

from kfadapter_grpc.contract.call import Authorization, Call
from kfadapter_grpc.contract.errors import KfpRejectedCredentialsError, PermissionDeniedError, UnsupportedByKfpError
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.runs import ReadLogsRequest, RunSource, RunSources, RunSourceState
from kfadapter_grpc.doctor.sources import outputs
from kfadapter_grpc.kfp.artifact_bytes import ArtifactBytes
from kfadapter_grpc.kfp.backend import KfpBackend
from kfadapter_grpc.kfp.credentials import ForwardedCredentials
from kfadapter_grpc.kfp.mlmd.store import MetadataStore, OutputsReader, StoreSettings
from kfadapter_grpc.kfp.transport import TransportSettings
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.spool import SpoolPlace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.runs_kfp import RunsKfp
    from tests.scripted_kfp import Connection, Received

    from kfadapter_grpc.contract.runs import Run

AVAILABLE = RunSource(RunSourceState.AVAILABLE)


@pytest.fixture
def nested() -> Recording:
    """The recording of a run with a nested pipeline."""
    return Recording("nested")


@pytest.fixture
def store(nested: Recording) -> Iterator[FakeStore]:
    """A store with one run."""
    store = FakeStore(nested)
    yield store
    store.stop()


def _add(kfp: RunsKfp, recording: Recording, manifest: str = "") -> str:
    """Stores a run that KFP returns as 2.17 does, which names nodes once there are any."""
    details = {} if manifest else {"run_details": {"task_details": [{"display_name": recording.name}]}}
    run_id = kfp.add(run_id=recording.run_id, state="SUCCEEDED", **details)
    runtime = {"workflow_manifest": manifest or recording.workflow().manifest()}
    kfp.manifests[run_id] = {"run": {"id": run_id}, "pipeline_runtime": runtime}
    return run_id


def _get(kfp: RunsKfp, recording: Recording, mlmd: StoreSettings | None, manifest: str = "") -> Run:
    run_id = _add(kfp, recording, manifest)
    with closing(connect(kfp.url, mlmd=mlmd)) as backend:
        return backend.runs.get(run_id, View.FULL, call())


def _outputs_source(run: Run) -> RunSource:
    assert run.sources is not None
    assert run.sources.outputs is not None
    return run.sources.outputs


def test_a_run(kfp: RunsKfp, store: FakeStore, nested: Recording) -> None:
    """A run is read with the inputs and outputs of its tasks, in four calls, without its pipeline."""
    run = _get(kfp, nested, StoreSettings(store.start()))
    outputs = {task.name: {one.name: one.value for one in task.outputs} for task in run.tasks}
    assert outputs == {"inner": {"piece": None, "squared": 9}, "square": {"Output": 9}, "piece": {"data": None}} | {
        "read": {"Output": 18}
    }
    assert _outputs_source(run) == AVAILABLE
    names = ["GetContextByTypeAndName", "GetExecutionsByContext", "GetEventsByExecutionIDs", "GetArtifactsByID"]
    assert store.calls == names


def test_the_store_is_read_beside_the_manifest(kfp: RunsKfp, store: FakeStore, nested: Recording) -> None:
    """The manifest is requested together with the run; the store after the run, together with the manifest."""
    shown, store_asked, manifest_asked = threading.Event(), threading.Event(), threading.Event()
    waited: list[bool] = []

    def begin(_name: str, _context: grpc.ServicerContext) -> None:
        waited.append(shown.is_set())
        store_asked.set()

    def run(connection: Connection, received: Received) -> bool:
        waited.append(manifest_asked.wait(5))
        shown.set()
        return kfp.serve(connection, received)

    def manifest(connection: Connection, received: Received) -> bool:
        manifest_asked.set()
        waited.append(store_asked.wait(5))
        return kfp.serve(connection, received)

    store.before = begin
    kfp.server.first("GET", "/apis/v1beta1/runs/", manifest).first("GET", "/apis/v2beta1/runs/", run)
    assert _outputs_source(_get(kfp, nested, StoreSettings(store.start()))) == AVAILABLE
    assert all(waited)
    assert len(store.calls) == 4


def test_a_store_that_fails_beside_the_manifest(kfp: RunsKfp, nested: Recording) -> None:
    """The rest of the run is returned, and the answer says what is wrong."""
    run = _get(kfp, nested, StoreSettings("metadata.invalid:8080"))
    assert _outputs_source(run).state is RunSourceState.UNREACHABLE
    assert [task.state.name for task in run.tasks] == ["SUCCEEDED"] * 4


def test_logs_that_only_the_store_knows(kfp: RunsKfp, tmp_path: Path) -> None:
    """A log that KFP does not have is read where the launcher stored it, per attempt; else the store is not called."""
    recording = Recording("retried")
    for one in recording.artifacts:
        file = tmp_path / str(one.id)
        file.write_text(f"로그 {one.id}", "utf-8")
        one.uri = file.as_uri()
    store, run_id = FakeStore(recording), _add(kfp, recording)
    settings, stored = StoreSettings(store.start()), ArtifactBytes(folder=tmp_path)
    backend = KfpBackend(TransportSettings(kfp.url), SpoolPlace(), artifact_bytes=stored, mlmd=settings)

    def read(task: str, attempt: int = 0) -> str:
        with backend.run_logs.read(ReadLogsRequest(run_id, task, attempt=attempt), call()) as pieces:
            return b"".join(piece for piece in pieces if isinstance(piece, bytes)).decode()

    with closing(backend):
        kfp.logs[recording.pod_names()[1]] = "served"
        assert (read("show"), store.calls) == ("served", [])
        kfp.logs.clear()
        assert read("show") == "로그 74"
        assert [read("flaky", attempt) for attempt in (0, 1, 2, 3)] == ["로그 72", "로그 70", "로그 71", "로그 72"]
        recording.artifacts[0].uri = recording.artifacts[1].uri  # as KFP before 2.16.1 stores them
        with pytest.raises(UnsupportedByKfpError):
            read("flaky", 1)
        asked = len(store.calls)
        kfp.server.first("GET", f"/apis/v2beta1/runs/{run_id}$", answers(403, {"code": 7, "message": "no"}))
        with pytest.raises(KfpRejectedCredentialsError):
            read("show")
        assert len(store.calls) == asked
    store.stop()


def test_without_a_store(kfp: RunsKfp, nested: Recording) -> None:
    """Without a store the rest of the run is returned, and the answer says which setting is needed."""
    run = _get(kfp, nested, None)
    source = _outputs_source(run)
    assert source.state is RunSourceState.NOT_CONFIGURED
    assert "set mlmd_address" in source.message
    assert [task.state.name for task in run.tasks] == ["SUCCEEDED"] * 4
    assert not run.metrics


def test_old_servers_have_types_by_id(kfp: RunsKfp, store: FakeStore, nested: Recording) -> None:
    """Servers 1.0 and 1.5 name types by ids, which differ from store to store; they are requested once."""
    store.old = True
    address = store.start()
    run = _get(kfp, nested, StoreSettings(address))
    piece = next(task for task in run.tasks if task.name == "piece")
    assert [one.type for output in piece.outputs for one in output.artifacts] == ["system.Dataset"]
    assert store.calls.count("GetArtifactTypes") == 1


def test_unknown_run(kfp: RunsKfp, store: FakeStore, nested: Recording) -> None:
    """A run that has no records yet has no outputs; this is not an error."""
    store.recordings.clear()
    run = _get(kfp, nested, StoreSettings(store.start()))
    assert (_outputs_source(run), [task.outputs for task in run.tasks]) == (AVAILABLE, [()] * 4)


def test_letter_case_counts(kfp: RunsKfp, store: FakeStore, nested: Recording) -> None:
    """MySQL finds another run whose id differs in letter case only; it is not returned."""
    nested.run_id = nested.run_id.upper()
    run = _get(kfp, nested, StoreSettings(store.start()))
    assert [task.outputs for task in run.tasks] == [()] * 4


def test_another_namespace(kfp: RunsKfp, store: FakeStore, nested: Recording) -> None:
    """The store of another KFP returns nothing for a run that happens to have the same id."""
    nested.context.custom_properties["namespace"].string_value = "team-b"
    run = _get(kfp, nested, StoreSettings(store.start()))
    source = _outputs_source(run)
    assert source.state is RunSourceState.UNREACHABLE
    assert "another namespace" in source.message
    assert "team-b" not in source.message
    assert [task.outputs for task in run.tasks] == [()] * 4


@pytest.mark.parametrize(("count", "most"), [(300, 12), (602, 22)])
def test_large_runs(count: int, most: int, store: FakeStore, nested: Recording) -> None:
    """A large run is returned completely, in pages of 100 executions and with few calls."""
    large = large_run(299 if count == 300 else 300, in_loop=count > 300)
    store.recordings.append(large)
    nested.context.id = 2
    with closing(MetadataStore(StoreSettings(store.start()))) as reading:
        found = reading.run(large.run_id, call())
    assert found is not None
    assert (len(found.executions), len(found.events), len(found.artifacts)) == (count, *[len(large.artifacts)] * 2)
    assert len(store.calls) <= most


def _unreachable(address: str, words: str, *, tls: bool = False, ca: Path | None = None) -> None:
    recording = Recording("nested")
    reader = OutputsReader(StoreSettings(address, tls, ca))
    with closing(reader):
        nodes = reader.complete(recording.run_id, recording.nodes(), call())
    assert nodes.sources is not None
    assert nodes.sources.outputs is not None
    assert nodes.sources.outputs.state is RunSourceState.UNREACHABLE
    assert words in nodes.sources.outputs.message
    assert nodes.tasks == recording.nodes().tasks


def test_nothing_listens() -> None:
    """If nothing listens, or the name is unknown, this is reported at once."""
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    begun = time.monotonic()
    _unreachable(address, f"ML Metadata at {address} is unreachable")
    _unreachable("metadata.invalid:8080", "cannot be resolved")
    assert time.monotonic() - begun < 1.5


def test_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and never answers costs one timeout; for a while it is not called again."""
    monkeypatch.setattr("kfadapter_grpc.kfp.mlmd.store.READ_SECONDS", 0.3)
    recording = Recording("nested")
    with closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        reader = OutputsReader(StoreSettings(f"127.0.0.1:{deaf.getsockname()[1]}"))
        with closing(reader):
            begun = time.monotonic()
            for _ in range(5):
                nodes = reader.complete(recording.run_id, recording.nodes(), call())
                assert nodes.sources is not None
                assert nodes.sources.outputs is not None
                assert "did not respond in time" in nodes.sources.outputs.message
            assert 0.25 < time.monotonic() - begun < 1


def test_slow_in_all(monkeypatch: pytest.MonkeyPatch, store: FakeStore, nested: Recording) -> None:
    """The timeout is for all calls together, not for each."""
    monkeypatch.setattr("kfadapter_grpc.kfp.mlmd.store.READ_SECONDS", 0.5)
    store.before = lambda _name, _context: time.sleep(0.2)
    reader = OutputsReader(StoreSettings(store.start()))
    with closing(reader):
        begun = time.monotonic()
        nodes = reader.complete(nested.run_id, nested.nodes(), call())
        assert time.monotonic() - begun < 0.75
    assert nodes.sources is not None
    assert nodes.sources.outputs is not None
    assert nodes.sources.outputs.state is RunSourceState.UNREACHABLE


def test_a_cancelled_call_waits_for_nothing(store: FakeStore, nested: Recording) -> None:
    """When the client cancels the call, the request is cancelled, and the store is not regarded as failing."""
    hangs, cancelled = threading.Event(), threading.Event()

    def hang(_name: str, _context: grpc.ServicerContext) -> None:
        hangs.set()
        cancelled.wait(20)

    def cancel() -> None:
        hangs.wait(20)
        one.cancel()

    store.before = hang
    reader, one = OutputsReader(StoreSettings(store.start())), call()
    with closing(reader):
        thread = threading.Thread(target=cancel)
        thread.start()
        begun = time.monotonic()
        reader.complete(nested.run_id, nested.nodes(), one)
        assert time.monotonic() - begun < 1.5
        cancelled.set()
        thread.join()
        store.before = lambda _name, _context: None
        nodes = reader.complete(nested.run_id, nested.nodes(), call())
    assert nodes.sources is not None
    assert nodes.sources.outputs == AVAILABLE


def test_a_server_of_http() -> None:
    """The port of a REST API or of envoy is distinguished from a server that is down."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        _unreachable(f"127.0.0.1:{server.getsockname()[1]}", "is a server of HTTP/1, not of gRPC")
        thread.join(5)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, "is not ML Metadata; mlmd_address must be"),
        (grpc.StatusCode.PERMISSION_DENIED, "refuses the adapter (PERMISSION_DENIED)"),
        (grpc.StatusCode.INTERNAL, "failed (INTERNAL)"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "failed (RESOURCE_EXHAUSTED)"),
    ],
)
def test_other_failures(code: grpc.StatusCode, words: str, store: FakeStore) -> None:
    """A server's error is reported in our words; its own text, which may disclose too much, is not passed on."""
    store.before = lambda _name, context: context.abort(code, "10.0.0.7: secret")
    address = store.start()
    _unreachable(address, words)


def test_too_large(monkeypatch: pytest.MonkeyPatch, store: FakeStore) -> None:
    """An answer above the limit is rejected."""
    monkeypatch.setattr("kfadapter_grpc.kfp.mlmd.store.MAX_MESSAGE_BYTES", 2**10)
    store.recordings[0].context.custom_properties["filler"].string_value = "x" * 2**11
    _unreachable(store.start(), "returns more than")


def test_tls(store: FakeStore, nested: Recording, tmp_path: Path, kfp: RunsKfp) -> None:
    """TLS works with the store's CA, whose file is reloaded without a restart; other TLS errors are explained."""
    authority = CertificateAuthority()
    pair = authority.issue("localhost")
    address = store.start(grpc.ssl_server_credentials([(pair.key, pair.certificate)]))
    ca = CertificateAuthority().write(tmp_path)
    _unreachable(address, "has a certificate that mlmd_ca does not vouch for", tls=True, ca=ca)
    _unreachable(address, "if it expects TLS, set mlmd_tls")
    with closing(MetadataStore(StoreSettings(address, tls=True, ca=ca))) as reading:
        ca.write_bytes(authority.certificate)
        assert reading.run(nested.run_id, call()) is not None
    run = _get(kfp, nested, StoreSettings(address, tls=True, ca=ca))
    assert _outputs_source(run) == AVAILABLE
    plain = FakeStore(nested)
    _unreachable(plain.start(), "does not speak TLS; switch mlmd_tls off", tls=True, ca=ca)
    plain.stop()


def test_who_has_no_right_to_a_run_gets_nothing(kfp: RunsKfp, store: FakeStore, nested: Recording) -> None:
    """The store gives everyone access to everything, so it is not called where KFP denies access to the run."""
    kfp.server.first("GET", "^/", answers(403, {"code": 7, "message": "no"}))
    backend = connect(kfp.url, credentials=ForwardedCredentials(), mlmd=StoreSettings(store.start()))
    caller = Call("request", 20, Authorization("Bearer of somebody else"))
    with closing(backend), pytest.raises(PermissionDeniedError):
        backend.runs.get(nested.run_id, View.FULL, caller)
    assert store.calls == []


@pytest.mark.parametrize("state", [RunSourceState.AVAILABLE, RunSourceState.NOT_SERVED])
def test_after_an_upgrade_of_kfp(state: RunSourceState, nested: Recording) -> None:
    """A KFP that serves outputs itself needs no store; for an earlier run the store is called, and may be missing."""
    source = RunSource(state, "said before")
    nodes = replace(nested.nodes(), sources=RunSources(outputs=source))
    with closing(OutputsReader(StoreSettings("metadata.invalid:8080"))) as reader:
        done = reader.complete(nested.run_id, nodes, call())
    assert done.sources is not None
    assert done.sources.outputs == source


def test_no_run_no_outputs(kfp: RunsKfp, store: FakeStore, nested: Recording) -> None:
    """The store is called only for runs that KFP returned to the caller, and only if they have tasks."""
    manifest = json.dumps({"metadata": {"name": "wf"}, "status": {"nodes": {}}})
    run = _get(kfp, nested, StoreSettings(store.start()), manifest)
    assert (_outputs_source(run), store.calls) == (AVAILABLE, [])


def test_doctor(store: FakeStore) -> None:
    """`doctor --server` has a row for ML Metadata: unset, responding, or what is wrong with it."""
    address = store.start()
    assert "mlmd_address is unset" in outputs(Settings.load()).what
    assert outputs(Settings.load(mlmd_address=address)).what == f"ML Metadata at {address} responds"
    store.before = lambda _name, context: context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown service")
    verdict = outputs(Settings.load(mlmd_address=address))
    assert "is not ML Metadata" in verdict.what
    assert "are not shown" in verdict.why

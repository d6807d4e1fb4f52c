"""What callers with roles in some namespaces get where a request names several things, or none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from tests.access.requests import CASES
from tests.access.team_kfp import ABSENT, ARTIFACT, NAMESPACES, ORPHAN, OTHER, OWN, SHARED, key, name

from kfadapter.v1 import artifact_pb2, experiment_pb2, pipeline_pb2, recurring_run_pb2, run_pb2
from kfadapter_grpc.contract.listing import Page
from kfadapter_grpc.services.responses import page

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message
    from tests.access.ways import Adapter, Outcome

PIPELINES = "/kfadapter.v1.PipelineService/"
RUNS = "/kfadapter.v1.RunService/"
ARTIFACTS = "/kfadapter.v1.ArtifactService/"
LISTS: dict[str, Message] = {
    PIPELINES + "List": pipeline_pb2.ListPipelinesRequest(),
    RUNS + "List": run_pb2.ListRunsRequest(),
    "/kfadapter.v1.ExperimentService/List": experiment_pb2.ListExperimentsRequest(),
    "/kfadapter.v1.RecurringRunService/List": recurring_run_pb2.ListRecurringRunsRequest(),
    ARTIFACTS + "ListMetrics": artifact_pb2.ListMetricsRequest(),
}


def reason(found: Outcome) -> str:
    """The reason of a failure."""
    return str(info(found).reason)


def info(found: Outcome) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a failure."""
    details = error_details_pb2.ErrorInfo()
    status = status_pb2.Status.FromString(found.status)
    assert any(one.Unpack(details) for one in status.details)
    return details


def names(found: Outcome) -> list[str]:
    """The names of the namespaces whose resources are in a list."""
    text = b"".join(one.SerializeToString() for one in found.responses)
    return [one for one in NAMESPACES if name(one).encode() in text]


def total(found: Outcome) -> int | None:
    """The total of a list."""
    (answer,) = cast("Iterable[pipeline_pb2.ListPipelinesResponse]", found.responses)
    return answer.total_size if answer.HasField("total_size") else None


def test_a_reader_error_names_the_namespace(adapter: Adapter) -> None:
    """Who may change something elsewhere, but only read it here, learns role and namespace; nothing is sent to KFP."""
    before = len(adapter.kfp.server.paths("POST"))
    found = adapter.about(RUNS + "Terminate", "mixed", OWN)
    assert (found.code, reason(found)) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert dict(info(found).metadata) == {"caller": "mixed", "role": "reader", "needed": "writer", "namespace": OWN}
    assert found.message.startswith("'mixed' is a reader in namespace 'team-a', and this call needs a writer there")
    assert len(adapter.kfp.server.paths("POST")) == before
    assert adapter.about(RUNS + "Terminate", "mixed", OTHER).code is grpc.StatusCode.OK


@pytest.mark.parametrize("path", LISTS)
def test_lists_without_a_namespace(adapter: Adapter, path: str) -> None:
    """They hold what is in the caller's namespaces; the total counts only what is shown, or is not set."""
    found = adapter.call(path, "mixed", [LISTS[path]])
    assert (names(found), total(found)) == ([OWN, OTHER], None)
    found = adapter.call(path, "reader-in-shared", [LISTS[path]])
    assert (names(found), total(found)) == ([SHARED], None)
    found = adapter.call(path, "reader-everywhere", [LISTS[path]])
    assert (names(found), total(found)) == (list(NAMESPACES), 3)


def test_pages_of_a_filtered_list(adapter: Adapter) -> None:
    """Page by page a caller gets what is visible, each once, and never more than requested."""
    request, got = pipeline_pb2.ListPipelinesRequest(page_size=1), []
    while True:
        (answer,) = adapter.call(PIPELINES + "List", "reader-in-shared", [request]).responses
        assert isinstance(answer, pipeline_pb2.ListPipelinesResponse)
        assert len(answer.pipelines) <= 1
        got += [one.name for one in answer.pipelines]
        request.page_token = answer.next_page_token
        if not answer.next_page_token:
            break
    assert got == [name(SHARED)]


def test_lists_of_an_experiment(adapter: Adapter) -> None:
    """A foreign experiment is as unknown as one that does not exist; the own one has its total."""
    for caller, namespace, expected in (
        ("reader-in-own", OWN, grpc.StatusCode.OK),
        ("reader-in-own", OTHER, grpc.StatusCode.NOT_FOUND),
        ("reader-in-own", ABSENT, grpc.StatusCode.NOT_FOUND),
    ):
        where = run_pb2.RunFilter(experiment_id=key("experiments", namespace))
        found = adapter.call(RUNS + "List", caller, [run_pb2.ListRunsRequest(filter=where)])
        assert found.code is expected
        assert found.code is not grpc.StatusCode.OK or total(found) == 1


def test_a_watch_of_a_filter(adapter: Adapter) -> None:
    """A watch shows own runs only; what it claims to know of foreign ones the events report as missing."""
    known = {key("runs", OTHER): "etag", key("runs", ABSENT): "etag"}
    request = run_pb2.WatchRunsRequest(filter=run_pb2.RunFilter(), known_etags=known)
    channel, token = adapter.shown["reader-in-own"]
    stub = channel.unary_stream(
        RUNS + "Watch",
        request_serializer=run_pb2.WatchRunsRequest.SerializeToString,
        response_deserializer=run_pb2.RunEvent.FromString,
    )
    stream = stub(request, metadata=(("authorization", f"Bearer {token}"),), timeout=60)
    events = [next(stream) for _ in range(3)]
    stream.cancel()
    assert {one.gone.run_id or one.changed.run.run_id for one in events} == {*known, key("runs", OWN)}
    assert sum(one.HasField("gone") for one in events) == 2


def test_ids_in_a_page_token(adapter: Adapter) -> None:
    """A page token is not signed: the runs that it names are checked like those of a request."""
    request = artifact_pb2.ListArtifactsRequest(filter=run_pb2.RunFilter(namespace=OWN))
    token = json.dumps(["", [key("runs", OTHER), key("runs", OWN)], 0])
    made = page(Page((), token), artifact_pb2.ListArtifactsResponse, request)
    request.page_token = made.next_page_token
    found = adapter.call(ARTIFACTS + "List", "reader-in-own", [request])
    (answer,) = found.responses
    assert isinstance(answer, artifact_pb2.ListArtifactsResponse)
    assert [(one.run_id, one.artifact_id) for one in answer.artifacts] == [(key("runs", OWN), ARTIFACT)]
    assert key("runs", OTHER) not in str(answer)


def test_versions_of_other_pipelines(adapter: Adapter) -> None:
    """KFP finds a version by its id alone; the adapter does not show a foreign one as one of an own pipeline."""
    ids: dict[str, Any] = {"pipeline_id": key("pipelines", OWN), "pipeline_version_id": key("versions", OTHER)}
    for path, request in (
        ("GetVersion", pipeline_pb2.GetPipelineVersionRequest(**ids)),
        ("Download", pipeline_pb2.DownloadPipelineRequest(**ids)),
        ("DeleteVersion", pipeline_pb2.DeletePipelineVersionRequest(**ids)),
    ):
        assert reason(adapter.call(PIPELINES + path, "admin-in-own", [request])) == "VERSION_NOT_FOUND"


@pytest.mark.parametrize(
    ("pipeline", "experiment", "expected"),
    [
        (OWN, OWN, "OK"),
        (SHARED, OWN, "OK"),
        (OTHER, OWN, "PIPELINE_NOT_FOUND"),
        (OWN, OTHER, "EXPERIMENT_NOT_FOUND"),
        (OWN, ABSENT, "EXPERIMENT_NOT_FOUND"),
        (OWN, SHARED, "PERMISSION_DENIED"),
    ],
)
def test_a_run_of_a_pipeline_elsewhere(adapter: Adapter, pipeline: str, experiment: str, expected: str) -> None:
    """A run needs a pipeline that the caller may read, and an experiment in which it may write."""
    ids: dict[str, Any] = {"pipeline_id": key("pipelines", pipeline), "experiment_id": key("experiments", experiment)}
    found = adapter.call(RUNS + "Create", "typical", [run_pb2.CreateRunRequest(**ids)])
    assert expected == ("OK" if found.code is grpc.StatusCode.OK else reason(found))
    schedule = recurring_run_pb2.CronSchedule(cron="0 0 4 * * *")
    made = recurring_run_pb2.CreateRecurringRunRequest(**ids, cron=schedule)
    found = adapter.call("/kfadapter.v1.RecurringRunService/Create", "typical", [made])
    assert expected == ("OK" if found.code is grpc.StatusCode.OK else reason(found))


@pytest.mark.parametrize(("namespace", "code"), [(OWN, "OK"), (OTHER, "PERMISSION_DENIED"), ("", "PERMISSION_DENIED")])
def test_request_ids_of_a_namespace(adapter: Adapter, namespace: str, code: str) -> None:
    """A run's id is derived from namespace and request id: a caller cannot take, or try, those of another namespace."""
    ids: dict[str, Any] = {"pipeline_id": key("pipelines", OWN), "experiment_id": key("experiments", OWN)}
    request = run_pb2.CreateRunRequest(**ids, request_id="nightly", namespace=namespace)
    assert adapter.call(RUNS + "Create", "writer-in-own", [request]).code.name == code


def test_patterns_beside_a_role_everywhere(adapter: Adapter) -> None:
    """The highest role counts; an unknown id stays unknown to a caller that sees everything."""
    path = PIPELINES + "Delete"
    codes = [adapter.about(path, "admin-of-teams", namespace).code.name for namespace in (*NAMESPACES, ABSENT)]
    assert codes == ["OK", "OK", "PERMISSION_DENIED", "NOT_FOUND"]


def test_missing_may_be_deleted(adapter: Adapter) -> None:
    """With `allow_missing`, a foreign resource is as missing as any."""
    for namespace in (OTHER, ABSENT):
        request = run_pb2.DeleteRunRequest(run_id=key("runs", namespace), allow_missing=True)
        found = adapter.call(RUNS + "Delete", "admin-in-own", [request])
        assert found.responses == (run_pb2.DeleteRunResponse(),)


def test_a_run_without_an_experiment(adapter: Adapter) -> None:
    """A run whose experiment was deleted is in no known namespace: only a rule for all shows it."""
    path = RUNS + "Get"
    codes = [
        adapter.call(path, caller, CASES[path].messages(ORPHAN)).code.name
        for caller in ("reader-in-own", "reader-in-shared", "reader-everywhere", "admin-of-teams")
    ]
    assert codes == ["NOT_FOUND", "NOT_FOUND", "OK", "OK"]


def test_requests_to_kfp(adapter: Adapter) -> None:
    """A role that is the same everywhere costs no request; other ones a lookup, once."""
    path, request = RUNS + "Get", [run_pb2.GetRunRequest(run_id=key("runs", OWN))]
    sent = []
    adapter.call(path, "reader-in-own", request)
    for caller in ("reader-in-own", "admin-everywhere"):
        before = len(adapter.kfp.server.requests)
        assert adapter.call(path, caller, request).code is grpc.StatusCode.OK
        sent.append(len([one for one in adapter.kfp.server.requests[before:] if "healthz" not in one.path]))
    assert sent == [1, 1]

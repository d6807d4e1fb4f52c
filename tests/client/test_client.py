from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

import kfadapter_grpc.client
from kfadapter.v1 import common_pb2
from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.client import Client, InvalidFieldError, VersionNotFoundError, View
from kfadapter_grpc.contract.errors import PipelineNotFoundError, all_error_classes
from kfadapter_grpc.contract.pipelines import DeleteResult, DeleteVersionResult
from kfadapter_grpc.methods import READ_SECONDS, WRITE_SECONDS

if TYPE_CHECKING:
    from tests.client.fake_adapter import FakeAdapter


def test_list_walks_all_pages(client: Client, fake: FakeAdapter) -> None:
    """The iterator requests page after page, with the same filter each time."""
    for number in range(5):
        fake.add(f"train-{number}")
    fake.add("other")
    after = datetime(2026, 1, 1, tzinfo=timezone.utc)
    found = [
        p.name
        for p in client.pipelines.list(name_contains="train", created_after=after, tags={"a": "b"}, order_by="name")
    ]
    assert found == [f"train-{number}" for number in range(5)]
    sent = [request for request in fake.requests if isinstance(request, pb.ListPipelinesRequest)]
    assert [request.page_token for request in sent] == ["", "2", "4"]
    assert {(r.name_contains, r.order_by, r.tags["a"], r.created_after.seconds) for r in sent} == {
        ("train", "name", "b", int(after.timestamp()))
    }


def test_list_is_lazy(client: Client, fake: FakeAdapter) -> None:
    """Reading one item requests one page only."""
    for number in range(5):
        fake.add(f"train-{number}")
    assert next(client.pipelines.list()).name == "train-0"
    assert fake.calls == ["List"]


def test_list_page_has_token_and_total(client: Client, fake: FakeAdapter) -> None:
    """A page has the token of the next one and the total."""
    for number in range(3):
        fake.add(f"train-{number}")
    page = client.pipelines.list(page_size=2).page()
    assert ([p.name for p in page.items], page.next_token, page.total_size) == (["train-0", "train-1"], "2", 3)
    assert client.pipelines.list().page(page.next_token).next_token == ""


def test_list_versions_walks_all_pages(client: Client, fake: FakeAdapter) -> None:
    """The versions of all pages are returned one after the other, BASIC unless more is requested."""
    pipeline = fake.add("train")
    for number in range(2, 6):
        fake.add_version("train", str(number))
    names = [v.name for v in client.pipelines.list_versions(pipeline_id=pipeline.pipeline_id, order_by="name")]
    assert names == ["train", "2", "3", "4", "5"]
    first = fake.requests[0]
    assert isinstance(first, pb.ListPipelineVersionsRequest)
    assert (first.view, first.order_by) == (common_pb2.VIEW_BASIC, "name")
    page = client.pipelines.list_versions("train", page_size=3, view=View.FULL).page()
    assert (len(page.items), page.next_token, page.total_size) == (3, "3", None)


def test_delete_reports_what_went(client: Client, fake: FakeAdapter) -> None:
    """A deletion returns id, name and number of versions; with allow_missing a missing pipeline is an empty result."""
    pipeline = fake.add("train")
    fake.add_version("train", "2")
    assert client.pipelines.delete("train", force=True) == DeleteResult(pipeline.pipeline_id, "train", 2)
    assert client.pipelines.delete("train", allow_missing=True) == DeleteResult()


def test_get_version_finds_by_name_by_id_or_takes_the_latest(client: Client, fake: FakeAdapter) -> None:
    """A version is found by its name or its id; if neither is set, the latest one is returned."""
    pipeline = fake.add("train")
    second = fake.add_version("train", "2")
    assert client.pipelines.get_version("train").name == "2"
    assert client.pipelines.get_version("train", version_name="train").name == "train"
    by_id = client.pipelines.get_version(
        pipeline_id=pipeline.pipeline_id, pipeline_version_id=second.pipeline_version_id
    )
    assert by_id.pipeline_version_id == second.pipeline_version_id
    with pytest.raises(VersionNotFoundError, match="named 'x'"):
        client.pipelines.get_version("train", version_name="x")


def test_updates_change_only_the_set_fields(client: Client, fake: FakeAdapter) -> None:
    """None leaves a field as it is; an empty display name and no tags clear them."""
    fake.add("train").tags["a"] = "b"
    assert client.pipelines.update("train", display_name="학습").tags == {"a": "b"}
    assert client.pipelines.update("train", tags={}, display_name="").display_name == "train"
    made = client.pipelines.update_version("train", version_name="train", tags={"c": "d"})
    assert (made.name, made.tags, made.display_name) == ("train", {"c": "d"}, "")
    masks = [list(one.update_mask.paths) for one in fake.requests]  # type: ignore[attr-defined]
    assert masks == [["display_name"], ["display_name", "tags"], ["tags"]]
    with pytest.raises(PipelineNotFoundError):
        client.pipelines.update("none", display_name="x")


def test_delete_version_reports_what_went(client: Client, fake: FakeAdapter) -> None:
    """A deletion returns id and name of the version; with allow_missing a missing version is an empty result."""
    fake.add("train")
    second = fake.add_version("train", "2")
    assert client.pipelines.delete_version("train", version_name="2") == DeleteVersionResult(
        second.pipeline_version_id, "2"
    )
    assert [version.name for version in fake.versions["train"]] == ["train"]
    assert client.pipelines.delete_version("train", version_name="2", allow_missing=True) == DeleteVersionResult()
    assert client.pipelines.delete_version("none", version_name="2", allow_missing=True) == DeleteVersionResult()
    with pytest.raises(VersionNotFoundError):
        client.pipelines.delete_version("train", version_name="2")


def test_a_version_is_named_in_one_way(client: Client, fake: FakeAdapter) -> None:
    """A name and an id at once, of which the wire can hold only one, are rejected before anything is sent."""
    with pytest.raises(InvalidFieldError, match="only one of"):
        client.pipelines.delete_version(
            "train", version_name="2", pipeline_version_id="11111111-0000-4000-8000-000000000001"
        )
    assert fake.calls == []


def test_every_call_has_the_deadline_of_the_contract(client: Client, fake: FakeAdapter) -> None:
    """If no timeout is set, reads and writes get their default deadline, plus a margin for the response to arrive."""
    fake.add("train")
    client.pipelines.get("train")
    assert fake.time_remaining is not None
    assert READ_SECONDS - 1 < fake.time_remaining <= READ_SECONDS + 3
    client.pipelines.delete("train")
    assert WRITE_SECONDS - 1 < fake.time_remaining <= WRITE_SECONDS + 3


def test_the_timeout_is_the_deadline(target: str, fake: FakeAdapter) -> None:
    """A timeout set on the client is the deadline of every call."""
    fake.add("train")
    with Client(target, timeout=77) as client:
        client.pipelines.get("train")
    assert fake.time_remaining is not None
    assert 70 < fake.time_remaining < 78  # on the wire a timeout is rounded up, to three digits


def test_the_namespace_is_sent_with_every_call(target: str, fake: FakeAdapter) -> None:
    """The client's namespace is sent with every request."""
    fake.add("train")
    with Client(target, namespace="team-a") as client:
        client.pipelines.get("train")
        list(client.pipelines.list())
        list(client.pipelines.list_versions("train"))
        client.pipelines.get_version("train")
        client.pipelines.delete_version("train", version_name="x", allow_missing=True)
        client.pipelines.delete("train")
    assert {getattr(request, "namespace", None) for request in fake.requests} == {"team-a"}


def test_the_target_comes_from_the_environment(target: str, fake: FakeAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """KFADAPTER_TARGET sets the address if the program does not; if it is unset, the default port is used."""
    fake.add("train")
    monkeypatch.setenv("KFADAPTER_TARGET", target)
    with Client() as client:
        assert client.pipelines.get("train").name == "train"
    monkeypatch.delenv("KFADAPTER_TARGET")
    assert Client().target == "127.0.0.1:50051"


def test_a_closed_client_reports_it(client: Client) -> None:
    """A call after close is an error, not a hang or a new connection."""
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.pipelines.get("x")


def test_the_public_names() -> None:
    """The package exports exactly what is documented."""
    models = {
        "DeleteResult",
        "DeleteVersionResult",
        "IfExists",
        "Page",
        "Parameter",
        "ParameterType",
        "Pipeline",
        "PipelineFormat",
    }
    own = {
        "Client",
        "DownloadReceipt",
        "UploadReceipt",
        "DEFAULT_TARGET",
        "TARGET_VARIABLE",
        "CallFailedError",
        "CannotConnectError",
        "CredentialsError",
        "Tls",
    }
    identity = {"Grant", "Role", "Way", "WhoAmI"}
    shared = {
        "PipelineVersion",
        "SpecSummary",
        "View",
        "AdapterError",
        "FieldViolation",
        "DeadlineError",
        "HealthStatus",
    }
    faults = {cls.__name__ for cls in all_error_classes()}
    graph = {"Artifact", "KubernetesExtra", "Task", "TaskKind", "TaskResources"}
    runs = {"CronSchedule", "Experiment", "IntervalSchedule", "RecurringRun", "StorageState"}
    runs |= {"Run", "RunArtifact", "RunOutput", "RunState", "RunStateChange", "RunTask"}
    runs |= {"ExperimentRef", "Heartbeat", "RunChanged", "RunEvent", "RunFilter", "RunGone"}
    runs |= {"ConfusionMatrix", "ConfusionRow", "MetricsSlice", "RocPoint", "RunInput", "RunMetric"}
    runs |= {"ArtifactContent", "ArtifactEntry", "ArtifactReceipt", "MetricsOfRun"}
    runs |= {"RunSource", "RunSources", "RunSourceState"}
    assert set(kfadapter_grpc.client.__all__) == models | graph | runs | own | shared | faults | identity
    assert all(hasattr(kfadapter_grpc.client, name) for name in kfadapter_grpc.client.__all__)


def test_the_client_imports_base_dependencies_only() -> None:
    """The client can be imported without any of the server's extras."""
    extras = "structlog msgspec grpc_reflection httptools kfp_server_api urllib3 kfp starlette"
    program = f"import sys\nsys.modules.update(dict.fromkeys({extras.split()!r}))\nimport kfadapter_grpc.client"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


FLAT = """
    get list list_page list_versions list_versions_page get_version delete_version delete upload download
    create_run run_id_for get_run list_runs list_runs_page terminate_run retry_run archive_run unarchive_run delete_run
    watch_runs wait_run read_logs
    create_experiment get_experiment list_experiments list_experiments_page archive_experiment unarchive_experiment
    delete_experiment
    create_recurring_run get_recurring_run list_recurring_runs list_recurring_runs_page enable_recurring_run
    disable_recurring_run delete_recurring_run
"""


@pytest.mark.parametrize("connect", [Client], indirect=True)
def test_calls_by_their_names_of_before(client: Client, fake: FakeAdapter) -> None:
    """The earlier names of all calls still work; other names are unknown."""
    assert all(callable(getattr(client, name)) for name in FLAT.split())
    for number in range(3):
        fake.add(f"train-{number}")
    page = getattr(client, "list_page")(page_size=2)  # noqa: B009 - type checkers do not know it
    assert len(page.items) == 2
    assert getattr(client, "list_page")(page_token=page.next_token).next_token == ""  # noqa: B009
    for name in ("list_artifacts", "create", "_ask", "run"):
        with pytest.raises(AttributeError, match=name):
            getattr(client, name)

"""Faults of the Flask adapter that are fixed here; each test describes its fault."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.legacy_http.calling import FORM, WAIT_SECONDS, Caller, adapter, form
from tests.legacy_http.conftest import PIPELINES
from tests.legacy_http.test_routes import NOBODY
from tests.scripted_kfp import Connection, Received, ScriptedKfp, answers
from tests.training_jobs import details

from kfadapter_grpc.client import Client
from kfadapter_grpc.contract.runs import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY_VERSIONS = 201


class Waiting:
    """Holds the response for a run until the test releases it."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, connection: Connection, received: Received) -> bool:
        """Answers when released."""
        self.entered.set()
        assert self.opened.wait(WAIT_SECONDS)
        return answers(200, {"run_id": NOBODY, "display_name": "x", "state": "RUNNING"})(connection, received)


@pytest.fixture
def unique() -> str:
    """Returns a unique name."""
    return f"fault-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def filled(caller: Caller, client: Client, unique: str, file: bytes) -> Iterator[str]:
    """The common prefix of the names of 21 pipelines, 21 runs and 11 experiments."""
    for number in range(21):
        assert caller.upload(f"{unique}-{number}", file).status == 200
        client.runs.create(f"{unique}-0", display_name=f"{unique}-{number}", parameters={"s": ""})
    for number in range(11):
        client.experiments.create(f"{unique}-{number}")
    yield unique
    for number in range(21):
        client.pipelines.delete(f"{unique}-{number}", force=True)


def test_fault_1_pipelines_are_reported_and_deleted_by_id(caller: Caller, name: str) -> None:
    """Getting and deleting a pipeline by its id always failed; now both work."""
    pipeline_id = caller.get(f"/pipelineIds/{name}").json()["id"]
    assert caller.get(f"/pipelines/{pipeline_id}").json()["name"] == name
    assert caller.delete(f"/pipelines/{pipeline_id}").status == 200
    caller.get(f"/pipelines/{pipeline_id}").refusal(404, "PIPELINE_NOT_FOUND")


def test_fault_3_a_run_is_known_by_its_label_after_a_restart(embedded_url: str, caller: Caller, name: str) -> None:
    """The run of a job was forgotten when the process ended; now any adapter finds it in KFP by its label."""
    job = f"job-{uuid.uuid4().hex[:8]}"
    run_id = caller.execute(job, details(name)).json()["run_id"]
    with adapter(embedded_url) as restarted, Client(restarted.adapter.address) as client:
        assert [run.run_id for run in client.runs.list(labels={"trainingjob_id": job})] == [run_id]


def test_fault_4_nothing_waits_for_a_slow_kfp() -> None:
    """All requests waited behind one lock; now a request that waits for KFP blocks no other."""
    with ScriptedKfp() as kfp, adapter(kfp.url) as server, ThreadPoolExecutor() as threads:
        caller = server.caller
        kfp_that_waits = Waiting()
        kfp.on("GET", "/runs/", kfp_that_waits)
        slow = threads.submit(caller.get, f"/runs/{NOBODY}")
        assert kfp_that_waits.entered.wait(WAIT_SECONDS)
        assert caller.get("/liveness").status == 200
        caller.get("/pipelineIds/x")
        assert not slow.done()
        kfp_that_waits.opened.set()
        assert slow.result(WAIT_SECONDS).json()["run_status"] == "RUNNING"


@pytest.mark.slow
def test_fault_6_any_run_is_terminated(caller: Caller, client: Client, unique: str) -> None:
    """A run unknown to the process was terminated, and then returned an error; now the response is a success."""
    client.pipelines.upload(PIPELINES / "sleeps.yaml", name=unique)
    run = client.runs.create(unique)
    reply = caller.delete(f"/runs/{run.run_id}")
    assert (reply.status, reply.json()["run_id"]) == (200, run.run_id)
    ended = client.runs.wait(run.run_id, timeout=WAIT_SECONDS).state
    assert ended in {RunState.FAILED, RunState.CANCELED}
    assert caller.delete(f"/runs/{run.run_id}").json()["run_status"] == ended.value


def test_fault_7_a_started_run_is_always_scheduled(caller: Caller, name: str) -> None:
    """`run_status` was missing unless the run was PENDING, so that jobs failed; now it is always "scheduled"."""
    key = str(uuid.uuid4())
    first = caller.execute("42", details(name), Idempotency_Key=key).json()
    assert first["run_status"] == "scheduled"
    while caller.get(f"/runs/{first['run_id']}").json()["run_status"] != "SUCCEEDED":
        pass
    assert caller.execute("42", details(name), Idempotency_Key=key).json()["run_status"] == "scheduled"


def test_fault_8_uploads_at_once_keep_their_contents(caller: Caller, client: Client, unique: str, file: bytes) -> None:
    """All uploads were written to the same file, so concurrent ones swapped their contents; now each keeps its own."""
    files = {f"{unique}-{number}": file.replace(b"all-parameter-types", f"p{number}".encode()) for number in range(8)}
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda item: caller.upload(*item), files.items()))
    assert [reply.status for reply in replies] == [200] * 8
    for number, name in enumerate(files):
        spec = client.pipelines.get_version(name).spec
        assert spec is not None
        assert spec.name == f"p{number}"
        client.pipelines.delete(name)


def test_fault_8_a_file_name_is_never_a_path(caller: Caller, client: Client, unique: str, file: bytes) -> None:
    """A file name with `../` was used as a path; now no name is."""
    led_to = Path("/tmp") / f"{unique}.yaml"  # noqa: S108 - where the Flask adapter wrote
    for part in (f"../../../../../..{led_to.with_suffix('')}", str(led_to.with_suffix("")), unique):
        body = form(("description", b""), ("file", file), file_name=part)
        assert caller.say("POST", f"/pipelineIds/{unique}", body, content_type=FORM).status == 200
        assert not led_to.exists()
    odd = "..%2F..%2Fetc%2Fpasswd"
    assert caller.say("POST", f"/pipelineIds/{odd}", form(("file", file)), content_type=FORM).json()["name"] == (
        "../../etc/passwd"
    )
    assert caller.get(f"/pipelineIds/{odd}").json()["name"] == "../../etc/passwd"
    for name in (unique, "../../etc/passwd"):
        client.pipelines.delete(name, force=True)


def test_fault_9_all_pages_are_seen(caller: Caller, filled: str) -> None:
    """Only the first twenty pipelines and runs and ten experiments were listed; now all are."""
    pipelines = {one["display_name"] for one in caller.get("/pipelines").json()["pipelines"]}
    assert {f"{filled}-{number}" for number in range(21)} <= pipelines
    assert {f"{filled}-{number}" for number in range(21)} <= caller.get("/runs").json().keys()
    assert {f"{filled}-{number}" for number in range(11)} <= caller.get("/experiments").json().keys()


@pytest.mark.slow
def test_fault_9_and_10_more_versions_than_kfp_puts_on_a_page(
    caller: Caller, client: Client, unique: str, file: bytes, tmp_path: Path
) -> None:
    """A new version's number was the count of one page, wrong after deletions and beyond 200; now it is correct."""
    assert caller.upload(unique, file).status == 200
    source = tmp_path / "pipeline.yaml"
    source.write_bytes(file)

    def make(number: int) -> None:
        client.pipelines.upload(source, name=unique, version_name=str(number))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make, range(2, MANY_VERSIONS + 1)))
    assert len(caller.get(f"/pipelines/{unique}/versions").json()["versions_list"]) == MANY_VERSIONS
    client.pipelines.delete_version(unique, version_name="7")
    assert caller.upload(unique, file).status == 200
    versions = caller.get(f"/pipelines/{unique}/versions").json()["versions_list"]
    assert sorted(versions) == sorted({unique, *map(str, range(2, MANY_VERSIONS + 2))} - {"7"})
    client.pipelines.delete(unique, force=True)


def test_fault_10_uploads_that_race_get_numbers_of_their_own(
    caller: Caller, client: Client, name: str, file: bytes
) -> None:
    """Concurrent uploads got the same number, and one failed; descriptions were lost. Now each has its own of both."""
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda number: caller.upload(name, file, f"설명 {number}"), range(4)))
    assert [reply.status for reply in replies] == [200] * 4
    versions = {one.name: one.description for one in client.pipelines.list_versions(name)}
    assert sorted(versions) == sorted([name, "2", "3", "4", "5"])
    assert {versions[number] for number in "2345"} == {f"설명 {number}" for number in range(4)}


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", f"/pipelines/{NOBODY}", 404, "PIPELINE_NOT_FOUND"),
        ("DELETE", f"/pipelines/{NOBODY}", 404, "PIPELINE_NOT_FOUND"),
        ("GET", "/pipelines/nobody/versions", 404, "PIPELINE_NOT_FOUND"),
        ("GET", "/pipelineIds/nobody", 404, "PIPELINE_NOT_FOUND"),
        ("GET", f"/runs/{NOBODY}", 404, "RUN_NOT_FOUND"),
        ("DELETE", f"/runs/{NOBODY}", 404, "RUN_NOT_FOUND"),
        ("GET", "/experiments/nobody", 404, "EXPERIMENT_NOT_FOUND"),
        ("GET", "/pipelines/x", 400, "INVALID_FIELD"),
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "/pipelines/", 404, "NOT_FOUND"),
        ("PUT", "/pipelines", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_fault_11_errors_are_distinguished(caller: Caller, method: str, path: str, status: int, reason: str) -> None:
    """Every error was 400 or 500 with a generic text; now status, reason and message are specific."""
    caller.say(method, path).refusal(status, reason)


def test_fault_11_jobs_and_files_that_are_wrong_are_distinguished(caller: Caller, name: str) -> None:
    """A job or file is rejected with its own reason before anything starts."""
    caller.execute("42", details("nobody")).refusal(404, "PIPELINE_NOT_FOUND")
    caller.execute("42", {**details(name), "experiment_name": "nobody"}).refusal(404, "EXPERIMENT_NOT_FOUND")
    caller.execute("42", {**details(name), "pipeline_version": "99"}).refusal(404, "VERSION_NOT_FOUND")
    assert "parameters.i" in caller.execute("42", details(name, i="x")).refusal(400, "PARAMETER_TYPE")["message"]
    missing = {**details(name), "arguments": {}}
    caller.execute("42", missing).refusal(400, "PARAMETER_MISSING")
    caller.upload(name, b"a: [").refusal(400, "INVALID_PIPELINE_FILE")


def test_fault_11_an_unreachable_kfp_is_reported() -> None:
    """If KFP is unreachable the response is 503 with Retry-After."""
    with ScriptedKfp() as gone:
        url = gone.url
    with adapter(url) as server:
        reply = server.caller.get("/experiments/x")
        reply.refusal(503, "KFP_UNAVAILABLE")
        assert reply.headers["retry-after"] == "2"


def test_fault_11_the_namespace_is_requested() -> None:
    """Namespaces were ignored; now KFP requests use the adapter's namespace."""
    with ScriptedKfp() as kfp, adapter(kfp.url, namespace="ml") as server:
        server.caller.get("/experiments")
        assert any("namespace=ml" in path for path in kfp.paths("GET"))

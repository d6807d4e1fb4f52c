"""All routes of the Flask adapter, called as by the training manager and by users."""

from __future__ import annotations

import uuid
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs
from tests.contract.running import eventually
from tests.legacy_http.calling import FORM, Caller, form
from tests.training_jobs import details

from kfadapter_grpc.contract.runs import RunState

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client

NOBODY = str(uuid.UUID(int=1))


def test_pipelines(caller: Caller, name: str) -> None:
    """A pipeline is listed with its description and an HTTP date, and its id returns its arguments."""
    listed = caller.get("/pipelines").json()
    mine = next(one for one in listed["pipelines"] if one["display_name"] == name)
    assert set(mine) == {"pipeline_id", "display_name", "description", "created_at"}
    assert mine["description"] == "모델을 학습한다"
    assert parsedate_to_datetime(mine["created_at"]).tzinfo
    assert mine["created_at"].endswith(" GMT")
    assert (listed["next_page_token"], listed["total_size"]) == (None, len(listed["pipelines"]))
    assert caller.get(f"/pipelineIds/{name}").json() == {"name": name, "id": mine["pipeline_id"]}
    reported = caller.get(f"/pipelines/{mine['pipeline_id']}").json()
    assert (reported["id"], reported["name"], reported["description"]) == (mine["pipeline_id"], name, "모델을 학습한다")
    assert reported["arguments"] == {
        "b": "true", "d": '{"a": 1}', "f": "0.5", "i": "7", "maybe": None, "s": None, "xs": "[1, 2, 3]",
    }  # fmt: skip


def test_versions(caller: Caller, name: str, file: bytes) -> None:
    """A second upload creates a second version, with the next number."""
    assert caller.upload(name, file).json() == caller.get(f"/pipelineIds/{name}").json()
    reported = caller.get(f"/pipelines/{name}/versions").json()
    assert (set(reported), sorted(reported["versions_list"])) == ({"versions_list"}, ["2", name])


def test_a_deleted_pipeline(caller: Caller, name: str, file: bytes) -> None:
    """A pipeline is deleted by its id, with all its versions."""
    assert caller.upload(name, file).status == 200
    pipeline_id = caller.get(f"/pipelineIds/{name}").json()["id"]
    assert caller.delete(f"/pipelines/{pipeline_id}").json() == {"id": pipeline_id, "status": "Deleted"}
    caller.get(f"/pipelineIds/{name}").refusal(404, "PIPELINE_NOT_FOUND")


@pytest.mark.slow
def test_a_training_job(caller: Caller, client: Client, name: str) -> None:
    """A job starts a run with string arguments converted to the declared types, and is found by its label."""
    reply = caller.execute("42", details(name, i="10", b="false"))
    reported = reply.json()
    assert (reply.status, reported["run_status"], reported["trainingjob_id"]) == (200, "scheduled", "42")
    assert (reported["pipeline_name"], reported["experiment_name"]) == (name, "Default")
    assert reported["experiment_id"] == caller.get("/experiments").json()["Default"]
    assert reported["pipeline_id"] == caller.get(f"/pipelineIds/{name}").json()["id"]
    assert "modelName" in reported["arguments_left_out"]
    run = client.runs.wait(reported["run_id"], timeout=60)
    assert run.state is RunState.SUCCEEDED, run.error
    assert (run.parameters["i"], run.parameters["b"], run.parameters["s"]) == (10, False, "글")
    assert run.labels["trainingjob_id"] == "42"
    one = caller.get(f"/runs/{reported['run_id']}").json()
    assert one == {"run_id": reported["run_id"], "run_name": reported["run_name"], "run_status": "SUCCEEDED"}
    listed = caller.get("/runs").json()[reported["run_name"]]
    assert listed == {
        "run_id": reported["run_id"],
        "run_description": "",
        "run_status": "SUCCEEDED",
        "experiment_name": "Default",
        "experiment_id": reported["experiment_id"],
        "pipeline_name": name,
        "pipeline_id": reported["pipeline_id"],
    }
    assert caller.delete(f"/runs/{reported['run_id']}").json() == one


def test_experiments(caller: Caller) -> None:
    """Experiments are a dict of names and ids, and each is found by its name."""
    listed = caller.get("/experiments").json()
    assert caller.get("/experiments/Default").json() == {"name": "Default", "id": listed["Default"]}


def test_liveness(caller: Caller) -> None:
    """Liveness returns the same text as before, for probes."""
    reply = caller.get("/liveness")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"Okay", "text/html; charset=utf-8")


def test_runs_of_one_name(caller: Caller, client: Client, name: str) -> None:
    """Runs with the same name are all listed: one under the name, the others with their ids appended."""
    shared = f"run of {name}"
    ids = {client.runs.create(name, display_name=shared, parameters={"s": ""}).run_id for _ in range(2)}
    mine = {key: run["run_id"] for key, run in caller.get("/runs").json().items() if key.startswith(shared)}
    assert set(mine.values()) == ids
    assert set(mine) == {shared, *(f"{shared} ({run_id})" for run_id in ids - {mine[shared]})}


@pytest.mark.parametrize("file_name", [None, "", "pipeline.yaml", "../../etc/passwd"])
def test_whatever_the_file_is_called(caller: Caller, client: Client, file: bytes, file_name: str | None) -> None:
    """The part `file` may have any file name, or none."""
    unique = f"named-{uuid.uuid4().hex[:8]}"
    body = form(("description", b""), ("file", file), file_name=file_name)
    assert caller.say("POST", f"/pipelineIds/{unique}", body, content_type=FORM).json()["name"] == unique
    client.pipelines.delete(unique, force=True)


def test_a_repeated_request(caller: Caller, name: str) -> None:
    """A job repeated with the same Idempotency-Key is started once; without a key it is started again."""
    key = str(uuid.uuid4())
    first, again = (caller.execute("42", details(name), Idempotency_Key=key).json()["run_id"] for _ in range(2))
    assert first == again
    assert caller.execute("42", details(name)).json()["run_id"] != first
    caller.execute("42", details(name, i="11"), Idempotency_Key=key).refusal(409, "REQUEST_ID_REUSED")


def test_head(caller: Caller) -> None:
    """HEAD is served like GET, without the body."""
    reply = caller.say("HEAD", "/experiments")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"", "application/json")
    assert int(reply.headers["content-length"]) > 2


def test_the_request_id(caller: Caller) -> None:
    """The request id is returned and logged with the request and its calls; an invalid one is replaced."""
    with capture_logs() as lines:
        assert caller.say("GET", "/experiments", X_Request_Id="tm-7").headers["x-request-id"] == "tm-7"
        eventually(lambda: any(line["event"] == "http" for line in lines))
    mine = [line for line in lines if line.get("request_id") == "tm-7"]
    assert [line["event"] for line in mine] == ["call", "http"]
    assert (mine[1]["route"], mine[1]["status"], mine[1]["peer"]) == ("/experiments", 200, "http:127.0.0.1")
    made = caller.say("GET", "/experiments", X_Request_Id="a b").headers["x-request-id"]
    assert made not in ("", "a b")

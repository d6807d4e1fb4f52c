from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
from tests.embedded.conftest import Caller, Reply, unique
from tests.embedded.runs import a_pipeline, a_run, try_run
from tests.embedded.serving import Serving, serving
from tests.transcripts import PIPELINES

from kfadapter_embedded.execution import State
from kfadapter_embedded.store import Documents, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

TYPED = (PIPELINES / "all_parameter_types.yaml").read_bytes()
TOO_DEEP = "[" * 900 + "]" * 900


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    """A server with a scripted executor, whose clock advances by a second at each read."""
    ticks = iter(range(10**9))
    with serving(tmp_path, clock=lambda: 1_700_000_000 + next(ticks)) as running:
        yield running


@pytest.fixture
def caller(server: Serving) -> Caller:
    """Plain HTTP to that server."""
    return server.caller


def predicate(operation: str, key: str, **value: object) -> dict[str, object]:
    """A condition of a filter."""
    return {"operation": operation, "key": key, **value}


def listed(caller: Caller, *predicates: dict[str, object], **query: object) -> list[str]:
    """The names of the runs that match a filter."""
    reply = caller.get("/runs", filter=json.dumps({"predicates": predicates}), **query)
    assert reply.status == 200, reply.text
    runs = reply.json.get("runs", [])
    assert isinstance(runs, list)
    return [run["display_name"] for run in runs]


def _spec_of(caller: Caller, reference: dict[str, str]) -> object:
    path = f"/pipelines/{reference['pipeline_id']}/versions/{reference['pipeline_version_id']}"
    return caller.get(path).json["pipeline_spec"]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("s", 1, "requires type string, but the input parameter is not of string value type"),
        ("s", None, "requires type string"),
        ("i", "1", "requires type double or integer, but the parameter value is not of number value type"),
        ("i", True, "requires type double or integer"),
        ("f", [1.5], "requires type double or integer"),
        ("b", 0, "requires type bool, but the input parameter is not of bool value type"),
        ("xs", {}, "requires type list, but the input parameter is not of list value type"),
        ("d", [], "requires type struct, but the input parameter is not of struct value type"),
    ],
)
def test_types_of_parameters(caller: Caller, name: str, value: object, wanted: str) -> None:
    """A value of the wrong type is rejected with KFP's message, and nothing is created."""
    config = {"parameters": {"s": "x", name: value}}
    reply = try_run(caller, pipeline_version_reference=a_pipeline(caller, TYPED), runtime_config=config)
    assert (reply.status, reply.json["code"]) == (400, 3)
    assert f"input parameter {name} {wanted}" in reply["message"]
    assert caller.get("/runs").json == {}


def test_literals_of_parameters(caller: Caller) -> None:
    """If a pipeline lists the values of a parameter, other values are rejected, and nothing is created."""
    declared = {"color": {"parameterType": "STRING", "literals": ["빨강", "green"]}}
    root = {"dag": {}, "inputDefinitions": {"parameters": declared}}
    spec = {"pipelineInfo": {"name": "x"}, "root": root, "schemaVersion": "2.1.0"}
    made = try_run(caller, pipeline_spec=spec, runtime_config={"parameters": {"color": "빨강"}})
    assert made.status == 200, made.text
    reply = try_run(caller, pipeline_spec=spec, runtime_config={"parameters": {"color": "blue"}})
    assert (reply.status, reply.json["code"]) == (400, 3)
    assert 'input parameter "color" value "blue" does not match any of the allowed literal values' in reply["message"]
    assert caller.get("/runs").json["total_size"] == 1


def test_values_of_parameters(server: Serving) -> None:
    """Values are unchanged: integers, fractions, any script, nested."""
    values = {"s": "문자 \U0001f600", "i": 3.0, "f": 1e-7, "b": False, "xs": [1, 2.5, "x"], "d": {"k": [None, {}]}}
    config = {"parameters": values, "pipeline_root": "gs://bucket"}
    pipeline = a_pipeline(server.caller, TYPED)
    made = try_run(server.caller, pipeline_version_reference=pipeline, runtime_config=config).json
    assert made["runtime_config"] == config
    assert "3.0" not in json.dumps(made)
    job = server.executor.jobs[0]
    assert job.parameters == values
    assert json.loads(job.spec) == _spec_of(server.caller, pipeline)


@pytest.mark.parametrize("name", ["hello_world", "kubernetes_platform", "argo_v1_workflow"])
def test_spec_sent_along(server: Serving, name: str) -> None:
    """A run may have its own spec, as with kfp.Client: it is executed, and returned with the run."""
    spec = _spec_of(server.caller, a_pipeline(server.caller, (PIPELINES / f"{name}.yaml").read_bytes()))
    made = try_run(server.caller, pipeline_spec=spec)
    assert made.status == 200, made.text
    assert made.json["pipeline_spec"] == spec
    assert "pipeline_version_reference" not in made.json
    assert server.caller.get(f"/runs/{made['run_id']}").json == made.json
    assert server.caller.get("/runs").json["runs"] == [made.json]
    assert json.loads(server.executor.jobs[0].spec) == spec


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"pipeline_spec": {"a": 1}}, 400, "unknown template format"),
        ({"pipeline_spec": {"pipeline_spec": {"a": 1}}}, 400, "unknown template format"),
        ({"pipeline_spec": "x"}, 400, "invalid value for field pipeline_spec"),
        ({"pipeline_spec": {"a": 1}, "pipeline_version_reference": {"pipeline_id": "x"}}, 400, "already set"),
        ({"pipeline_version_reference": {"pipeline_id": "x"}}, 500, "PipelineVersion of pipeline x not found"),
        ({"pipeline_version_reference": [1]}, 400, "invalid value for field pipeline_version_reference"),
        ({"display_name": 5}, 400, "invalid value for string field display_name"),
        ({"runtime_config": {"parameters": [1]}}, 400, "invalid value for field parameters"),
        ({"runtime_config": 5}, 400, "invalid value for field runtime_config"),
        ({"display_name": "n" * 256}, 500, "Data too long for column 'DisplayName' at row 1"),
        ({"description": "한" * 256}, 500, "Data too long for column 'Description' at row 1"),
        ({"run_id": "i" * 192}, 500, "Data too long for column 'UUID' at row 1"),
    ],
)
def test_bad_runs(caller: Caller, body: dict[str, object], status: int, words: str) -> None:
    """An invalid run is rejected with the reason."""
    reply = try_run(caller, **body)
    assert reply.status == status
    assert words in reply["message"]
    assert caller.get("/runs").json == {}


@pytest.mark.parametrize("parameters", [TOO_DEEP, '{"x": NaN}', '{"x": ', '"\\ud800"', "Infinity"])
def test_hostile_bodies(caller: Caller, parameters: str) -> None:
    """Hostile JSON is rejected, and the server continues."""
    body = f'{{"display_name": "x", "runtime_config": {{"parameters": {parameters}}}}}'
    reply = caller.pool.request("POST", f"{caller.url}/apis/v2beta1/runs", body=body.encode())
    assert reply.status == 400
    assert caller.get("/healthz").status == 200


def test_longest_texts(caller: Caller) -> None:
    """Names and descriptions may have 255 characters in any script; unpaired surrogates are replaced."""
    made = try_run(caller, display_name="이" * 255, description="설" * 254 + "\ud800")
    assert (made["display_name"], made["description"]) == ("이" * 255, "설" * 254 + "\ufffd")


def test_latest_version(caller: Caller) -> None:
    """Without a version the latest one is used."""
    pipeline = a_pipeline(caller)
    newer = caller.upload(pipelineid=pipeline["pipeline_id"], name="newer")["pipeline_version_id"]
    made = try_run(caller, pipeline_version_reference={"pipeline_id": pipeline["pipeline_id"]})
    assert made.json["pipeline_version_reference"] == {**pipeline, "pipeline_version_id": newer}


def test_racing_for_an_id(server: Serving) -> None:
    """Of concurrent runs with one id one is created and executed, the others are duplicates, ignoring letter case."""
    pipeline, start = a_pipeline(server.caller), threading.Barrier(8)
    found: list[Reply] = []

    def run(run_id: str) -> None:
        start.wait(10)
        found.append(try_run(server.caller, run_id=run_id, pipeline_version_reference=pipeline))

    threads = [threading.Thread(target=run, args=(("Chosen", "chosen")[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(reply.status for reply in found) == [200] + [500] * 7
    assert sum("Duplicate entry" in reply.text for reply in found) == 7
    assert len(server.executor.jobs) == 1


@pytest.mark.parametrize(
    "run_id", ["../../evil", "/etc/evil", "..", "a/b", "한글 id", "%2e%2e", "x" * 191, "=sha256-x"]
)
def test_folders_of_strange_ids(server: Serving, tmp_path: Path, run_id: str) -> None:
    """A run's id may be any string, and its folder is a separate one in the folder of runs."""
    assert a_run(server.caller, run_id=run_id) == run_id
    assert server.executor.jobs[0].folder.parent == tmp_path / "runs"
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_filters(server: Serving) -> None:
    """Runs can be filtered by id, state, name, description, experiment, storage and times; not by pipeline."""
    experiment = server.caller.call("POST", "/experiments", json_body={"display_name": "e"})["experiment_id"]
    first = a_run(server.caller, display_name="First", description="kfadapter: {a_b}", run_id="ONE")
    second = a_run(server.caller, display_name="second", description="kfadapter: {axb}")
    third = a_run(server.caller, display_name="third", experiment_id=experiment)
    server.executor.start(second)
    server.executor.start(third)
    server.executor.end(third, State.SUCCEEDED)
    server.caller.call("POST", f"/runs/{first}:archive")
    created = str(server.caller.get(f"/runs/{second}")["created_at"])

    def find(*predicates: dict[str, object], **query: object) -> list[str]:
        return listed(server.caller, *predicates, **query)

    assert find(predicate("EQUALS", "state", string_value="RUNNING")) == ["second"]
    assert find(predicate("NOT_EQUALS", "state", string_value="RUNNING")) == ["First", "third"]
    assert find(predicate("IN", "state", string_values={"values": ["SUCCEEDED", "PENDING"]})) == ["First", "third"]
    assert find(predicate("IN", "run_id", string_values={"values": ["one", third]})) == ["First", "third"]
    assert find(predicate("EQUALS", "recurring_run_id", string_value=third)) == []
    assert find(predicate("EQUALS", "name", string_value="FIRST")) == ["First"]
    assert find(predicate("EQUALS", "display_name", string_value="third")) == ["third"]
    assert find(predicate("IS_SUBSTRING", "description", string_value="A_B")) == ["First", "second"]
    assert find(predicate("IS_SUBSTRING", "description", string_value="a\\_b")) == ["First"]
    assert find(predicate("GREATER_THAN", "created_at", timestamp_value=created)) == ["third"]
    assert find(predicate("GREATER_THAN", "finished_at", timestamp_value=created)) == ["third"]
    assert find(predicate("EQUALS", "storage_state", string_value="ARCHIVED")) == ["First"]
    assert find(experiment_id=experiment) == ["third"]
    assert find(sort_by="name desc") == ["third", "second", "First"]
    assert find(sort_by="id")[-1] == "First"
    refused = server.caller.get("/runs", filter=json.dumps({"predicates": [predicate("EQUALS", "pipeline_id")]}))
    assert (refused.status, "unrecognized field" in refused.text) == (400, True)
    assert server.caller.get("/runs", experiment_id="nobody").status == 404


@pytest.mark.parametrize("sort_by", ["", "created_at desc", "name", "id desc", "state"])
def test_pages(caller: Caller, sort_by: str) -> None:
    """Pages list each run once, with the total."""
    pipeline = a_pipeline(caller)
    made = {a_run(caller, pipeline_version_reference=pipeline, display_name=f"Run {n % 4}") for n in range(25)}
    seen: list[str] = []
    query: dict[str, object] = {"sort_by": sort_by, "page_size": 7}
    while True:
        page = caller.get("/runs", **query).json
        runs = page["runs"]
        assert isinstance(runs, list)
        assert page["total_size"] == 25
        seen += [run["run_id"] for run in runs]
        if "next_page_token" not in page:
            break
        query["page_token"] = page["next_page_token"]
    assert len(seen) == 25
    assert set(seen) == made


def test_cost_of_a_list(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of 200 runs with their tasks takes as few database queries as one of a single run."""
    pipeline = a_pipeline(server.caller)
    for _ in range(200):
        run_id = a_run(server.caller, pipeline_version_reference=pipeline)
        server.executor.start(run_id, "greet")
    looks: list[Store] = []
    reading = Store.reading

    def look(store: Store) -> AbstractContextManager[Documents]:
        looks.append(store)
        return reading(store)

    monkeypatch.setattr(Store, "reading", look)
    assert len(listed(server.caller, page_size=200)) == 200
    assert len(looks) == 1


def test_end_of_a_pipeline(server: Serving) -> None:
    """Runs outlive their pipeline: they are returned, and retried, though it was deleted."""
    pipeline = a_pipeline(server.caller)
    run_id = a_run(server.caller, pipeline_version_reference=pipeline)
    server.executor.end(run_id, State.FAILED)
    server.caller.call("DELETE", f"/pipelines/{pipeline['pipeline_id']}", cascade="true")
    assert server.caller.get(f"/runs/{run_id}").json["pipeline_version_reference"] == pipeline
    assert server.caller.call("POST", f"/runs/{run_id}:retry").status == 200
    assert server.executor.jobs[0].spec == server.executor.jobs[1].spec


@pytest.mark.parametrize("verb", ["archive", "unarchive", "terminate", "retry"])
def test_unknown_runs(caller: Caller, verb: str) -> None:
    """Every call for an unknown run is 404."""
    reply = caller.call("POST", f"/runs/{unique('gone')}:{verb}")
    assert (reply.status, reply.json["code"]) == (404, 5)


def test_service_account(server: Serving) -> None:
    """A service account and a chosen experiment in the URL are kept."""
    experiment = server.caller.call("POST", "/experiments", json_body={"display_name": "e"})["experiment_id"]
    body = {"display_name": "x", "service_account": "mine", "pipeline_version_reference": a_pipeline(server.caller)}
    made = server.caller.call("POST", "/runs", json_body=body, experiment_id=experiment)
    assert (made["service_account"], made["experiment_id"]) == ("mine", experiment)
    assert server.caller.get(f"/experiments/{experiment}")["last_run_created_at"] == made["created_at"]

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.embedded.conftest import Caller, unique
from tests.embedded.runs import a_pipeline, a_run
from tests.embedded.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    """Plain HTTP to a server that executes nothing."""
    with serving(tmp_path) as running:
        yield running.caller


def an_experiment(caller: Caller) -> str:
    """Creates an experiment; returns its id."""
    return caller.call("POST", "/experiments", json_body={"display_name": unique("실험")})["experiment_id"]


def test_archive(caller: Caller) -> None:
    """Archiving an experiment archives its runs and disables its recurring runs, and no others."""
    experiment, other = an_experiment(caller), an_experiment(caller)
    pipeline = a_pipeline(caller)
    runs = {
        each: a_run(caller, experiment_id=each, pipeline_version_reference=pipeline) for each in (experiment, other)
    }
    recurring = {each: _recurring(caller, each, pipeline) for each in (experiment, other)}
    assert caller.call("POST", f"/experiments/{experiment}:archive").status == 200
    assert caller.get(f"/runs/{runs[experiment]}")["storage_state"] == "ARCHIVED"
    assert caller.get(f"/runs/{runs[other]}")["storage_state"] == "AVAILABLE"
    assert caller.get(f"/recurringruns/{recurring[experiment]}")["status"] == "DISABLED"
    assert caller.get(f"/recurringruns/{recurring[other]}")["status"] == "ENABLED"
    refused = caller.call("POST", f"/runs/{runs[experiment]}:unarchive")
    assert (refused.status, refused.json["code"]) == (400, 9)
    caller.call("POST", f"/experiments/{experiment}:unarchive")
    assert caller.get(f"/runs/{runs[experiment]}")["storage_state"] == "ARCHIVED"
    assert caller.call("POST", f"/runs/{runs[experiment]}:unarchive").status == 200
    assert caller.get(f"/runs/{runs[experiment]}")["storage_state"] == "AVAILABLE"


def _recurring(caller: Caller, experiment: str, pipeline: dict[str, str]) -> str:
    body = {"display_name": "r", "experiment_id": experiment, "pipeline_version_reference": pipeline}
    made = caller.call("POST", "/recurringruns", json_body={**body, "max_concurrency": 1, "mode": "ENABLE"})
    return made["recurring_run_id"]


def test_names(caller: Caller) -> None:
    """Names are unique regardless of letter case, and may be in any script; names that are too long are rejected."""
    name = unique("Ünï 실험 ✓")
    assert caller.call("POST", "/experiments", json_body={"display_name": name})["display_name"] == name
    assert caller.call("POST", "/experiments", json_body={"display_name": name.upper()}).status == 409
    assert caller.call("POST", "/experiments", json_body={"display_name": "n" * 255}).status == 200
    assert caller.call("POST", "/experiments", json_body={"display_name": "n" * 256}).status == 500


def test_default_experiment(caller: Caller) -> None:
    """The experiment of runs that do not name one cannot be deleted."""
    experiment = caller.get(f"/runs/{a_run(caller)}")["experiment_id"]
    reply = caller.call("DELETE", f"/experiments/{experiment}")
    assert (reply.status, reply.json["code"]) == (409, 10)
    assert caller.get(f"/experiments/{experiment}")["display_name"] == "Default"


def test_runs_outlive_their_experiment(caller: Caller) -> None:
    """Deleting an experiment leaves its runs."""
    experiment = an_experiment(caller)
    run_id = a_run(caller, experiment_id=experiment)
    assert caller.call("DELETE", f"/experiments/{experiment}").status == 200
    assert caller.get(f"/runs/{run_id}")["experiment_id"] == experiment


def test_list(caller: Caller) -> None:
    """Experiments are listed by name, time of the last run and storage state, page by page."""
    first, second = an_experiment(caller), an_experiment(caller)
    a_run(caller, experiment_id=first)
    caller.call("POST", f"/experiments/{second}:archive")
    found = caller.get("/experiments", sort_by="last_run_created_at desc", page_size=1).json
    experiments = found["experiments"]
    assert isinstance(experiments, list)
    assert ([each["experiment_id"] for each in experiments], found["total_size"]) == ([first], 3)
    archived = '{"predicates": [{"operation": "EQUALS", "key": "storage_state", "string_value": "ARCHIVED"}]}'
    found = caller.get("/experiments", filter=archived).json
    experiments = found["experiments"]
    assert isinstance(experiments, list)
    assert [each["experiment_id"] for each in experiments] == [second]
    assert len(str(caller.get("/experiments", page_size=2)["next_page_token"])) > 10

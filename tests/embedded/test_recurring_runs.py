from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.embedded.conftest import Caller, Reply, unique
from tests.embedded.runs import a_pipeline
from tests.embedded.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    """Plain HTTP to a server that executes nothing."""
    with serving(tmp_path) as running:
        yield running.caller


def create(caller: Caller, **fields: object) -> Reply:
    """Requests a recurring run, of a new pipeline unless one is given."""
    if "pipeline_spec" not in fields:
        fields.setdefault("pipeline_version_reference", a_pipeline(caller))
    body = {"display_name": unique("r"), "max_concurrency": "1", "mode": "ENABLE", **fields}
    return caller.call("POST", "/recurringruns", json_body=body)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"display_name": ""}, 500, "Recurring run's name cannot be empty"),  # toModelJob
        ({"max_concurrency": "11"}, 400, "at least 1 and at most 10. Received 11"),
        ({"max_concurrency": None}, 400, "at least 1 and at most 10. Received 0"),
        ({"max_concurrency": 1.5}, 400, "invalid value for int64 field max_concurrency"),
        ({"max_concurrency": "x"}, 400, "invalid value for int64 field max_concurrency"),
        ({"mode": "SOMETIMES"}, 400, "invalid value for enum field mode"),
        ({"no_catchup": "yes"}, 400, "invalid value for bool field no_catchup"),
        ({"trigger": {"periodic_schedule": {"interval_second": "-1"}}}, 400, "schedule interval -1"),
        ({"trigger": {"cron_schedule": {"cron": "@daily", "start_time": "soon"}}}, 400, "Timestamp value 'soon'"),
        ({"experiment_id": "nobody"}, 404, "Experiment nobody not found"),
        ({"runtime_config": {"parameters": {"nope": 1}}}, 400, "not required by pipeline: nope"),
        ({"pipeline_version_reference": {"pipeline_version_id": "x"}}, 500, "PipelineVersion x not found"),
        ({"pipeline_version_reference": {"pipeline_id": "x"}}, 404, "Pipeline x not found"),
        ({"pipeline_version_reference": {}}, 500, "Cannot create a job with an empty pipeline ID"),
        ({"trigger": {"cron_schedule": {}}}, 400, "Empty spec string"),
        ({"trigger": {"periodic_schedule": {}}}, 400, "schedule interval 0"),
    ],
)
def test_bad_recurring_runs(caller: Caller, fields: dict[str, object], status: int, words: str) -> None:
    """An invalid recurring run is rejected with the reason."""
    reply = create(caller, **fields)
    assert reply.status == status
    assert words in reply["message"]
    assert caller.get("/recurringruns").json == {}


def test_schedules(caller: Caller) -> None:
    """A schedule is returned as it was sent, with its bounds in UTC; so is a spec in the request."""
    spec = {"pipelineInfo": {"name": "x"}, "root": {"dag": {}}, "schemaVersion": "2.1.0"}
    bounds = {"start_time": "2026-01-01T09:00:00+09:00", "end_time": "2027-01-01T00:00:00.5Z"}
    made = create(caller, pipeline_spec=spec, no_catchup=True, trigger={"cron_schedule": {"cron": "@daily", **bounds}})
    assert made.json["trigger"] == {
        "cron_schedule": {"start_time": "2026-01-01T00:00:00Z", "end_time": "2027-01-01T00:00:00Z", "cron": "@daily"}
    }
    assert made.json["pipeline_spec"] == spec
    assert made.json["no_catchup"] is True
    assert caller.get(f"/recurringruns/{made['recurring_run_id']}").json == made.json


def test_list(caller: Caller) -> None:
    """Recurring runs are listed by experiment and name, page by page."""
    experiment = caller.call("POST", "/experiments", json_body={"display_name": "e"})["experiment_id"]
    made = create(caller, display_name="a", experiment_id=experiment), create(caller, display_name="b")
    first, second = (one.json for one in made)
    assert caller.get("/recurringruns", experiment_id=experiment).json["recurringRuns"] == [first]
    page = caller.get("/recurringruns", sort_by="name desc", page_size=1).json
    assert (page["recurringRuns"], page["total_size"]) == ([second], 2)
    assert caller.get("/recurringruns", page_token=page["next_page_token"]).json["recurringRuns"] == [first]
    assert caller.get("/recurringruns", experiment_id="nobody").status == 404


@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_unknown_recurring_runs(caller: Caller, verb: str) -> None:
    """Enabling or disabling an unknown recurring run is 404."""
    reply = caller.call("POST", f"/recurringruns/{unique('gone')}:{verb}")
    assert (reply.status, reply.json["code"]) == (404, 5)

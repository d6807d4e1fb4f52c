"""Recurring runs start runs as KFP's ScheduledWorkflow controller does, by a clock that the tests control."""

from __future__ import annotations

import json
import re
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.embedded.conftest import Caller, unique
from tests.embedded.runs import a_pipeline
from tests.embedded.serving import Serving, serving

from kfadapter_embedded.execution import State
from kfadapter_embedded.json_text import read_time, rfc3339
from kfadapter_embedded.schedules import add_recurring_run, run_name, workflow_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

BEGIN = read_time("2026-11-30T12:00:00Z")
HOURLY = {"cron_schedule": {"cron": "0 0 * * * *"}}
OTHER_SPEC = {"pipelineInfo": {"name": "other"}, "root": {"dag": {}}, "schemaVersion": "2.1.0"}


def every(seconds: int, **bounds: str) -> dict[str, object]:
    """A trigger by interval."""
    return {"periodic_schedule": {"interval_second": str(seconds), **bounds}}


@dataclass
class Stage:
    """A server whose clock only a test moves."""

    folder: Path
    now: float = BEGIN

    @contextmanager
    def served(self) -> Iterator[Plays]:
        """Serves until the block ends."""
        with serving(self.folder, clock=lambda: self.now) as server:
            yield Plays(self, server)


@dataclass
class Plays:
    """Actions of tests on a running server."""

    stage: Stage
    server: Serving

    def create(self, trigger: Mapping[str, object] | None = None, **fields: object) -> str:
        """Creates a recurring run, of a new pipeline unless one is given; returns its id."""
        if not {"pipeline_version_reference", "pipeline_spec"} & fields.keys():
            fields["pipeline_version_reference"] = a_pipeline(self.server.caller)
        body = {"display_name": "매일 Train", "max_concurrency": "1", "mode": "ENABLE", "trigger": trigger, **fields}
        made = self.server.caller.call("POST", "/recurringruns", json_body={k: v for k, v in body.items() if v})
        assert made.status == 200, made.text
        return made["recurring_run_id"]

    def at(self, seconds: float) -> list[str]:
        """Moves the clock to so long after the beginning; returns the ids of the runs that start then."""
        self.stage.now = BEGIN + seconds
        before = len(self.server.executor.jobs)
        self.server.scheduler.tick()
        return [job.run_id for job in self.server.executor.jobs[before:]]

    def run(self, run_id: str) -> dict[str, Any]:
        """A run as it is served."""
        return self.server.caller.get(f"/runs/{run_id}").json

    def due(self, *run_ids: str) -> list[int]:
        """The scheduled times of runs, in seconds after the beginning."""
        return [read_time(self.run(run_id)["scheduled_at"]) - BEGIN for run_id in run_ids]

    def end(self, *run_ids: str) -> None:
        """Makes runs succeed."""
        for run_id in run_ids:
            self.server.executor.start(run_id)
            self.server.executor.end(run_id, State.SUCCEEDED)

    def at_and_end(self, seconds: float) -> list[int]:
        """Moves the clock; runs that start then succeed at once. Returns their scheduled times."""
        started = self.at(seconds)
        self.end(*started)
        return self.due(*started)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A folder and a clock."""
    return Stage(tmp_path)


@pytest.fixture
def plays(stage: Stage) -> Iterator[Plays]:
    """A server."""
    with stage.served() as plays:
        yield plays


def test_names() -> None:
    """Names are KFP's (TestScheduledWorkflow_NextResourceName, TestToSwfCRDResourceGeneratedName_*)."""
    assert run_name("WORKFLOW_NAME", 51) == "WORKFLOW_NAME-51-2626342551"
    for given, base in (
        ("! HaVe ä £unky name", "haveunkyname"),
        ("AloooooooooooooooooongName", "aloooooooooooooooooongnam"),
    ):
        assert re.fullmatch(f"{base}[b-z0-9]{{5}}", workflow_name(given))
    assert workflow_name("매일").startswith("job-")


def test_an_interval(plays: Plays) -> None:
    """A run starts one interval after the creation, and then after each interval, named and scheduled as in KFP."""
    given = {"runtime_config": {"parameters": {"recipient": "세계"}}, "service_account": "trainer"}
    recurring_run_id = plays.create(every(60), **given)
    assert plays.at(59) == []
    (first,) = plays.at(61)
    run = plays.run(first)
    name = re.fullmatch(r"train[b-z0-9]{5}", run["display_name"].rsplit("-", 2)[0])
    assert name
    assert run["display_name"] == run_name(name[0], 1)
    assert (run["scheduled_at"], run["created_at"]) == (rfc3339(BEGIN + 60), rfc3339(BEGIN + 61))
    assert (run["recurring_run_id"], run["state"]) == (recurring_run_id, "PENDING")
    assert (run["runtime_config"], run["service_account"]) == (given["runtime_config"], "trainer")
    shown = plays.server.caller.get(f"/recurringruns/{recurring_run_id}").json
    assert run["pipeline_version_reference"] == shown["pipeline_version_reference"]
    assert (shown["updated_at"], shown["status"]) == (rfc3339(BEGIN + 61), "ENABLED")
    plays.end(first)
    (second,) = plays.at(120)
    assert plays.run(second)["display_name"] == run_name(name[0], 2)
    query = {"predicates": [{"operation": "EQUALS", "key": "recurring_run_id", "string_value": recurring_run_id}]}
    listed = plays.server.caller.get("/runs", filter=json.dumps(query)).json["runs"]
    assert {one["run_id"] for one in listed} == {first, second}  # type: ignore[attr-defined]


def test_cron_between_its_bounds(plays: Plays) -> None:
    """A cron schedule starts runs after its start and up to its end, the end included."""
    cron = {"cron": "0 0 * * * *", "start_time": rfc3339(BEGIN + 3600), "end_time": rfc3339(BEGIN + 3 * 3600)}
    plays.create({"cron_schedule": cron})
    found = [plays.at_and_end(hour * 3600) for hour in range(1, 6)]
    assert found == [[], [2 * 3600], [3 * 3600], [], []]


def test_bounds_that_are_gos_zero_time(plays: Plays) -> None:
    """Go's zero time is no bound: Kubernetes, from which KFP's controller reads the schedule, stores it as unset."""
    none = {"start_time": "0001-01-01T00:00:00Z", "end_time": "0001-01-01T00:00:00.000Z"}
    plays.create({"cron_schedule": {"cron": "*/10 * * * *", **none}})
    plays.create(every(10, **none))
    assert plays.at_and_end(10) == [10, 10]


def test_without_a_schedule(plays: Plays) -> None:
    """A recurring run without a schedule starts one run, at once (`isOneOffRun`)."""
    plays.create()
    assert plays.at_and_end(0) == [0]
    assert plays.at(1000) == []


def test_at_most_so_many_at_once(plays: Plays) -> None:
    """No run starts while max_concurrency runs are unfinished; then the missed ones start, one after the other."""
    plays.create(every(60), max_concurrency="2")
    running = [*plays.at(60), *plays.at(120)]
    assert plays.at(180) == plays.at(240) == []
    plays.end(running[0])
    assert plays.due(*plays.at(241)) == [180]
    plays.server.executor.end(running[1], State.FAILED)
    assert plays.at(245) == []  # within 10 seconds of the last start, as KFP's controller waits
    assert plays.due(*plays.at(251)) == [240]


def test_without_catching_up(plays: Plays) -> None:
    """Without catchup one missed run starts: an interval's now, from which it continues, a cron schedule's last one."""
    plays.create(every(3600), no_catchup=True)
    plays.create(HOURLY, no_catchup=True)
    late = 10 * 3600 + 600
    assert sorted(plays.at_and_end(late)) == [10 * 3600, late]
    assert plays.at_and_end(11 * 3600) == [11 * 3600]
    assert plays.at_and_end(late + 3600) == [late + 3600]


def test_a_schedule_of_the_past(plays: Plays) -> None:
    """Catching up on years starts at most one run per 10 seconds, and never more at once than max_concurrency."""
    plays.create(every(1, start_time="2020-01-01T00:00:00Z"), max_concurrency="3")
    started = [run_id for second in range(60) for run_id in plays.at(second)]
    assert len(started) == 3
    assert plays.due(*started) == [read_time(f"2020-01-01T00:00:0{one}Z") - BEGIN for one in (1, 2, 3)]
    plays.end(*started)
    assert sum(len(plays.at_and_end(second)) for second in range(60, 120)) == 6


def test_disabled(plays: Plays) -> None:
    """Nothing starts while it, or its archived experiment, is disabled; once enabled again it catches up."""
    experiment = plays.server.caller.call("POST", "/experiments", json_body={"display_name": "e"})["experiment_id"]
    recurring_run_id = plays.create(every(60), mode="DISABLE")
    other = plays.create(every(60), experiment_id=experiment)
    plays.server.caller.call("POST", f"/experiments/{experiment}:archive")
    assert plays.at(600) == []
    for one in (recurring_run_id, other):
        assert plays.server.caller.call("POST", f"/recurringruns/{one}:enable").status == 200
    assert plays.due(*plays.at(601)) == [60, 60]
    plays.server.caller.call("DELETE", f"/recurringruns/{other}")
    plays.server.caller.call("POST", f"/recurringruns/{recurring_run_id}:disable")
    assert plays.at(1000) == []


def test_restarts(stage: Stage) -> None:
    """Runs that a stopped server missed are started after its next start, and none twice."""
    with stage.served() as plays:
        caught_up, skipping = plays.create(every(60)), plays.create(HOURLY, no_catchup=True)
        assert plays.at_and_end(60) == [60]
    stage.now = BEGIN + 2 * 3600 + 30
    with stage.served() as plays:
        runs = [plays.run(run_id) for run_id in plays.at(2 * 3600 + 30)]
        due = {run["recurring_run_id"]: read_time(run["scheduled_at"]) - BEGIN for run in runs}
        assert due == {caught_up: 120, skipping: 2 * 3600}
        plays.end(*(run["run_id"] for run in runs))
        assert plays.at_and_end(2 * 3600 + 40) == [180]


def test_a_server_that_was_killed_in_between(stage: Stage) -> None:
    """A run that was created just before the server was killed is found by its name, and not started again."""
    with stage.served() as plays:
        recurring_run_id = plays.create(every(60), max_concurrency="5")
        (first,) = plays.at(60)
        with plays.server.store.writing() as documents:
            documents.execute("UPDATE jobs SET last_index = 0, last_start = NULL, next_start = ?", (BEGIN + 60,))
    with stage.served() as plays:
        plays.at(61)
        assert plays.server.caller.get("/runs").json["total_size"] == 1
        assert plays.due(*plays.at(120)) == [120]
    namespace = uuid.UUID("c2f3a9d4-1e6b-4c8a-9f7d-0b5e3a1c2d4f")  # deterministicUUIDNamespace in common/util/uuid.go
    with stage.served() as plays:
        assert first == str(uuid.uuid5(namespace, f"{recurring_run_id}/{plays.run(first)['display_name']}"))


def test_a_clock_that_jumps(plays: Plays) -> None:
    """A clock that is set back starts nothing twice; one that is set ahead is caught up with."""
    plays.create(every(60))
    assert plays.at_and_end(60) == [60]
    assert [plays.at_and_end(second) for second in (-3600, 0, 59, 61, 119)] == [[]] * 5
    assert plays.at_and_end(120) == [120]
    assert plays.at_and_end(3600) == [180]
    assert plays.at_and_end(200) == []  # back, within the pause after a late start
    assert plays.at_and_end(240) == [240]


def test_the_latest_version(plays: Plays) -> None:
    """Without a version each run uses the latest; with one, that one, even if it has been deleted since."""
    caller = plays.server.caller
    pinned = a_pipeline(caller)
    latest = {"pipeline_id": pinned["pipeline_id"]}
    unpinned_id = plays.create(every(60), pipeline_version_reference=latest)
    pinned_id = plays.create(every(60), pipeline_version_reference=pinned)
    shown = caller.get(f"/recurringruns/{unpinned_id}").json
    assert (shown["pipeline_version_reference"], "service_account" in shown) == (latest, False)
    plays.stage.now += 1
    other = caller.upload(json.dumps(OTHER_SPEC).encode(), filename="p.json", pipelineid=pinned["pipeline_id"])
    assert other.status == 200, other.text
    path = f"/pipelines/{pinned['pipeline_id']}/versions/{pinned['pipeline_version_id']}"
    assert caller.call("DELETE", path).status == 200
    runs = {run["recurring_run_id"]: run for run in map(plays.run, plays.at(60))}
    specs = {job.run_id: json.loads(job.spec)["pipelineInfo"]["name"] for job in plays.server.executor.jobs}
    assert runs[pinned_id]["pipeline_version_reference"] == pinned
    assert runs[unpinned_id]["pipeline_version_reference"] == {
        **latest,
        "pipeline_version_id": other["pipeline_version_id"],
    }
    assert specs == {runs[pinned_id]["run_id"]: "hello-world", runs[unpinned_id]["run_id"]: "other"}


def test_macros(plays: Plays) -> None:
    """The API server replaces macros for runs that it creates itself; with a pinned version the controller keeps them.

    The macros are stored (`V2Spec.RunWorkflow`, `V2Spec.ScheduledWorkflow`).
    """
    pipeline, given = a_pipeline(plays.server.caller), {"recipient": "[[CurrentTime]] [[ScheduledTime]] [[RunUUID]]"}
    latest, config = {"pipeline_id": pipeline["pipeline_id"]}, {"runtime_config": {"parameters": given}}
    plays.create(every(60), pipeline_version_reference=pipeline, **config)
    unpinned = plays.create(every(60), pipeline_version_reference=latest, **config)
    started = {plays.run(run_id)["recurring_run_id"] == unpinned: run_id for run_id in plays.at(65)}
    assert [plays.run(run_id)["runtime_config"] for run_id in started.values()] == [config["runtime_config"]] * 2
    passed = {job.run_id: job.parameters["recipient"] for job in plays.server.executor.jobs}
    assert passed[started[False]] == given["recipient"]
    assert passed[started[True]] == f"20261130120105 [[ScheduledTime]] {started[True]}"


def test_a_spec_of_its_own(plays: Plays) -> None:
    """A recurring run that was created with a spec starts runs of that spec."""
    plays.create(every(60), pipeline_spec=OTHER_SPEC)
    (run_id,) = plays.at(60)
    assert plays.run(run_id)["pipeline_spec"] == OTHER_SPEC


def test_a_start_that_fails(plays: Plays, caplog: pytest.LogCaptureFixture) -> None:
    """A run that cannot be created is retried, with growing delays, and a line in the log."""
    pipeline = a_pipeline(plays.server.caller)
    plays.create(every(60), pipeline_version_reference={"pipeline_id": pipeline["pipeline_id"]})
    path = f"/pipelines/{pipeline['pipeline_id']}"
    assert plays.server.caller.call("DELETE", path, cascade="true").status == 200
    tried = []
    for second in range(60, 1000):
        caplog.clear()
        assert plays.at(second) == []
        tried += [second] if "매일 Train" in caplog.text else []
    assert [later - one for one, later in pairwise(tried)] == [20, 40, 80, 160, 320]


def test_one_that_cannot_be_read(plays: Plays, caplog: pytest.LogCaptureFixture) -> None:
    """An unreadable record does not keep the others from starting."""
    broken = plays.create(every(60))
    plays.create(every(60))
    with plays.server.store.writing() as documents:
        damaged = "UPDATE jobs SET document = json_remove(document, '$.created_at') WHERE id = ?"
        documents.execute(damaged, (broken,))
    assert len(plays.at(60)) == 1
    assert broken in caplog.text


def test_a_thousand_schedules(plays: Plays) -> None:
    """Checking a thousand, of which a hundred wait for their runs, is fast."""
    made = plays.server.caller.get(f"/recurringruns/{plays.create(every(60), pipeline_spec=OTHER_SPEC)}").json
    with plays.server.store.writing() as documents:
        for number in range(1000):
            one = {**made, "recurring_run_id": str(number), "trigger": every(3600 if number % 10 else 60)}
            add_recurring_run(documents, one, json.dumps(OTHER_SPEC))
    assert len(plays.at(60)) == 101
    begin = time.perf_counter()
    for second in range(120, 130):
        assert plays.at(second) == []
    assert (time.perf_counter() - begin) / 10 < 0.1


def test_runs_of_a_recurring_run_by_hand(plays: Plays) -> None:
    """A run may be created for a recurring run, once by each name; for an unknown one it is rejected."""
    recurring_run_id = plays.create(mode="DISABLE")
    body = {"display_name": unique("r"), "pipeline_spec": OTHER_SPEC, "recurring_run_id": recurring_run_id}
    first, again = (plays.server.caller.call("POST", "/runs", json_body=body) for _ in range(2))
    assert first["run_id"] == again["run_id"]
    assert len(plays.server.executor.jobs) == 1


def test_it_fires(caller: Caller) -> None:
    """A server starts runs on its own."""
    body = {"display_name": unique("r"), "max_concurrency": "1", "mode": "ENABLE", "trigger": every(1)}
    made = caller.call("POST", "/recurringruns", json_body={**body, "pipeline_version_reference": a_pipeline(caller)})
    path = f"/recurringruns/{made['recurring_run_id']}"
    query = {
        "predicates": [{"operation": "EQUALS", "key": "recurring_run_id", "string_value": made["recurring_run_id"]}]
    }
    deadline = time.monotonic() + 20
    while not caller.get("/runs", filter=json.dumps(query)).json:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert caller.call("DELETE", path).status == 200

"""Recurring runs in front of a KFP that answers as recorded, and of one that misbehaves."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from tests.connecting import connect
from tests.repository.conftest import call
from tests.repository.played import BROKEN, PIPELINE, VERSION, placed, played, query_of, recorded_version, with_pipeline
from tests.scripted_kfp import Behaviour, ScriptedKfp, answers, resets, stalls

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import Order, PageRequest
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.recurring_runs import (
    CreateRecurringRunRequest,
    CronSchedule,
    IntervalSchedule,
    ListRecurringRunsRequest,
    RecurringRun,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.recurring_runs import RecurringRuns

ID = placed("RR")
EXPERIMENT = placed("uuid")
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
LIST = r"/recurringruns(\?|$)"
CREATE = r"/recurringruns$"
ONE = r"/recurringruns/[^:]+$"
DAILY = CronSchedule("0 0 4 * * *")
WANTED = CreateRecurringRunRequest(
    PipelineRef(PIPELINE), DAILY, parameters={"recipient": "cron"}, display_name="rr", catch_up=True
)
FOUND = RecurringRun(
    ID,
    "rr",
    enabled=True,
    schedule=DAILY,
    max_concurrency=1,
    catch_up=True,
    pipeline_id=PIPELINE,
    pipeline_version_id=VERSION,
    experiment_id=EXPERIMENT,
    parameters={"recipient": "cron"},
    created_at=MADE,
    updated_at=MADE,
    namespace="kubeflow",
    service_account="pipeline-runner",
)


@pytest.fixture
def kfp(scripted: ScriptedKfp) -> Iterator[RecurringRuns]:
    """The repository in front of the scripted KFP."""
    backend = connect(scripted.url)
    yield backend.recurring_runs
    backend.close()


def made(**fields: object) -> dict[str, object]:
    """The requested recurring run, as KFP returns it, just created."""
    now = datetime.now(timezone.utc).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    return {
        "recurring_run_id": ID,
        "display_name": "rr",
        "pipeline_version_reference": {"pipeline_id": PIPELINE, "pipeline_version_id": VERSION},
        "runtime_config": {"parameters": {"recipient": "cron"}},
        "max_concurrency": "1",
        "trigger": {"cron_schedule": {"cron": "0 0 4 * * *"}},
        "mode": "ENABLE",
        "created_at": now,
        **fields,
    }


def as_kfp_shows(found: RecurringRun) -> RecurringRun:
    """A recurring run without its next start, which depends on the time of the test."""
    return replace(found, computed_next_start_at=None)


def listing(*items: dict[str, object], **fields: object) -> Behaviour:
    """A page of recurring runs."""
    return answers(200, {"recurringRuns": list(items), "total_size": len(items), **fields})


def sent(scripted: ScriptedKfp) -> dict[str, object]:
    """What was posted to KFP; nothing else was."""
    (request,) = [one for one in scripted.requests if one.method == "POST"]
    body: dict[str, object] = json.loads(request.body)
    return body


@pytest.mark.parametrize("transcript", ["recurring_runs", "kfp-2.5/recurring_runs"])
def test_as_recorded(scripted: ScriptedKfp, kfp: RecurringRuns, transcript: str) -> None:
    """Create, Get, Disable, Enable, List and Delete, with the answers of both KFPs."""
    with_pipeline(scripted).on("POST", CREATE, played("create, cron", transcript))
    assert as_kfp_shows(kfp.create(WANTED, call())) == FOUND
    assert sent(scripted) == {
        "display_name": "rr",
        "pipeline_version_reference": {"pipeline_id": PIPELINE, "pipeline_version_id": VERSION},
        "runtime_config": {"parameters": {"recipient": "cron"}},
        "max_concurrency": "1",
        "mode": "ENABLE",
        "trigger": {"cron_schedule": {"cron": "0 0 4 * * *"}},
        "experiment_id": EXPERIMENT,
    }
    scripted.on("GET", ONE, *(played(note, transcript) for note in ("get", "get disabled", "get")))
    scripted.on("POST", ":disable", played("disable", transcript)).on("POST", ":enable", played("enable", transcript))
    assert as_kfp_shows(kfp.get(ID, call())) == FOUND
    assert not kfp.disable(ID, call()).enabled
    assert kfp.enable(ID, call()).enabled
    scripted.on("DELETE", ONE, played("delete", transcript), played("delete again", transcript))
    assert kfp.delete(ID, call(), allow_missing=False)
    with pytest.raises(errors.RecurringRunNotFoundError, match=ID):
        kfp.delete(ID, call(), allow_missing=False)
    assert not kfp.delete(ID, call(), allow_missing=True)


def test_a_list_as_recorded(scripted: ScriptedKfp, kfp: RecurringRuns) -> None:
    """KFP spells this list's key differently; recurring runs with either kind of schedule, or with none, are read."""
    scripted.on("GET", LIST, played("list", "kfp-2.5/recurring_runs"))
    page = kfp.list(ListRecurringRunsRequest(), PageRequest(10, order=Order("created_at", descending=False)), call())
    first, second = page.items
    assert as_kfp_shows(first) == FOUND
    assert (second.schedule, second.enabled) == (IntervalSchedule(timedelta(hours=1)), False)
    assert (second.max_concurrency, second.parameters) == (2, {})
    assert query_of(scripted.paths("GET")[0])["sort_by"] == "created_at asc"
    scripted.first("GET", LIST, played("list", "recurring_runs"))
    assert None in [item.schedule for item in kfp.list(ListRecurringRunsRequest(), PageRequest(), call()).items]


def test_what_kfp_does_not_say(scripted: ScriptedKfp, kfp: RecurringRuns) -> None:
    """The next start is computed wherever one is shown; a schedule whose end has passed has ended, even if enabled."""
    now = datetime.now(timezone.utc)
    ended = made(trigger={"cron_schedule": {"cron": "@daily", "end_time": "2026-01-01T00:00:00Z"}}, status="ENABLED")
    scripted.on("GET", ONE, answers(200, made())).on("GET", LIST, listing(made(), ended))
    alone = kfp.get(ID, call())
    first, second = kfp.list(ListRecurringRunsRequest(), PageRequest(), call()).items
    for item in (alone, first):
        start = item.computed_next_start_at
        assert start is not None
        assert (start.hour, start.minute, start.second) == (4, 0, 0)
        assert timedelta(0) < start - now <= timedelta(days=1, minutes=1)
        assert not item.ended
    assert (second.ended, second.enabled, second.computed_next_start_at) == (True, True, None)


def test_everything_is_sent(scripted: ScriptedKfp, kfp: RecurringRuns) -> None:
    """The request to KFP has all fields; 64-bit numbers are strings, times are whole seconds in UTC."""
    with_pipeline(scripted).on("POST", CREATE, played("create, periodic", "recurring_runs"))
    scripted.first("GET", r"/experiments/", answers(200, {"experiment_id": "e-1", "display_name": "e"}))
    seoul = timezone(timedelta(hours=9))
    request = CreateRecurringRunRequest(
        PipelineRef(name="rec", namespace="team-a"),
        IntervalSchedule(timedelta(hours=1), datetime(2030, 1, 1, 9, 0, 0, 999, tzinfo=seoul)),
        experiment=ExperimentRef("e-1"),
        parameters={"recipient": "세계"},
        display_name="이름",
        description="설명",
        max_concurrency=2,
        disabled=True,
        service_account="runner",
        namespace="team-a",
    )
    kfp.create(request, call())
    assert sent(scripted) == {
        "display_name": "이름",
        "description": "설명",
        "pipeline_version_reference": {"pipeline_id": PIPELINE, "pipeline_version_id": VERSION},
        "runtime_config": {"parameters": {"recipient": "세계"}},
        "service_account": "runner",
        "max_concurrency": "2",
        "trigger": {"periodic_schedule": {"interval_second": "3600", "start_time": "2030-01-01T00:00:00Z"}},
        "mode": "DISABLE",
        "no_catchup": True,
        "experiment_id": "e-1",
        "namespace": "team-a",
    }


@pytest.mark.parametrize(
    ("schedule", "name"),
    [(DAILY, "rec (0 0 4 * * *)"), (IntervalSchedule(timedelta(seconds=90)), "rec (every 90s)")],
    ids=["cron", "interval"],
)
def test_a_name_is_made(
    scripted: ScriptedKfp, kfp: RecurringRuns, schedule: CronSchedule | IntervalSchedule, name: str
) -> None:
    """Without a display name it is generated from the pipeline's name and the schedule."""
    with_pipeline(scripted).on("POST", CREATE, played("create, cron", "recurring_runs"))
    kfp.create(replace(WANTED, display_name="", schedule=schedule), call())
    assert sent(scripted)["display_name"] == name


def test_a_long_name_is_cut(scripted: ScriptedKfp, kfp: RecurringRuns) -> None:
    """The generated name fits into KFP's column, and no character is split."""
    long = {"pipeline_id": PIPELINE, "name": "파" * 128}
    with_pipeline(scripted).first("GET", rf"/pipelines/{PIPELINE}$", answers(200, long))
    scripted.on("POST", CREATE, played("create, cron", "recurring_runs"))
    kfp.create(replace(WANTED, display_name=""), call())
    name = str(sent(scripted)["display_name"])
    assert len(name.encode()) <= 255
    assert name.endswith("파 (0 0 4 * * *)")


# --- rejected requests --------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Json], type[errors.AdapterError], set[str]]] = {
    "unknown": ({"recipient": "x", "nope": 1}, errors.ParameterUnknownError, {"parameters.nope"}),
    "ill-typed": ({"recipient": 7.0}, errors.ParameterTypeError, {"parameters.recipient"}),
    "both": (
        {"recipient": True, "reciptent": "x"},
        errors.ParameterUnknownError,
        {"parameters.recipient", "parameters.reciptent"},
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_parameters_are_checked_before(scripted: ScriptedKfp, kfp: RecurringRuns, what: str) -> None:
    """As for runs: all errors are reported, and nothing is created in KFP."""
    parameters, error, fields = WRONG[what]
    with_pipeline(scripted)
    with pytest.raises(error) as caught:
        kfp.create(replace(WANTED, parameters=parameters), call())
    assert {violation.field for violation in caught.value.violations} == fields
    assert scripted.paths("POST") == []


def test_a_cron_that_only_kfp_judges(scripted: ScriptedKfp, kfp: RecurringRuns) -> None:
    """KFP's message reaches the caller, with the field."""
    with_pipeline(scripted).on("POST", CREATE, played("bad cron", "recurring_runs"))
    with pytest.raises(errors.InvalidFieldError, match="not a supported format") as caught:
        kfp.create(WANTED, call())
    assert [violation.field for violation in caught.value.violations] == ["cron.cron"]


ABSENT: dict[str, tuple[CreateRecurringRunRequest, type[errors.AdapterError]]] = {
    "pipeline": (replace(WANTED, pipeline=PipelineRef(name="absent")), errors.PipelineNotFoundError),
    "version": (replace(WANTED, version=VersionRef(name="absent")), errors.VersionNotFoundError),
    "experiment": (replace(WANTED, experiment=ExperimentRef(name="absent")), errors.ExperimentNotFoundError),
}


@pytest.mark.parametrize("what", ABSENT)
def test_what_it_needs_is_looked_up_before(scripted: ScriptedKfp, kfp: RecurringRuns, what: str) -> None:
    """Whatever is missing is named exactly, and nothing is created in KFP."""
    request, error = ABSENT[what]
    scripted.on("GET", r"/pipelines/names/absent", played("get unknown name", "pipelines"))
    scripted.on("GET", r"/versions\?", answers(200, {}))
    with_pipeline(scripted)
    with pytest.raises(error):
        kfp.create(request, call())
    assert scripted.paths("POST") == []


def test_a_version_that_goes_meanwhile(scripted: ScriptedKfp, kfp: RecurringRuns) -> None:
    """KFP answers 500; a lookup afterwards turns that into VERSION_NOT_FOUND."""
    gone = answers(404, {"code": 5, "message": f"ResourceNotFoundError: PipelineVersion {VERSION} not found"})
    scripted.on("GET", rf"/versions/{VERSION}$", recorded_version(), gone)
    with_pipeline(scripted).on("POST", CREATE, answers(500, {"code": 13, "message": "Internal Server Error"}))
    with pytest.raises(errors.VersionNotFoundError):
        kfp.create(WANTED, call())


def test_a_fault_of_kfp_is_kfps(scripted: ScriptedKfp, kfp: RecurringRuns) -> None:
    """A 500 with nothing missing stays KFP_ERROR."""
    with_pipeline(scripted).on("POST", CREATE, answers(500, {"code": 13, "message": "the disk is full"}))
    with pytest.raises(errors.KfpError, match="the disk is full"):
        kfp.create(WANTED, call())


def test_without_a_default_experiment_kfp_chooses(scripted: ScriptedKfp, kfp: RecurringRuns) -> None:
    """A single-user KFP has its own default; a multi-user one rejects the request, and the error names the field."""
    scripted.on("GET", r"/experiments\?", answers(200, {}))
    with_pipeline(scripted).on(
        "POST", CREATE, played("create, cron", "recurring_runs"), played("run without an experiment", "multi_user")
    )
    kfp.create(WANTED, call())
    assert "experiment_id" not in sent(scripted)
    with pytest.raises(errors.InvalidFieldError) as caught:
        kfp.create(WANTED, call())
    assert [violation.field for violation in caught.value.violations] == ["experiment"]


UNKNOWN: dict[str, Callable[[RecurringRuns], object]] = {
    "get": lambda kfp: kfp.get(ID, call()),
    "enable": lambda kfp: kfp.enable(ID, call()),
    "disable": lambda kfp: kfp.disable(ID, call()),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_there(scripted: ScriptedKfp, kfp: RecurringRuns, what: str) -> None:
    """The error is RECURRING_RUN_NOT_FOUND."""
    unknown = played("get unknown", "recurring_runs")
    scripted.on("GET", ONE, unknown).on("POST", r":(en|dis)able$", unknown)
    with pytest.raises(errors.RecurringRunNotFoundError) as caught:
        UNKNOWN[what](kfp)
    assert caught.value.resource_name == ID


# --- broken answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_create_is_looked_after(scripted: ScriptedKfp, kfp: RecurringRuns, fault: str) -> None:
    """The create is never resent; a recurring run created meanwhile that equals the request is taken as ours."""
    others = [
        made(recurring_run_id="old", created_at="2026-01-02T03:04:05Z"),
        made(recurring_run_id="off", mode="DISABLE"),
        made(recurring_run_id="bare", runtime_config={}),
        made(recurring_run_id="hourly", trigger={"periodic_schedule": {"interval_second": "3600"}}),
        made(recurring_run_id="without", trigger={}),
        made(recurring_run_id="other", pipeline_version_reference={"pipeline_id": PIPELINE}),
    ]
    with_pipeline(scripted).on("POST", CREATE, BROKEN[fault]).on("GET", LIST, listing(*others, made()))
    assert kfp.create(WANTED, call()).recurring_run_id == ID
    assert len(scripted.paths("POST")) == 1


@pytest.mark.parametrize(
    "found",
    [answers(200, {}), listing(made(), made(recurring_run_id="second")), answers(503)],
    ids=["nothing", "two", "KFP is away"],
)
def test_a_broken_create_is_told(scripted: ScriptedKfp, kfp: RecurringRuns, found: Behaviour) -> None:
    """If it is unknown which one is ours, the error is reported."""
    with_pipeline(scripted).on("POST", CREATE, resets()).on("GET", LIST, found)
    with pytest.raises(errors.KfpUnavailableError):
        kfp.create(WANTED, call())
    assert len(scripted.paths("POST")) == 1


@pytest.mark.slow
def test_a_create_that_ends_with_the_deadline(scripted: ScriptedKfp, kfp: RecurringRuns) -> None:
    """The check also runs after the deadline, with a time limit of its own."""
    with_pipeline(scripted).on("POST", CREATE, stalls()).on("GET", LIST, listing(made()))
    assert kfp.create(WANTED, call(1)).recurring_run_id == ID


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_delete_is_looked_after(scripted: ScriptedKfp, kfp: RecurringRuns, fault: str) -> None:
    """If it no longer exists it was deleted; if it still exists it was not, and the error is reported."""
    scripted.on("DELETE", ONE, BROKEN[fault])
    scripted.on("GET", ONE, played("get unknown", "recurring_runs"), answers(200, made()))
    assert kfp.delete(ID, call(), allow_missing=False)
    with pytest.raises(errors.KfpUnavailableError):
        kfp.delete(ID, call(), allow_missing=True)
    assert len(scripted.paths("DELETE")) == 2


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_switch_is_looked_after(scripted: ScriptedKfp, kfp: RecurringRuns, fault: str) -> None:
    """Whether it was switched is read from the recurring run."""
    scripted.on("POST", r":(en|dis)able$", BROKEN[fault]).on("GET", ONE, answers(200, made()))
    assert kfp.enable(ID, call()).enabled
    with pytest.raises(errors.KfpUnavailableError):
        kfp.disable(ID, call())
    assert len(scripted.paths("POST")) == 2


# --- lists --------------------------------------------------------------------------------------------------------


def test_a_list_of_an_experiment(scripted: ScriptedKfp, kfp: RecurringRuns) -> None:
    """The experiment is looked up, by name too: KFP would answer with an empty list for an unknown one."""
    scripted.on("GET", r"/experiments\?", played("list by name", "experiments"), answers(200, {}))
    scripted.on("GET", LIST, listing(made()))
    where = ListRecurringRunsRequest(ExperimentRef(name="exp", namespace="team-a"), "team-a")
    assert kfp.list(where, PageRequest(), call()).total_size == 1
    query = query_of(scripted.paths("GET")[-1])
    assert (query["experiment_id"], query["namespace"]) == (placed("EXPERIMENT"), "team-a")
    with pytest.raises(errors.ExperimentNotFoundError):
        kfp.list(where, PageRequest(), call())

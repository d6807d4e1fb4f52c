"""A run is started once for each request id, whatever happens to the connection, and as it was requested."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.connecting import connect
from tests.repository.conftest import call
from tests.runs_kfp import DEFAULT, EXPERIMENT, NAME, NOBODY, OLDER, PIPELINE, VERSION, Fault, RunsKfp, refused, spec_of
from tests.scripted_kfp import answers, resets, sends, stalls

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.labels import ORIGIN_LABEL, split_labels
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.runs import CreateRunRequest, RunState, run_id_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.scripted_kfp import Connection, Received

    from kfadapter_grpc.kfp.runs import Runs

WANTED = CreateRunRequest(PipelineRef(name=NAME), VersionRef(), parameters={"s": "값", "i": 3.0})
REPEATABLE = replace(WANTED, request_id="r-1")
RUN = run_id_for("r-1")


@pytest.fixture
def others(kfp: RunsKfp) -> Iterator[Runs]:
    """The repository of another adapter in front of the same KFP."""
    backend = connect(kfp.url)
    yield backend.runs
    backend.close()


def test_the_latest_version_with_typed_parameters(kfp: RunsKfp, runs: Runs) -> None:
    """KFP gets the version's id, integers as integers, and a name; the answer is the run."""
    run = runs.create(WANTED, call())
    (body,) = kfp.posts()
    assert body["pipeline_version_reference"] == {"pipeline_id": PIPELINE, "pipeline_version_id": VERSION}
    assert json.dumps(body["runtime_config"]) == json.dumps({"parameters": {"s": "값", "i": 3}})
    assert (run.pipeline_id, run.pipeline_version_id, run.state) == (PIPELINE, VERSION, RunState.PENDING)
    assert run.display_name.startswith(f"{NAME} 20")
    assert str(uuid.UUID(run.run_id)) == body["run_id"]
    assert "experiment_id" not in body
    assert "description" not in body


def test_everything_that_can_be_said(kfp: RunsKfp, runs: Runs) -> None:
    """Ids or names, the experiment, description, labels and the service account reach KFP, and are returned."""
    wanted = replace(
        WANTED,
        pipeline=PipelineRef(PIPELINE),
        version=VersionRef(name="1"),
        experiment=ExperimentRef(name="실험"),
        display_name="이름",
        description="설명",
        labels={"team": "비전"},
        service_account="trainer",
    )
    run = runs.create(wanted, call())
    assert kfp.posts()[0]["description"] == '설명\nkfadapter: {"team":"비전"}'
    assert (run.display_name, run.description, run.labels) == ("이름", "설명", {"team": "비전"})
    assert (run.experiment_id, run.service_account, run.pipeline_version_id) == (EXPERIMENT, "trainer", OLDER)


def test_a_name_is_made_of_a_pipeline_that_was_named_by_id(runs: Runs) -> None:
    """The pipeline's name is looked up."""
    assert runs.create(replace(WANTED, pipeline=PipelineRef(PIPELINE)), call()).display_name.startswith(f"{NAME} ")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"pipeline": PipelineRef(name="없음")}, errors.PipelineNotFoundError),
        ({"pipeline": PipelineRef(NOBODY)}, errors.PipelineNotFoundError),
        ({"version": VersionRef(NOBODY)}, errors.VersionNotFoundError),
        ({"version": VersionRef(name="3")}, errors.VersionNotFoundError),
        ({"experiment": ExperimentRef(NOBODY)}, errors.ExperimentNotFoundError),
        ({"experiment": ExperimentRef(name="없음")}, errors.ExperimentNotFoundError),
        ({"parameters": {"s": "x", "nope": 1.0}}, errors.ParameterUnknownError),
        ({"parameters": {"s": 1.0}}, errors.ParameterTypeError),
        ({"parameters": {}}, errors.ParameterMissingError),
    ],
)
@pytest.mark.parametrize("validate_only", [False, True])
def test_what_cannot_be_started(
    kfp: RunsKfp,
    runs: Runs,
    change: dict[str, object],
    error: type[errors.AdapterError],
    validate_only: bool,
) -> None:
    """Nothing is started; the error is the same with validate_only and without."""
    with pytest.raises(error):
        runs.create(replace(WANTED, validate_only=validate_only, **change), call())  # type: ignore[arg-type]
    assert kfp.runs == {}


def test_a_missing_experiment_is_named(runs: Runs) -> None:
    """The error is about the experiment, not about the requested run."""
    with pytest.raises(errors.ExperimentNotFoundError) as caught:
        runs.create(replace(WANTED, experiment=ExperimentRef(NOBODY)), call())
    assert caught.value.resource_name == NOBODY


def test_a_version_that_goes_meanwhile(kfp: RunsKfp, runs: Runs) -> None:
    """KFP's 500 becomes VERSION_NOT_FOUND of that version."""
    text = f"Failed to fetch a pipeline version: PipelineVersion {VERSION} not found"
    gone = answers(500, {"code": 13, "message": text, "details": [{"message": "Internal Server Error"}]})
    kfp.faults = [Fault(stored=False, behaviour=gone)]
    with pytest.raises(errors.VersionNotFoundError, match="was deleted meanwhile"):
        runs.create(WANTED, call())


def test_an_experiment_is_made_on_demand(kfp: RunsKfp, runs: Runs) -> None:
    """Only if requested, and not with validate_only."""
    wanted = replace(WANTED, experiment=ExperimentRef(name="새 실험"), create_experiment=True)
    assert runs.create(replace(wanted, validate_only=True), call()).experiment_id == ""
    assert "새 실험" not in kfp.experiments.values()
    run = runs.create(wanted, call())
    assert kfp.experiments[run.experiment_id] == "새 실험"


def test_a_namespace_has_a_default_experiment_of_its_own(kfp: RunsKfp, runs: Runs) -> None:
    """A KFP with namespaces has no default, so the experiment named Default is looked up."""
    assert runs.create(replace(WANTED, namespace="team-a"), call()).experiment_id == DEFAULT
    kfp.experiments.clear()
    with pytest.raises(errors.ExperimentNotFoundError, match="experiment 'Default'"):
        runs.create(replace(WANTED, namespace="team-a"), call())


def test_a_check_starts_nothing(kfp: RunsKfp, runs: Runs) -> None:
    """The answer is the run as it would be started, without state and times."""
    run = runs.create(replace(REPEATABLE, validate_only=True, labels={"a": "b"}), call())
    assert kfp.posts() == []
    assert (run.run_id, run.pipeline_version_id, run.parameters) == (RUN, VERSION, {"s": "값", "i": 3})
    assert (run.labels, run.state, run.created_at) == ({"a": "b"}, RunState.UNKNOWN, None)


def test_a_platform_spec_is_no_obstacle(kfp: RunsKfp, runs: Runs) -> None:
    """Parameters are checked against the pipeline spec inside the wrapper."""
    kfp.spec = spec_of("kubernetes_platform")
    with pytest.raises(errors.ParameterUnknownError):
        runs.create(replace(WANTED, parameters={"nope": 1.0}), call())


# --- caching ----------------------------------------------------------------------------------------------------


def test_without_caching(kfp: RunsKfp, runs: Runs) -> None:
    """KFP gets the spec with caching disabled in every task; the run still reports the version it was started from."""
    run = runs.create(replace(WANTED, caching_enabled=False, description="설명", labels={"a": "b"}), call())
    (body,) = kfp.posts()
    assert '"enableCache": true' in json.dumps(kfp.spec)
    assert '"enableCache": true' not in json.dumps(body["pipeline_spec"])
    assert "pipeline_version_reference" not in body
    assert (run.pipeline_id, run.pipeline_version_id) == (PIPELINE, VERSION)
    assert (run.description, run.labels, run.caching_disabled) == ("설명", {"a": "b"}, True)
    assert ORIGIN_LABEL in split_labels(str(body["description"]))[1]


def test_a_workflow_has_no_such_switch(kfp: RunsKfp, runs: Runs) -> None:
    """UNSUPPORTED_BY_KFP for a KFP v1 pipeline."""
    kfp.spec = spec_of("argo_v1_workflow")
    with pytest.raises(errors.UnsupportedByKfpError, match="v1"):
        runs.create(replace(WANTED, caching_enabled=False, parameters={"b": "3"}), call())


def test_a_workflows_parameters_are_texts(kfp: RunsKfp, runs: Runs) -> None:
    """Its names are checked; its types are only the author's labels."""
    kfp.spec = spec_of("argo_v1_workflow")
    assert runs.create(replace(WANTED, parameters={"b": "3"}), call()).parameters == {"b": "3"}
    with pytest.raises(errors.ParameterUnknownError):
        runs.create(replace(WANTED, parameters={"b": "3", "nope": "3"}), call())


# --- request ids ------------------------------------------------------------------------------------------------


def test_a_repeated_request_is_the_same_run(kfp: RunsKfp, runs: Runs, others: Runs) -> None:
    """The run's id is derived from the request id; a repeated call finds the run, in any adapter."""
    first = runs.create(REPEATABLE, call())
    assert first.run_id == RUN
    assert runs.create(REPEATABLE, call()) == others.create(REPEATABLE, call()) == first
    assert len(kfp.posts()) == 1


def test_a_repeated_request_after_all_is_gone(kfp: RunsKfp, runs: Runs) -> None:
    """This holds even if there is a newer version, or if pipeline and experiment were deleted."""
    wanted = replace(REPEATABLE, experiment=ExperimentRef(name="실험"))
    first = runs.create(replace(wanted, version=VersionRef()), call())
    kfp.versions.clear()
    kfp.experiments.clear()
    assert runs.create(wanted, call()) == first


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"parameters": {"s": "다른 값", "i": 3.0}}, "parameters"),
        ({"parameters": {"s": "값", "i": 3.0, "b": True}}, "parameters"),
        ({"parameters": {"s": "값"}}, "parameters"),
        ({"version": VersionRef(OLDER)}, "version"),
        ({"version": VersionRef(name="1")}, "version"),
        ({"pipeline": PipelineRef(NOBODY)}, "pipeline"),
        ({"experiment": ExperimentRef(name="실험")}, "experiment"),
        ({"experiment": ExperimentRef(EXPERIMENT)}, "experiment"),
        ({"display_name": "다른 이름"}, "display_name"),
        ({"description": "다른 설명"}, "description"),
        ({"labels": {"a": "b"}}, "labels"),
        ({"service_account": "other"}, "service_account"),
        ({"caching_enabled": False}, "caching_enabled"),
    ],
)
@pytest.mark.parametrize("validate_only", [False, True])
def test_a_request_id_with_another_content(
    kfp: RunsKfp,
    runs: Runs,
    change: dict[str, object],
    named: str,
    validate_only: bool,
) -> None:
    """REQUEST_ID_REUSED, which names the difference."""
    runs.create(replace(REPEATABLE, display_name="이름"), call())
    with pytest.raises(errors.RequestIdReusedError) as caught:
        runs.create(
            replace(REPEATABLE, validate_only=validate_only, **{"display_name": "이름", **change}),  # type: ignore[arg-type]
            call(),
        )
    assert caught.value.metadata["different"] == named
    assert len(kfp.posts()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"pipeline": PipelineRef(PIPELINE.upper())},
        {"version": VersionRef(VERSION)},
        {"version": VersionRef(name="2")},
        {"experiment": ExperimentRef(DEFAULT)},
        {"experiment": ExperimentRef(name="Default")},
        {"parameters": {"i": 3, "s": "값"}},
        {"parameters": {"s": "값", "i": 3.0}},
        {"service_account": "pipeline-runner"},
        {"display_name": "이름"},
    ],
)
def test_the_same_content_in_other_words(kfp: RunsKfp, runs: Runs, change: dict[str, object]) -> None:
    """Equivalent requests are the same request."""
    runs.create(replace(REPEATABLE, display_name="이름"), call())
    assert runs.create(replace(REPEATABLE, **change), call()).run_id == RUN  # type: ignore[arg-type]
    assert len(kfp.posts()) == 1


def test_large_and_small_numbers_are_the_same_after_kfp(kfp: RunsKfp, runs: Runs) -> None:
    """However KFP writes a number, it is compared by value."""
    wanted = replace(REPEATABLE, parameters={"s": "값", "f": 1e20, "d": {"x": [1.0, 2.5e-7, True]}})
    runs.create(wanted, call())
    kfp.runs[RUN]["runtime_config"] = {"parameters": {"s": "값", "f": 10**20, "d": {"x": [1, 0.00000025, True]}}}
    assert runs.create(wanted, call()).run_id == RUN
    kfp.runs[RUN]["runtime_config"] = {"parameters": {"s": "값", "f": 10**20, "d": {"x": [1, 0.00000025, 1]}}}
    with pytest.raises(errors.RequestIdReusedError):
        runs.create(wanted, call())


def test_namespaces_have_their_own_request_ids(kfp: RunsKfp, runs: Runs) -> None:
    """The same request id in two namespaces starts two runs."""
    ids = {runs.create(replace(REPEATABLE, namespace=one), call()).run_id for one in ("", "team-a", "team-b")}
    assert len(ids) == 3
    assert ids == set(kfp.runs)


BREAKS = {
    "reset": resets(),
    "closed": sends(b"", then_close=True),
    "half a head": sends(b"HTTP/1.1 200 OK\r\n", then_close=True),
    "half a body": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{", then_close=True),
    "500": refused(500, 13, "Internal Server Error"),
    "400": refused(400, 3, "no"),
    "409": refused(409, 6, "no"),
    "404": answers(404, b"404 page not found"),
    "429": answers(429, b"slow down"),
    "502": answers(502, b"<html>bad gateway</html>", content_type="text/html"),
    "503": answers(503, b"<html>upstream</html>", content_type="text/html"),
    "nonsense": answers(200, b"{"),
    "a web page": answers(200, b"<html>login</html>", content_type="text/html"),
    "silence": stalls(),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BREAKS)
def test_a_fault_after_the_run_was_started(kfp: RunsKfp, runs: Runs, fault: str) -> None:
    """Whatever the error, a lookup finds the run, and returns it; a repeated call finds it, too."""
    kfp.faults = [Fault(stored=True, behaviour=BREAKS[fault])]
    run = runs.create(REPEATABLE, call(1 if fault == "silence" else 20))
    assert run.run_id == RUN
    assert runs.create(REPEATABLE, call()).run_id == RUN
    assert len(kfp.posts()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", BREAKS)
def test_a_fault_before_the_run_was_started(kfp: RunsKfp, runs: Runs, fault: str) -> None:
    """An error is returned, nothing is resent automatically, and a repeated call starts the run."""
    kfp.faults = [Fault(stored=False, behaviour=BREAKS[fault])]
    with pytest.raises(errors.AdapterError):
        runs.create(REPEATABLE, call(1 if fault == "silence" else 20))
    assert len(kfp.posts()) == 1
    assert runs.create(REPEATABLE, call()).run_id == RUN
    assert list(kfp.runs) == [RUN]


LOOK = rf"/runs/{RUN}$"


@pytest.mark.parametrize("fault", [name for name in BREAKS if name not in {"silence", "409"}])
def test_a_fault_of_the_first_look(kfp: RunsKfp, runs: Runs, fault: str) -> None:
    """Nothing is started before it is known that the run does not exist; a repeated call starts it."""
    kfp.server.first("GET", LOOK, *[BREAKS[fault]] * 3)
    with pytest.raises(errors.AdapterError):
        runs.create(REPEATABLE, call())
    assert kfp.posts() == []
    kfp.server.first("GET", LOOK, kfp.serve)
    assert runs.create(REPEATABLE, call()).run_id == RUN


@pytest.mark.parametrize("fault", [name for name in BREAKS if name not in {"silence", "409"}])
def test_a_fault_of_the_look_after_a_fault(kfp: RunsKfp, runs: Runs, fault: str) -> None:
    """The first error is reported, with what to do; a repeated call finds the run."""
    kfp.faults = [Fault(stored=True, behaviour=resets())]
    kfp.server.first("GET", LOOK, kfp.serve, *[BREAKS[fault]] * 3)
    with pytest.raises(errors.KfpUnavailableError, match="same request_id"):
        runs.create(REPEATABLE, call())
    kfp.server.first("GET", LOOK, kfp.serve)
    assert runs.create(REPEATABLE, call()).run_id == RUN
    assert len(kfp.posts()) == 1


@pytest.mark.parametrize(("request_id", "advice"), [("r-1", "same request_id"), ("", "check ")])
def test_an_unknown_outcome_is_said(kfp: RunsKfp, runs: Runs, request_id: str, advice: str) -> None:
    """The error says that the outcome is unknown, what to do, and the id that the run would have."""
    kfp.faults = [Fault(stored=False, behaviour=resets())]
    with pytest.raises(errors.KfpUnavailableError, match=advice) as caught:
        runs.create(replace(WANTED, request_id=request_id), call())
    assert caught.value.metadata["run_id"] == kfp.posts()[0]["run_id"]


def test_without_a_request_id_a_broken_answer_is_looked_after_all_the_same(kfp: RunsKfp, runs: Runs) -> None:
    """The adapter chooses the id of every run, so it can look it up; the request to KFP has the call's request id."""
    kfp.faults = [Fault(stored=True, behaviour=resets())]
    creating = call()
    assert runs.create(WANTED, creating).run_id in kfp.runs
    assert len(kfp.posts()) == 1
    assert {request.headers["x-request-id"] for request in kfp.server.requests} == {creating.request_id}


def _once(actions: Iterator[Callable[[], object]]) -> None:
    """Does the next thing, or nothing if all are done."""
    action = next(actions, None)
    if action:
        action()


def test_ten_copies_at_once_from_two_adapters(kfp: RunsKfp, runs: Runs, others: Runs) -> None:
    """One run is started and returned ten times, though both adapters looked before either sent a request to KFP."""
    both_have_looked = threading.Barrier(2)
    looks = iter([both_have_looked.wait] * 2)
    kfp.before_look = lambda: _once(looks)
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(one.create, REPEATABLE, call()) for one in (runs, others) for _ in range(5)]
        assert {one.result().run_id for one in calls} == {RUN}
    assert list(kfp.runs) == [RUN]
    assert len(kfp.posts()) == 2


def test_two_contents_at_once_from_two_adapters(kfp: RunsKfp, runs: Runs, others: Runs) -> None:
    """One succeeds, the other gets the error that the request id is used."""
    both_have_looked = threading.Barrier(2)
    looks = iter([both_have_looked.wait] * 2)
    kfp.before_look = lambda: _once(looks)
    other = replace(REPEATABLE, parameters={"s": "다른 값"})
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(runs.create, REPEATABLE, call()), pool.submit(others.create, other, call())]
        failures = [one.exception() for one in calls]
    assert [type(one) for one in failures if one] == [errors.RequestIdReusedError]
    assert list(kfp.runs) == [RUN]


def test_a_caller_who_goes_away(kfp: RunsKfp, runs: Runs) -> None:
    """The call ends with CANCELLED; whether the run was started is found by a repeated call."""
    mine = call()

    def goes_away(connection: Connection, received: Received) -> bool:
        mine.cancel()
        return stalls()(connection, received)

    kfp.faults = [Fault(stored=True, behaviour=goes_away)]
    with pytest.raises(errors.CallCancelledError):
        runs.create(REPEATABLE, mine)
    assert runs.create(REPEATABLE, call()).run_id == RUN
    assert len(kfp.posts()) == 1

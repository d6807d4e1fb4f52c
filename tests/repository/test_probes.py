from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.old_kfp import OldKfp
from tests.recorded_runs import in_v1beta1, recorded
from tests.repository.conftest import call
from tests.scripted_kfp import answers

from kfadapter_grpc.kfp.probes import PROBES, Outcome, measure
from kfadapter_grpc.kfp.probes.session import NAME_PREFIX, NO_SAMPLE, ProbeSession
from kfadapter_grpc.kfp.rest import V2
from kfadapter_grpc.kfp.transport import Request, Transport, TransportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scripted_kfp import Behaviour, ScriptedKfp

    from kfadapter_grpc.kfp.probes import Finding

TOLD_BY_RUNS = {"default-retry", "plugins", "log-archive"}
"""What only a run that has ended tells."""
WRITING = [probe.name for probe in PROBES if probe.writes]


@pytest.fixture
def transport(embedded_url: str) -> Iterator[Transport]:
    """The transport to the embedded KFP."""
    with closing(Transport(TransportSettings(embedded_url))) as made:
        yield made


def probed(url: str, *, write: bool) -> dict[str, Finding]:
    """Probes a KFP; nothing may be left behind."""
    left: list[str] = []
    findings = {one.probe.name: one for one in measure(TransportSettings(url), write=write, left_behind=left.append)}
    assert left == []
    return findings


def made_by_probes(transport: Transport) -> list[str]:
    """The names of what probes created recently and did not delete; those of other tests may fill more than a page."""
    names: list[str] = []
    for kind in ("pipelines", "runs"):
        request = Request("GET", f"{V2}/{kind}", [("page_size", "200"), ("sort_by", "created_at desc")])
        names += [one["display_name"] for one in json.loads(transport.send(request, call()).body).get(kind, ())]
    return [name for name in names if name.startswith(NAME_PREFIX)]


def make_all(session: ProbeSession) -> None:
    """Creates a pipeline, a version and a run."""
    for probe in PROBES:
        if probe.name in {"empty-pipeline", "named-version", "chosen-run-id"}:
            probe.look(session)


@pytest.mark.slow
def test_every_fact_holds_for_the_embedded_kfp(embedded_url: str, transport: Transport) -> None:
    """All facts hold for the embedded KFP, and everything created for them is deleted."""
    findings = probed(embedded_url, write=True)
    assert list(findings) == [probe.name for probe in PROBES]
    assert {name: one.found for name, one in findings.items() if not is_well(one)} == {}
    assert made_by_probes(transport) == []


def test_what_an_older_kfp_lacks(embedded_url: str, transport: Transport) -> None:
    """Exactly the facts that are declared not to hold for 2.5 do not hold there; everything is deleted there, too."""
    with OldKfp(embedded_url) as old:
        findings = probed(old.url, write=True)
    differs = {name for name, one in findings.items() if one.outcome is Outcome.DIFFERS}
    assert differs == {probe.name for probe in PROBES if probe.older.startswith("no")}
    assert all(is_well(findings[name]) for name in findings if name not in differs)
    assert made_by_probes(transport) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "set_retry_not_retried",
            {
                "default-retry": (Outcome.DIFFERS, "templateDefaults.retryStrategy has the policy OnError"),
                "plugins": (Outcome.DIFFERS, "mlflow: MLflow terminal sync skipped: missing parent root_run_id"),
                "log-archive": (Outcome.HOLDS, "2 archived logs in the newest run that has ended"),
            },
        ),
        (
            "old_loop",
            {
                "default-retry": (Outcome.HOLDS, "no default retries"),
                "plugins": (Outcome.DIFFERS, "mlflow: MLflow terminal sync skipped: missing parent root_run_id"),
                "log-archive": (Outcome.HOLDS, "13 archived logs in the newest run that has ended"),
            },
        ),
    ],
)
def test_how_a_kfp_was_installed(
    scripted: ScriptedKfp, name: str, told: dict[str, tuple[Outcome, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest finished run shows default retries, plugins and archived logs, as 2.17.0 served it."""
    stage = recorded(name)[-1]
    scripted.on("GET", r"/v2beta1/runs\?", answers(200, {"runs": [stage["run"]]}))
    scripted.on("GET", "/v1beta1/runs/", answers(200, in_v1beta1(stage)))
    _check_installed(scripted.url, monkeypatch, told)


@pytest.mark.parametrize(
    ("runs", "run", "found"),
    [
        (answers(200, {}), answers(200, {}), "no run has ended there yet"),
        (answers(200, {"runs": [{"run_id": "r"}]}), answers(404, {}), "shows no workflow"),
        (answers(200, {"runs": [{"run_id": "r"}]}), answers(200, {"run": {}}), "shows no workflow"),
        (answers(200, {"runs": [{"run_id": "r"}]}), answers(200, b"[" * 9999), "it cannot be read"),
        (answers(403, {}), answers(200, {}), "HTTP 403"),
    ],
)
def test_where_nothing_tells_how_it_was_installed(
    scripted: ScriptedKfp, runs: Behaviour, run: Behaviour, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a finished run, or its workflow, how KFP was installed is unknown."""
    scripted.on("GET", r"/v2beta1/runs\?", runs).on("GET", "/v1beta1/runs/", run)
    told = dict.fromkeys(("default-retry", "log-archive"), (Outcome.UNKNOWN, found))
    _check_installed(scripted.url, monkeypatch, told)


def test_logs_that_are_not_archived(scripted: ScriptedKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods that succeeded without an archived log show that there is no archive."""
    nodes = {"a": {"type": "Pod", "phase": "Succeeded"}, "b": {"type": "DAG", "phase": "Succeeded"}}
    manifest = json.dumps({"status": {"nodes": nodes}})
    scripted.on("GET", r"/v2beta1/runs\?", answers(200, {"runs": [{"run_id": "r"}]}))
    scripted.on("GET", "/v1beta1/runs/", answers(200, {"pipeline_runtime": {"workflow_manifest": manifest}}))
    _check_installed(scripted.url, monkeypatch, {"log-archive": (Outcome.DIFFERS, "has no archived logs")})


def _check_installed(url: str, monkeypatch: pytest.MonkeyPatch, told: dict[str, tuple[Outcome, str]]) -> None:
    """These probes, run alone, find this."""
    chosen = tuple(probe for probe in PROBES if probe.name in told)
    monkeypatch.setattr("kfadapter_grpc.kfp.probes.PROBES", chosen)
    findings = probed(url, write=False)
    for name, (outcome, found) in told.items():
        assert (findings[name].outcome, found in findings[name].found) == (outcome, True), findings[name].found


def is_well(finding: Finding) -> bool:
    """Whether a fact holds; how a KFP was installed is known only if a run with a workflow has finished."""
    unknown = finding.outcome is Outcome.UNKNOWN and finding.probe.name in TOLD_BY_RUNS
    return unknown or finding.outcome is Outcome.HOLDS


def test_without_the_flag_nothing_is_written(embedded_url: str) -> None:
    """Unless writes are allowed, only GET is sent, and the probes that write are skipped."""
    with OldKfp(embedded_url) as old:
        findings = probed(old.url, write=False)
        assert old.paths("GET")
        assert [old.paths(method) for method in ("POST", "DELETE", "PATCH")] == [[], [], []]
    assert set(findings).isdisjoint(WRITING)


@pytest.mark.slow
@pytest.mark.parametrize("count", range(1, len(PROBES) + 1))
def test_an_interruption_leaves_nothing_behind(count: int, embedded_url: str, transport: Transport) -> None:
    """Whenever probing is stopped, what was created until then is deleted."""
    left: list[str] = []
    with closing(measure(TransportSettings(embedded_url), write=True, left_behind=left.append)) as findings:
        for _ in range(count):
            next(findings)
    assert left == []
    assert made_by_probes(transport) == []


@pytest.mark.parametrize("what", ["pipeline", "version", "run"])
def test_an_interruption_before_the_answer(what: str, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was created, though its answer was never read, is found and deleted."""
    session = ProbeSession(transport, "", multi_user=False)

    ask = session.ask
    paths = {"pipeline": "/pipelines", "version": "/upload_version", "run": "/runs"}

    def interrupted(request: Request, *arguments: Any) -> object:  # noqa: ANN401 - handed on
        answer = ask(request, *arguments)
        if request.method == "POST" and request.path.endswith(paths[what]):
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(session, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_all(session)
    monkeypatch.undo()
    assert made_by_probes(transport) != []
    assert session.delete_all() == ""
    assert made_by_probes(transport) == []


def test_impatience_is_told_what_is_left(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the cleanup is interrupted, too, the message says what to look for."""
    session = ProbeSession(transport, "", multi_user=False)
    left: list[str] = []

    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "delete_all", interrupted)
    with pytest.raises(KeyboardInterrupt), session.cleanup(left.append):
        pass
    (told,) = left
    assert session.name in told
    assert session.run_id in told


def test_what_cannot_be_deleted_is_told(scripted: ScriptedKfp) -> None:
    """A pipeline that KFP does not delete is reported by its name."""
    scripted.on("POST", "/pipelines$", answers(200, {"pipeline_id": "p", "name": "x"}))
    scripted.on("GET", "/versions", answers(200, {}))
    scripted.on("GET", "/pipelines/names/", answers(200, {"pipeline_id": "p", "name": "x"}))
    scripted.on("GET", "", answers(200, {}))
    scripted.on("DELETE", "", answers(500, {"message": "no"}))
    left: list[str] = []
    with closing(measure(TransportSettings(scripted.url), write=True, left_behind=left.append)) as findings:
        next(findings)
    (told,) = left
    assert told.startswith(f"pipeline {NAME_PREFIX}")


def test_an_empty_kfp(scripted: ScriptedKfp) -> None:
    """Without pipelines, facts about pipelines are unknown, and the others are reported."""
    scripted.on("GET", "page_token", answers(400, {"code": 3, "message": "invalid page token"}))
    scripted.on("GET", "/(pipelines|runs)/", answers(404, {"code": 5, "message": "not found"}))
    scripted.on("GET", "", answers(200, {}))
    findings = probed(scripted.url, write=False)
    unknown = {name for name, one in findings.items() if one.outcome is Outcome.UNKNOWN}
    assert unknown == {"names-apart", "lookup-by-name", "cheap-list", *TOLD_BY_RUNS}
    assert {findings[name].found for name in unknown - TOLD_BY_RUNS} == {NO_SAMPLE}
    assert {one.outcome for name, one in findings.items() if name not in unknown} == {Outcome.HOLDS}


def test_a_kfp_that_ignores_filters(scripted: ScriptedKfp) -> None:
    """Ignored filters, lists with specs, and a name that finds another pipeline are facts that do not hold."""
    pipelines = {"pipelines": [{"pipeline_id": "p", "display_name": "x"}], "total_size": 1}
    versions = {"versions": [{"id": "v", "pipeline_spec": {"pipelineInfo": {"name": "x"}}}]}
    scripted.on("GET", "v1beta1/pipeline_versions", answers(200, versions))
    scripted.on("GET", "/pipelines/names/", answers(200, {"pipeline_id": "other"}))
    scripted.on("GET", "/runs", answers(200, {"runs": [{"run_id": "r"}]}))
    scripted.on("GET", "", answers(200, pipelines))
    findings = probed(scripted.url, write=False)
    outcomes = {name: one.outcome for name, one in findings.items() if name not in TOLD_BY_RUNS}
    assert set(outcomes.values()) == {Outcome.HOLDS, Outcome.DIFFERS}
    assert [name for name, outcome in outcomes.items() if outcome is Outcome.HOLDS] == ["large-pages"]


def test_runs_of_a_kfp_for_several_users(scripted: ScriptedKfp) -> None:
    """Without an experiment, no run is created on a multi-user KFP; without a namespace, no runs are listed."""
    pipeline = {"pipeline_id": "p", "name": "x"}
    version = {"pipeline_version_id": "v", "pipeline_id": "p"}
    scripted.on("POST", "/upload_version", answers(200, version)).on("POST", "", answers(200, pipeline))
    scripted.on("DELETE", "", answers(200, {}))
    scripted.on("GET", "/names/", answers(200, pipeline)).on("GET", "/runs/", answers(404, {"message": "none"}))
    scripted.on("GET", "", answers(200, {}))
    settings = TransportSettings(scripted.url)
    findings = {one.probe.name: one.found for one in measure(settings, "team-a", multi_user=True, write=True)}
    assert findings["chosen-run-id"] == "not found: an experiment in the namespace 'team-a' to run in"
    assert findings["run-by-state"] == "the run for it could not be started"
    assert "/runs" not in "".join(scripted.paths("POST"))
    findings = {one.probe.name: one.found for one in measure(settings, multi_user=True)}
    assert "no namespace is set" in findings["run-filter"]


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403, 503])
def test_who_is_not_let_in_learns_nothing(status: int, scripted: ScriptedKfp) -> None:
    """An error about credentials, or a temporary one, says nothing about any fact."""
    scripted.on("GET", "", answers(status, {"code": 16, "message": "no"}))
    findings = probed(scripted.url, write=False)
    unclear = {name for name, one in findings.items() if one.outcome is Outcome.UNKNOWN}
    assert unclear == set(findings)

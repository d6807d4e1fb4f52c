"""Artifacts and metrics of runs: which are returned, in which pages, and how one bad run affects the others."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from tests.made_runs import AT, READABLE, FakeRuns, made, run_of

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.artifacts import ListArtifactsRequest
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.listing import Page, PageRequest
from kfadapter_grpc.contract.run_outputs import RunOutput
from kfadapter_grpc.contract.runs import Run, RunFilter, RunSource, RunSourceState, RunState, RunTask
from kfadapter_grpc.kfp.artifacts import Artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.artifacts import MetricsOfRun
    from kfadapter_grpc.contract.run_outputs import RunArtifact
    from kfadapter_grpc.kfp.runs import Runs


@pytest.fixture
def runs() -> FakeRuns:
    """Five runs."""
    return FakeRuns({f"r{index}": run_of(f"r{index}", index) for index in range(5)})


@pytest.fixture
def artifacts(runs: FakeRuns) -> Iterator[Artifacts]:
    """Their artifacts."""
    made = Artifacts(cast("Runs", runs))
    yield made
    made.close()


def call(seconds: float = 20) -> Call:
    """A call with a deadline."""
    return Call("test", seconds)


def ids(found: tuple[Page[RunArtifact], object]) -> list[str]:
    """The ids of the artifacts of a page."""
    return [one.artifact_id for one in found[0].items]


def walk(artifacts: Artifacts, where: ListArtifactsRequest, size: int) -> list[str]:
    """The ids of all artifacts, page by page."""
    found: list[str] = []
    token = ""
    while True:
        page, _ = artifacts.list(where, PageRequest(size, token), call())
        assert len(page.items) <= size
        found += [one.artifact_id for one in page.items]
        token = page.next_token
        if not token:
            return found


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, ["train-0-metrics", "train-0-model", "train-1-metrics", "train-1-model"]),
        ({"task": "train"}, ["train-0-metrics", "train-0-model", "train-1-metrics", "train-1-model"]),
        ({"task": "each[1]/train"}, ["train-1-metrics", "train-1-model"]),
        ({"task": "train-0"}, ["train-0-metrics", "train-0-model"]),
        ({"task": "each"}, ["train-0-model", "train-1-model"]),
        ({"type": "Model"}, ["train-0-model", "train-1-model"]),
        ({"type": "system.Metrics", "task": "train-1"}, ["train-1-metrics"]),
        ({"name": "model"}, ["train-0-model", "train-1-model"]),
        ({"name": "없음"}, []),
    ],
)
def test_artifacts_of_a_run(artifacts: Artifacts, where: dict[str, str], expected: list[str]) -> None:
    """Each artifact is listed once, by its task; those that a group passes on are listed if the group is requested."""
    found = artifacts.list(ListArtifactsRequest(run_id="r0", **where), PageRequest(), call())  # type: ignore[arg-type]
    assert ids(found) == [f"r0-{one}" for one in expected]


def test_a_run_without_such_a_task(artifacts: Artifacts) -> None:
    """For one run an unknown task is an error; for many runs, those without such a task have no artifacts."""
    with pytest.raises(errors.TaskNotFoundError, match="'nothing'"):
        artifacts.list(ListArtifactsRequest(run_id="r0", task="nothing"), PageRequest(), call())
    assert ids(artifacts.list(ListArtifactsRequest(task="nothing"), PageRequest(), call())) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("run_id", ["", "r1"])
def test_pages_lose_and_repeat_nothing(artifacts: Artifacts, size: int, run_id: str) -> None:
    """With any page size each artifact is returned once, run by run."""
    where = ListArtifactsRequest(run_id=run_id)
    names = ["train-0-metrics", "train-0-model", "train-1-metrics", "train-1-model"]
    runs = [run_id] if run_id else [f"r{index}" for index in range(5)]
    assert walk(artifacts, where, size) == [f"{run}-{name}" for run in runs for name in names]


def test_a_page_is_no_larger_than_a_message(runs: FakeRuns, artifacts: Artifacts) -> None:
    """Artifacts with large metadata end a page early; a single one is always sent."""
    large = [replace(made("r0", "t", f"m{index}"), metadata={"x": "가" * 500_000}) for index in range(3)]
    runs.runs = {"r0": Run("r0", tasks=(RunTask("t", "t", outputs=(RunOutput.of("o", *large),)),))}
    for where in (ListArtifactsRequest(), ListArtifactsRequest(run_id="r0")):
        assert walk(artifacts, where, 100) == [one.artifact_id for one in large]
        assert len(artifacts.list(where, PageRequest(), call())[0].items) == 2


def test_get(artifacts: Artifacts) -> None:
    """An output or an input is found by its id, but not under another run."""
    assert artifacts.get("r0", "r0-train-1-model", call()).uri == "s3://b/model"
    assert artifacts.get("r0", "r0-imported", call()).type == "system.Dataset"
    with pytest.raises(errors.ArtifactNotFoundError, match="'r1-imported'"):
        artifacts.get("r0", "r1-imported", call())


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (RunSourceState.NOT_CONFIGURED, errors.UnsupportedByKfpError),
        (RunSourceState.NOT_SERVED, errors.UnsupportedByKfpError),
        (RunSourceState.UNREACHABLE, errors.KfpUnavailableError),
    ],
)
def test_outputs_that_are_not_known(
    runs: FakeRuns, artifacts: Artifacts, state: RunSourceState, kind: type[errors.AdapterError]
) -> None:
    """For one run, unknown outputs are an error with the source's message; for many, a warning and a source."""
    why = RunSource(state, "set mlmd_address")
    runs.runs["r1"] = Run("r1", sources=replace(READABLE, outputs=why))
    with pytest.raises(kind, match="set mlmd_address"):
        artifacts.list(ListArtifactsRequest(run_id="r1"), PageRequest(), call())
    with pytest.raises(kind, match="set mlmd_address"):
        artifacts.get("r1", "x", call())
    page, warnings = artifacts.list(ListArtifactsRequest(), PageRequest(), call())
    assert (len(page.items), warnings) == (16, ["run r1: set mlmd_address"])
    rows = artifacts.list_metrics(RunFilter(), PageRequest(), call()).items
    assert [row.source for row in rows] == [why if row.run_id == "r1" else READABLE.outputs for row in rows]


def test_tasks_that_are_not_known(runs: FakeRuns, artifacts: Artifacts) -> None:
    """Without tasks there are no outputs, whatever their source reports."""
    runs.runs["r1"] = Run("r1", sources=replace(READABLE, tasks=RunSource(RunSourceState.UNREACHABLE, "no tasks")))
    with pytest.raises(errors.KfpUnavailableError, match="no tasks"):
        artifacts.list(ListArtifactsRequest(run_id="r1"), PageRequest(), call())


def test_a_bad_run_fails_no_page(runs: FakeRuns, artifacts: Artifacts) -> None:
    """A run that cannot be read has what the list of runs had; one that was deleted meanwhile is left out."""
    runs.bad = {"r1": errors.KfpError("it broke"), "r3": errors.RunNotFoundError("gone")}
    page, warnings = artifacts.list(ListArtifactsRequest(), PageRequest(), call())
    assert (len(page.items), warnings) == (12, ["run r1: it broke"])
    rows = artifacts.list_metrics(RunFilter(), PageRequest(), call())
    assert [row.run_id for row in rows.items] == ["r0", "r1", "r2", "r4"]
    bad = rows.items[1]
    assert (bad.display_name, bad.parameters, bad.metrics) == ("이름 r1", {"n": 7}, ())
    assert bad.source == RunSource(RunSourceState.UNREACHABLE, "it broke")


def test_metrics(artifacts: Artifacts) -> None:
    """A row has the run, its parameters and its metrics by task."""
    page = artifacts.list_metrics(RunFilter(), PageRequest(2), call())
    assert (len(page.items), page.total_size) == (2, 5)
    row = page.items[1]
    assert (row.run_id, row.state, row.created_at) == ("r1", RunState.SUCCEEDED, AT)
    assert [(one.task, one.output, one.name, one.value) for one in row.metrics] == [
        ("each[0]/train", "metrics", "accuracy", 1.0),
        ("each[1]/train", "metrics", "accuracy", 2.0),
    ]


def all_rows(artifacts: Artifacts, size: int = 100) -> list[MetricsOfRun]:
    """The rows of all pages."""
    page = artifacts.list_metrics(RunFilter(), PageRequest(size), call())
    rows = list(page.items)
    while page.next_token:
        page = artifacts.list_metrics(RunFilter(), PageRequest(size, page.next_token), call())
        rows += page.items
    return rows


def test_pages_of_metrics(runs: FakeRuns, artifacts: Artifacts) -> None:
    """At most 100 runs are read for a page, and no page exceeds the size of a message."""
    runs.runs = {f"r{index}": run_of(f"r{index}") for index in range(250)}
    assert len(artifacts.list_metrics(RunFilter(), PageRequest(1000), call()).items) == 100
    assert [row.run_id for row in all_rows(artifacts)] == list(runs.runs)
    runs.runs = {key: replace(one, parameters={"x": "x" * 1_000_000}) for key, one in list(runs.runs.items())[:10]}
    assert len(artifacts.list_metrics(RunFilter(), PageRequest(), call()).items) == 3
    assert [row.run_id for row in all_rows(artifacts)] == list(runs.runs)


def test_runs_are_read_at_once_but_not_all(runs: FakeRuns, artifacts: Artifacts) -> None:
    """Runs are read in parallel, up to a limit."""
    runs.runs, runs.seconds = {f"r{index}": run_of(f"r{index}") for index in range(40)}, 0.02
    assert [row.run_id for row in artifacts.list_metrics(RunFilter(), PageRequest(), call()).items] == list(runs.runs)
    assert 1 < runs.most_at_once <= 8


def test_time_that_is_up_ends_a_page(runs: FakeRuns, artifacts: Artifacts) -> None:
    """At the deadline the page has what was read, and the next page the rest; if nothing was read, it is an error."""
    runs.runs, runs.seconds = {f"r{index}": run_of(f"r{index}") for index in range(60)}, 0.2
    page = artifacts.list_metrics(RunFilter(), PageRequest(), call(1.2))
    assert 0 < len(page.items) < 60
    runs.seconds = 0
    rest = artifacts.list_metrics(RunFilter(), PageRequest(100, page.next_token), call())
    assert [row.run_id for row in (*page.items, *rest.items)] == list(runs.runs)
    runs.seconds = 5
    with pytest.raises(errors.KfpTimeoutError):
        artifacts.list_metrics(RunFilter(), PageRequest(), call(0.6))


def test_a_cancelled_call_ends_at_once(runs: FakeRuns, artifacts: Artifacts) -> None:
    """When a call is cancelled, its reads of runs are cancelled, and no others begin."""
    runs.runs, runs.seconds = {f"r{index}": run_of(f"r{index}") for index in range(60)}, 30
    mine = call(60)
    timer = threading.Timer(0.1, mine.cancel)
    timer.start()
    with pytest.raises(errors.CallCancelledError):
        artifacts.list_metrics(RunFilter(), PageRequest(), mine)
    assert len(runs.reads) <= 16


@pytest.mark.parametrize("token", ["x", "[1]", '["", [], -1]', '{"a": 1}', '["", "abc"]'])
def test_wrong_tokens(artifacts: Artifacts, token: str) -> None:
    """A token that no page returned is rejected."""
    with pytest.raises(errors.InvalidPageTokenError):
        artifacts.list_metrics(RunFilter(), PageRequest(100, token), call())

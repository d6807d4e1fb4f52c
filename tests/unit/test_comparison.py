"""Comparisons of runs and of pipeline specs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from kfadapter_grpc.client import Client, PipelineVersion, VersionNotFoundError
from kfadapter_grpc.client.pipelines import Pipelines
from kfadapter_grpc.comparison import (
    MISSING,
    ChangeKind,
    PartKind,
    RowKind,
    SpecChange,
    compare_runs,
    compare_specs,
    is_same,
    read_runs,
)
from kfadapter_grpc.contract.run_outputs import RunMetric
from kfadapter_grpc.contract.runs import Run, RunState
from kfadapter_grpc.contract.spec import (
    Artifact,
    KubernetesExtra,
    Parameter,
    ParameterType,
    SpecSummary,
    Task,
    TaskKind,
    TaskResources,
)

MADE = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)
WORDS = st.text("ab한", max_size=2)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=5,
)
METRICS = st.builds(RunMetric, WORDS, st.floats(), WORDS, WORDS)
RUNS = st.builds(
    Run,
    run_id=WORDS,
    state=st.sampled_from(RunState),
    pipeline_id=WORDS,
    pipeline_name=WORDS,
    parameters=st.dictionaries(WORDS, VALUES, max_size=3),
    metrics=st.lists(METRICS, max_size=3).map(tuple),
    created_at=st.none() | st.just(MADE),
    finished_at=st.none() | st.just(MADE + timedelta(seconds=5)),
)
PARAMETERS = st.builds(
    Parameter, WORDS, st.sampled_from(ParameterType), has_default=st.booleans(), default=VALUES, optional=st.booleans()
)
TASKS = st.recursive(
    st.builds(
        Task,
        WORDS,
        kind=st.sampled_from(TaskKind),
        image=WORDS,
        depends_on=st.lists(WORDS, max_size=2).map(tuple),
        resources=st.none() | st.builds(TaskResources, WORDS),
        kubernetes_extras=st.lists(st.builds(KubernetesExtra, WORDS, WORDS), max_size=2).map(tuple),
        max_retries=st.integers(0, 3),
    ),
    lambda inner: st.builds(Task, WORDS, tasks=st.lists(inner, max_size=2).map(tuple)),
    max_leaves=4,
)
SPECS = st.builds(
    SpecSummary,
    description=WORDS,
    parameters=st.lists(PARAMETERS, max_size=3).map(tuple),
    output_artifacts=st.lists(st.builds(Artifact, WORDS, WORDS), max_size=2).map(tuple),
    tasks=st.lists(TASKS, max_size=3).map(tuple),
)
OPPOSITE = {
    ChangeKind.ADDED: ChangeKind.REMOVED,
    ChangeKind.REMOVED: ChangeKind.ADDED,
    ChangeKind.CHANGED: ChangeKind.CHANGED,
}


@given(RUNS, st.integers(1, 4))
def test_run_with_itself(run: Run, count: int) -> None:
    """A run does not differ from itself, and each row has a value for each run."""
    rows = compare_runs([run] * count)
    assert not [row for row in rows if row.differs]
    assert {len(row.values) for row in rows} == {count}


@given(st.lists(RUNS, max_size=4))
def test_order_of_runs(runs: list[Run]) -> None:
    """In the opposite order the same rows differ, with the values in the opposite order."""
    forth, back = (
        {(row.kind, row.name): (row.differs, row.values[:: step or 1]) for row in compare_runs(runs[:: step or 1])}
        for step in (1, -1)
    )
    assert forth.keys() == back.keys()
    assert all(forth[key][0] == back[key][0] and is_same(forth[key][1], back[key][1]) for key in forth)


@given(SPECS)
def test_spec_with_itself(spec: SpecSummary) -> None:
    """A spec has no change from itself."""
    assert compare_specs(spec, spec) == ()


@given(SPECS, SPECS)
def test_swapped_specs(one: SpecSummary, other: SpecSummary) -> None:
    """Swapping the sides swaps what was added and removed, and before and after."""
    swapped = [
        replace(change, change=OPPOSITE[change.change], before=change.after, after=change.before)
        for change in compare_specs(other, one)
    ]
    assert sorted(map(repr, swapped)) == sorted(map(repr, compare_specs(one, other)))


def test_rows_of_runs() -> None:
    """Facts, parameters and metrics; numbers compare as numbers, and a missing value is not null."""
    one = Run(
        "a",
        state=RunState.SUCCEEDED,
        pipeline_id="1",
        pipeline_name="학습",
        parameters={"rate": 7, "seed": None, "deep": {"on": True}},
        created_at=MADE,
        finished_at=MADE + timedelta(seconds=5),
        metrics=(RunMetric("accuracy", 0.5, "train", "m"), RunMetric("loss", float("nan"), "each[0]/eval", "m")),
    )
    other = replace(
        one,
        run_id="b",
        parameters={"rate": 7.0, "deep": {"on": 1}},
        finished_at=None,
        metrics=(RunMetric("loss", float("nan"), "each[0]/eval", "m"), RunMetric("loss", 1, "each[1]/eval", "m")),
    )
    rows = {(row.kind, row.name): row for row in compare_runs([one, other])}
    assert {name for kind, name in rows if kind is RowKind.FACT} == {
        "state",
        "pipeline",
        "version",
        "experiment",
        "duration",
        "created",
    }
    assert {name for (_, name), row in rows.items() if row.differs} == {
        "duration",
        "seed",
        "deep",
        "accuracy",
        "each[1]/eval/loss",
    }
    assert rows[RowKind.FACT, "pipeline"].values == ("학습", "학습")
    assert rows[RowKind.FACT, "version"].values == (MISSING, MISSING)
    assert rows[RowKind.FACT, "duration"].values == (timedelta(seconds=5), MISSING)
    assert rows[RowKind.PARAMETER, "seed"].values == (None, MISSING)
    assert rows[RowKind.METRIC, "accuracy"].values == (0.5, MISSING)


def test_same_names_of_different_pipelines() -> None:
    """Pipelines with one name are distinguished by their ids."""
    runs = [Run("a", pipeline_id="1", pipeline_name="p"), Run("b", pipeline_id="2", pipeline_name="p")]
    row = next(row for row in compare_runs(runs) if row.name == "pipeline")
    assert (row.values, row.differs) == (("1", "2"), True)


def test_changes_of_a_spec() -> None:
    """Parameters and tasks by their paths, with the field that changed, before and after."""
    train = Task(
        "train",
        kind=TaskKind.CONTAINER,
        image="python:3.11",
        depends_on=("load", "check"),
        resources=TaskResources(cpu_limit="1"),
        caching_enabled=True,
        kubernetes_extras=(KubernetesExtra("secretAsEnv", "keys"),),
    )
    before = SpecSummary(
        sdk_version="kfp-2.16.0",
        parameters=(
            Parameter("rate", ParameterType.NUMBER_DOUBLE, has_default=True, default=1),
            Parameter("name", ParameterType.STRING),
        ),
        tasks=(Task("each", kind=TaskKind.LOOP, loop_items="[1, 2]", tasks=(train,)), Task("load")),
    )
    later = replace(
        train,
        image="python:3.12",
        depends_on=("check", "load"),
        resources=TaskResources(cpu_limit="1", memory_limit="1Gi"),
        caching_enabled=False,
        kubernetes_extras=(),
        max_retries=2,
    )
    after = replace(
        before,
        sdk_version="kfp-2.17.0",
        parameters=(
            Parameter("rate", ParameterType.NUMBER_DOUBLE, has_default=True, default=None),
            Parameter("seed", ParameterType.NUMBER_INTEGER, has_default=True, default=7),
        ),
        tasks=(Task("each", kind=TaskKind.LOOP, loop_items="[1, 2, 3]", tasks=(later,)), Task("check"), Task("load")),
    )
    changed, task, parameter = ChangeKind.CHANGED, PartKind.TASK, PartKind.PARAMETER
    assert compare_specs(before, after) == (
        SpecChange(PartKind.PIPELINE, "", changed, "sdk_version", "kfp-2.16.0", "kfp-2.17.0"),
        SpecChange(parameter, "rate", changed, "default", 1.0, None),
        SpecChange(parameter, "name", ChangeKind.REMOVED, before={"type": "STRING", "optional": False}),
        SpecChange(
            parameter,
            "seed",
            ChangeKind.ADDED,
            after={"type": "NUMBER_INTEGER", "optional": False, "default": 7},
        ),
        SpecChange(task, "each", changed, "loop_items", "[1, 2]", "[1, 2, 3]"),
        SpecChange(task, "each/train", changed, "image", "python:3.11", "python:3.12"),
        SpecChange(task, "each/train", changed, "caching_enabled", True, False),
        SpecChange(task, "each/train", changed, "kubernetes_extras", ["secretAsEnv keys"], MISSING),
        SpecChange(task, "each/train", changed, "resources.memory_limit", MISSING, "1Gi"),
        SpecChange(task, "each/train", changed, "max_retries", MISSING, 2),
        SpecChange(task, "check", ChangeKind.ADDED, after={"kind": "unknown", "caching_enabled": False}),
    )


def test_defaults_of_parameters() -> None:
    """KFP records given parameters only; the defaults come from the version, as long as that exists."""
    epochs = Parameter("epochs", ParameterType.NUMBER_INTEGER, has_default=True, default=20)
    required = Parameter("seed", ParameterType.NUMBER_INTEGER)
    runs = {
        name: Run(name, pipeline_id="p", pipeline_version_id=version, parameters=given)
        for name, version, given in (("a", "1", {}), ("b", "1", {"epochs": 50}), ("c", "gone", {}), ("file", "", {}))
    }

    class Versions(Pipelines):
        async def _record(self, request: Any, *_: object) -> Any:  # noqa: ANN401
            if request.version.pipeline_version_id != "1":
                raise VersionNotFoundError("it was deleted")
            return PipelineVersion("1", "p", "v1", spec=SpecSummary(parameters=(epochs, required)))

    pipelines = Versions(cast("Any", SimpleNamespace(run=asyncio.run, each=None)), "")
    client = SimpleNamespace(runs=SimpleNamespace(get=runs.__getitem__), pipelines=pipelines)
    read = read_runs(cast("Client", client), ["b", "a", "file", "c"])
    assert [(run.run_id, run.parameters) for run in read] == [
        ("b", {"epochs": 50}),
        ("a", {"epochs": 20}),
        ("file", {}),
        ("c", {}),
    ]

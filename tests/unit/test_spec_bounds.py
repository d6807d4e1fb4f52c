"""However large, deep or recursive a spec is, its summary fits into a message, and what is left out is reported."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transcripts import PIPELINES
from tests.unit.spec_outline import served, summary_of

from kfadapter.v1 import pipeline_pb2
from kfadapter_grpc.codec import to_message, to_record
from kfadapter_grpc.contract.errors import KfpError
from kfadapter_grpc.contract.spec import SpecSummary
from kfadapter_grpc.kfp.spec import summarize, summary_weight
from kfadapter_grpc.kfp.spec.tree import in_order, without_cycles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.spec import Task

LARGEST_MESSAGE = 4 * 1024 * 1024
ROOM = 2 * 1024 * 1024


def _runs(component: str, **task: object) -> dict[str, object]:
    return {"componentRef": {"name": component}, **task}


def _group(**tasks: object) -> dict[str, object]:
    return {"dag": {"tasks": tasks}}


def _pipeline(root: dict[str, object], **components: object) -> SpecSummary:
    executors = {"exec": {"container": {"image": "busybox"}}}
    leaf = {"leaf": {"executorLabel": "exec"}}
    return summary_of({"root": root, "components": leaf | components, "deploymentSpec": {"executors": executors}})


def _workflow(entrypoint: str, *templates: object) -> SpecSummary:
    spec = {"entrypoint": entrypoint, "templates": templates}
    return summary_of({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "spec": spec})


def _count(tasks: tuple[Task, ...]) -> int:
    return len(tasks) + sum(_count(task.tasks) for task in tasks)


def _depth(tasks: tuple[Task, ...]) -> int:
    return max((1 + _depth(task.tasks) for task in tasks), default=0)


def _sent(summary: SpecSummary) -> int:
    """The size of the message in bytes; a round trip keeps everything."""
    message = to_message(summary, pipeline_pb2.PipelineSpecSummary)
    assert to_record(message, SpecSummary) == summary
    return message.ByteSize()


def test_twenty_levels() -> None:
    """Tasks are shown twenty levels deep, and deeper ones are reported."""
    components = {f"c{n}": _group(next=_runs(f"c{n + 1}")) for n in range(30)}
    summary = _pipeline(_group(first=_runs("c0")), **components, c30=_group(last=_runs("leaf")))
    assert _depth(summary.tasks) == 20
    assert summary.unknown_parts == ("components.c18.dag.tasks.next",)
    _sent(summary)


def test_components_in_a_circle() -> None:
    """A recursive component is shown once, and reported."""
    a, b = _group(to_b=_runs("b"), leaf=_runs("leaf")), _group(to_a=_runs("a"))
    summary = _pipeline(_group(start=_runs("a")), a=a, b=b)
    (start,) = summary.tasks
    assert [task.name for task in start.tasks] == ["to_b", "leaf"]
    assert [task.name for task in start.tasks[0].tasks] == ["to_a"]
    assert start.tasks[0].tasks[0].tasks == ()
    assert summary.unknown_parts == ("components.b.dag.tasks.to_a",)


def test_a_template_that_calls_itself() -> None:
    """A recursive template, which Argo allows, is shown once, and reported where it calls itself."""
    steps = [[{"name": "flip", "template": "pod"}], [{"name": "again", "template": "loop", "when": "1 == 1"}]]
    summary = _workflow("loop", {"name": "loop", "steps": steps}, {"name": "pod", "container": {"image": "x"}})
    assert [task.name for task in summary.tasks] == ["flip", "again"]
    assert _depth(summary.tasks) == 1
    assert summary.unknown_parts == ("spec.templates[0].steps[1][0]",)


@pytest.mark.parametrize("form", ["v2", "argo"])
def test_a_diamond(form: str) -> None:
    """Components that call each other twice, level after level, are shown as far as they fit, the top first."""
    if form == "v2":
        components = {f"c{n}": _group(left=_runs(f"c{n + 1}"), right=_runs(f"c{n + 1}")) for n in range(18)}
        summary = _pipeline(_group(one=_runs("c0"), two=_runs("c0")), **components, c18=_group(leaf=_runs("leaf")))
    else:
        calls = [[{"name": side, "template": f"c{n}"} for side in ("one", "two")] for n in range(19)]
        templates = [{"name": f"c{n}", "steps": [calls[n + 1]]} for n in range(18)]
        pod = {"name": "c18", "container": {"image": "x"}}
        summary = _workflow("main", {"name": "main", "steps": [calls[0]]}, *templates, pod)
    assert [task.name for task in summary.tasks] == ["one", "two"]
    assert 5_000 < _count(summary.tasks) < 50_000
    assert 1 <= len(summary.unknown_parts) <= 100
    assert _sent(summary) <= summary_weight(summary) <= ROOM + 100_000


@pytest.mark.slow
def test_more_tasks_than_fit() -> None:
    """Of a hundred thousand tasks, those that fit are shown; that there are more is reported."""
    summary = _pipeline(_group(**{f"task-{n}": _runs("leaf") for n in range(100_000)}))
    assert 5_000 < len(summary.tasks) <= 10_000
    assert "root.dag.tasks" in summary.unknown_parts
    assert _sent(summary) < LARGEST_MESSAGE


@pytest.mark.parametrize("form", ["v2", "argo"])
def test_large_texts_of_tasks(form: str) -> None:
    """Texts of more than 64 KiB are reported, as are those that do not fit; the other tasks are shown."""
    names = ["huge", *(f"large-{n}" for n in range(40)), "small"]
    images = {"huge": "x" * 70_000, "small": "busybox"}
    containers = {name: {"image": images.get(name, "y" * 60_000)} for name in names}
    if form == "v2":
        spec: dict[str, object] = {
            "root": _group(**{name: _runs(name) for name in names}),
            "components": {name: {"executorLabel": name} for name in names},
            "deploymentSpec": {"executors": {name: {"container": one} for name, one in containers.items()}},
        }
        summary, path = summary_of(spec), "deploymentSpec.executors.huge.container.image"
    else:
        templates = [{"name": name, "container": one} for name, one in containers.items()]
        steps = [[{"name": name, "template": name} for name in names]]
        summary = _workflow("main", *templates, {"name": "main", "steps": steps})
        path = "spec.templates[0].container.image"
    assert path in summary.unknown_parts
    assert summary.tasks[0].image == ""
    assert 30 < len(summary.tasks) < 42
    assert _sent(summary) <= ROOM + 100_000


def test_long_names_in_unknown_parts() -> None:
    """Long paths are cut, so that a hundred of them stay small."""
    summary = summary_of({"root": {str(n) + "한" * 10_000: 1 for n in range(200)}})
    assert len(summary.unknown_parts) == 100
    assert max(map(len, summary.unknown_parts)) == 300


@pytest.mark.slow
def test_more_parameters_than_fit() -> None:
    """Of a hundred thousand parameters, those that fit are shown."""
    parameters = {f"parameter-{n}": {"parameterType": "STRING"} for n in range(100_000)}
    summary = summary_of({"root": {"inputDefinitions": {"parameters": parameters}}})
    assert 10_000 < len(summary.parameters) < 100_000
    assert _sent(summary) < LARGEST_MESSAGE


def test_tasks_that_wait_for_each_other() -> None:
    """A circular dependency is reported and cut, so that the tasks form a graph that can be drawn."""
    tasks = {
        "a": _runs("leaf", dependentTasks=["c"]),
        "b": _runs("leaf", dependentTasks=["a", "b"]),
        "c": _runs("leaf", dependentTasks=["b"]),
        "free": _runs("leaf"),
    }
    summary = _pipeline(_group(**tasks))
    assert [(task.name, task.depends_on) for task in summary.tasks] == [
        ("free", ()),
        ("a", ()),
        ("b", ("a",)),
        ("c", ("b",)),
    ]
    assert set(summary.unknown_parts) == {f"root.dag.tasks.{name}.dependentTasks" for name in ("a", "b")}


GRAPHS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=4), max_size=8
)


@given(GRAPHS)
def test_orders(graph: dict[str, list[str]]) -> None:
    """Every name comes once, after those it depends on; without circles nothing is dropped."""
    depends = {name: [one for one in before if one in graph] for name, before in graph.items()}
    ordered = without_cycles(depends)
    assert list(ordered) == in_order(depends)
    assert sorted(ordered) == sorted(graph)
    seen: set[str] = set()
    for name, before in ordered.items():
        assert seen.issuperset(before)
        seen.add(name)
    downhill = {name: [one for one in before if one < name] for name, before in depends.items()}
    assert {name: list(before) for name, before in without_cycles(downhill).items()} == downhill


def test_order_is_the_declared_one_where_it_is_free() -> None:
    """Names without dependencies keep their position; a name only moves behind those it depends on."""
    assert in_order({"d": ["a"], "c": [], "b": [], "a": ["b"]}) == ["c", "b", "a", "d"]


FILES = sorted([*PIPELINES.glob("*.yaml"), *(PIPELINES / "graphs").glob("*.yaml")])
ODD_VALUES: list[object] = [
    None, True, 0, -1, 2**40, 1.5, "", "x", "{{item}}", "[[[", [], [None], ["x", {"name": "x"}], {}, {"name": "x"},
    {"x": {"x": []}}, "ALL_UPSTREAM_TASKS_COMPLETED", "comp-say", "{{tasks.x.outputs.parameters.y}}",
]  # fmt: skip
ODD = st.sampled_from(ODD_VALUES)


def _places(value: object) -> Iterator[tuple[dict[str, object] | list[object], str | int]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key  # type: ignore[misc]
        yield from _places(value[key])  # type: ignore[index]


@cache
def _served(number: int) -> object:
    return served(FILES[number])


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(FILES) - 1), st.lists(st.tuples(st.integers(0, 10**6), st.none() | ODD), max_size=6))
def test_any_mutation(number: int, changes: list[tuple[int, object]]) -> None:
    """Real specs with parts removed or replaced are read within the limits, and nothing fails."""
    spec = copy.deepcopy(_served(number))
    for place, replacement in changes:
        places = list(_places(spec))
        holder, key = places[place % len(places)]
        if replacement is None and isinstance(holder, dict):
            del holder[key]  # type: ignore[arg-type]
        else:
            holder[key] = copy.deepcopy(replacement)  # type: ignore[index]
        if not isinstance(spec, dict) or not spec:
            return
    summary = summarize(json.dumps(spec).encode())
    assert len(summary.unknown_parts) <= 100
    assert _sent(summary) <= max(summary_weight(summary), 1) < LARGEST_MESSAGE
    assert _depth(summary.tasks) <= 20
    for task in _all_tasks(summary.tasks):
        assert len({inner.name for inner in task.tasks}) == len(task.tasks)


def _all_tasks(tasks: tuple[Task, ...]) -> Iterator[Task]:
    for task in tasks:
        yield task
        yield from _all_tasks(task.tasks)


@given(st.integers(0, len(FILES) - 1), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_cut_specs(number: int, share: float) -> None:
    """A truncated spec is reported as invalid JSON."""
    content = json.dumps(_served(number)).encode()
    with pytest.raises(KfpError, match="no JSON"):
        summarize(content[: int(len(content) * share * 0.99)])

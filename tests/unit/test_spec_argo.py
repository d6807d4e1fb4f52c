"""Single facts of the tasks of Argo Workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.spec_outline import summary_of

from kfadapter_grpc.contract.spec import KubernetesExtra, Task, TaskKind, TaskResources

if TYPE_CHECKING:
    from kfadapter_grpc.contract.spec import SpecSummary

POD: dict[str, object] = {"name": "pod", "container": {"image": "busybox"}}


def _workflow(*templates: object, **spec: object) -> SpecSummary:
    whole = {"entrypoint": "main", "templates": templates, **spec}
    return summary_of({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "spec": whole})


def _dag(*tasks: object, **template: object) -> dict[str, object]:
    return {"name": "main", "dag": {"tasks": tasks}, **template}


def _one(**template: object) -> Task:
    """The task of a workflow of one template, without unknown parts."""
    summary = _workflow({"name": "main", **template})
    assert summary.unknown_parts == ()
    (task,) = summary.tasks
    return task


def test_steps() -> None:
    """Steps of one group run in parallel; each group depends on the one before it."""
    groups = [
        [{"name": "a", "template": "pod"}, {"name": "b", "template": "pod"}],
        [],
        [{"name": "c", "template": "pod"}],
    ]
    summary = _workflow({"name": "main", "steps": groups}, POD)
    assert [(task.name, task.depends_on) for task in summary.tasks] == [("a", ()), ("b", ()), ("c", ("a", "b"))]


def test_a_workflow_of_one_container() -> None:
    """If the entrypoint is not a group, it is the only task."""
    assert _one(container={"image": "x"}).name == "main"


def test_exit_handler() -> None:
    """The exit handler depends on the last tasks; as a group it has its tasks, and an equal name does not clash."""
    tasks = [{"name": "a", "template": "pod"}, {"name": "pod", "template": "pod", "dependencies": ["a"]}]
    inner = {"name": "clean", "dag": {"tasks": [{"name": "x", "template": "pod"}]}}
    *_, last = _workflow(_dag(*tasks), POD, inner, onExit="clean").tasks
    assert (last.name, last.kind, last.depends_on) == ("clean", TaskKind.EXIT_HANDLER, ("pod",))
    assert [task.name for task in last.tasks] == ["x"]
    *_, last = _workflow(_dag(*tasks), POD, onExit="pod").tasks
    assert (last.name, last.component, last.image) == ("pod.onExit", "pod", "busybox")


def test_exit_hooks() -> None:
    """An exit hook of a task is a task of its own, after it."""
    hooks = {"exit": {"template": "pod"}}
    summary = _workflow(_dag({"name": "a", "template": "pod", "hooks": hooks, "when": "1 == 1"}), POD)
    assert [(task.name, task.kind, task.depends_on, task.condition) for task in summary.tasks] == [
        ("a", TaskKind.CONTAINER, (), "1 == 1"),
        ("a.onExit", TaskKind.EXIT_HANDLER, ("a",), ""),
    ]
    running = {"running": {"template": "pod"}}
    summary = _workflow(_dag({"name": "a", "template": "pod", "hooks": running}), POD)
    assert summary.unknown_parts == ("spec.templates[0].dag.tasks[0].hooks.running",)


@pytest.mark.parametrize(
    ("loop", "items"),
    [
        ({"withItems": [1, "둘", {"a": 3.0}]}, '[1, "둘", {"a": 3}]'),
        ({"withParam": "[1,2]"}, "[1, 2]"),
        ({"withParam": "{{tasks.list.outputs.result}}"}, "list.result"),
        ({"withParam": "{{inputs.parameters.given}}"}, "given"),
        ({"withParam": "{{workflow.parameters.words}}"}, "words"),
        ({"withSequence": {"count": "5"}}, "5 numbers from 0"),
        ({"withSequence": {"start": 1, "end": "{{inputs.parameters.last}}", "format": "%d"}}, "1 to last"),
    ],
)
def test_loops(loop: dict[str, object], items: str) -> None:
    """Loops over items, parameters and numbers have their items and their parallelism."""
    summary = _workflow(_dag({"name": "t", "template": "pod", **loop}, parallelism=4), POD)
    (task,) = summary.tasks
    assert (task.kind, task.loop_items, task.loop_parallelism) == (TaskKind.LOOP, items, 4)
    assert summary.unknown_parts == ()


def test_items_that_are_not_understood() -> None:
    """Unknown items are shown unchanged, and reported."""
    summary = _workflow(_dag({"name": "t", "template": "pod", "withParam": "{{=range(3)}}"}), POD)
    assert summary.tasks[0].loop_items == "{{=range(3)}}"
    assert summary.unknown_parts == ("spec.templates[0].dag.tasks[0].withParam",)


def test_names_through_templates() -> None:
    """Inside a template, an argument is known by its source, through several levels."""
    given = {"parameters": [{"name": "x", "value": "{{tasks.flip.outputs.parameters.side}}"}]}
    passed = {"parameters": [{"name": "y", "value": "{{inputs.parameters.x}}"}]}
    outer = {"name": "outer", "dag": {"tasks": [{"name": "i", "template": "inner", "arguments": passed}]}}
    when = "{{inputs.parameters.y}} == heads"
    inner = {"name": "inner", "dag": {"tasks": [{"name": "t", "template": "pod", "when": when}]}}
    flip = {"name": "flip", "template": "pod"}
    start = {"name": "o", "template": "outer", "arguments": given, "dependencies": ["flip"]}
    summary = _workflow(_dag(flip, start), outer, inner, POD)
    assert summary.tasks[1].tasks[0].tasks[0].condition == "flip.side == heads"
    assert summary.unknown_parts == ()


@pytest.mark.parametrize(
    ("metadata", "cached"),
    [
        (None, True),
        ({"labels": {"pipelines.kubeflow.org/enable_caching": "true"}}, True),
        ({"labels": {"pipelines.kubeflow.org/enable_caching": "false"}}, False),
        ({"labels": {"pipelines.kubeflow.org/cache_enabled": "False"}}, False),
        ({"annotations": {"pipelines.kubeflow.org/enable_caching": False}}, False),
        ({"annotations": {"pipelines.kubeflow.org/max_cache_staleness": "P0D"}}, False),
        ({"annotations": {"pipelines.kubeflow.org/max_cache_staleness": "PT0S"}}, False),
        ({"annotations": {"pipelines.kubeflow.org/max_cache_staleness": "P30D"}}, True),
        ({"annotations": {"pipelines.kubeflow.org/max_cache_staleness": "PT0H30M"}}, True),
    ],
)
def test_caching(metadata: object, *, cached: bool) -> None:
    """KFP v1 caches every pod unless a label or an annotation disables it."""
    assert _one(container={"image": "x"}, metadata=metadata).caching_enabled is cached


def test_groups_are_not_cached() -> None:
    """Only tasks that run in a pod can be cached."""
    summary = _workflow(_dag({"name": "g", "template": "group"}), {"name": "group", "steps": []})
    assert not summary.tasks[0].caching_enabled


def test_pods() -> None:
    """A pod has its resources, its volumes by their sources, its secrets, and the settings of the pod."""
    container = {
        "image": "x",
        "resources": {
            "limits": {"cpu": 2, "nvidia.com/gpu": 1, "ephemeral-storage": "1Gi"},
            "requests": {"memory": "1Gi"},
        },
        "volumeMounts": [{"name": "claimed"}, {"name": "mapped"}, {"name": "empty"}],
        "env": [
            {"name": "A", "value": "b"},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}},
        ],
        "envFrom": [{"secretRef": {"name": "all"}}],
    }
    volumes = [
        {"name": "claimed", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "mapped", "configMap": {"name": "settings"}},
        {"name": "empty", "emptyDir": {}},
    ]
    task = _one(script=container, volumes=volumes, tolerations=[{"key": "a"}, {"key": "b"}], nodeSelector={"a": "b"})
    assert task.resources == TaskResources(
        cpu_limit="2", memory_request="1Gi", accelerator_type="nvidia.com/gpu", accelerator_count="1"
    )
    assert task.kubernetes_extras == (
        KubernetesExtra("volumeMounts", "data"),
        KubernetesExtra("volumeMounts", "settings"),
        KubernetesExtra("volumeMounts", "empty"),
        KubernetesExtra("configMapKeyRef", "map"),
        KubernetesExtra("secretRef", "all"),
        KubernetesExtra("nodeSelector"),
        KubernetesExtra("tolerations"),
        KubernetesExtra("tolerations"),
    )


@pytest.mark.parametrize(
    ("retries", "reported", "unknown"),
    [
        ({"limit": 3}, 3, ()),
        ({"limit": "3", "retryPolicy": "Always"}, 3, ()),
        ({}, 0, ("spec.templates[0].retryStrategy",)),
        ({"limit": "{{inputs.parameters.n}}"}, 0, ("spec.templates[0].retryStrategy",)),
    ],
)
def test_retries(retries: object, reported: int, unknown: tuple[str, ...]) -> None:
    """A limit of retries is a number or a string; if missing or computed, it is reported as unknown."""
    summary = _workflow({"name": "main", "container": {"image": "x"}, "retryStrategy": retries})
    assert (summary.tasks[0].max_retries, summary.unknown_parts) == (reported, unknown)


@pytest.mark.parametrize(
    ("template", "unknown"),
    [
        ({"suspend": {}}, "spec.templates[0].suspend"),
        ({"resource": {"action": "create", "manifest": "kind: Job"}}, "spec.templates[0].resource"),
        ({"http": {"url": "http://x"}}, "spec.templates[0].http"),
        ({"plugin": {}}, "spec.templates[0].plugin"),
    ],
)
def test_templates_that_run_no_container(template: dict[str, object], unknown: str) -> None:
    """A template that runs no container has an unknown kind, and is reported."""
    summary = _workflow({"name": "main", **template})
    assert summary.tasks[0].kind is TaskKind.UNKNOWN
    assert summary.unknown_parts == (unknown,)


def test_container_sets() -> None:
    """Of a set of containers the first one is shown, the others are reported as unknown."""
    containers = [{"name": "main", "image": "a"}, {"name": "side", "image": "b"}]
    summary = _workflow({"name": "main", "containerSet": {"containers": containers}})
    assert summary.tasks[0].image == "a"
    assert summary.unknown_parts == ("spec.templates[0].containerSet.containers[1]",)


@pytest.mark.parametrize(
    ("spec", "unknown"),
    [
        ({"podSpecPatch": "x"}, "spec.podSpecPatch"),
        ({"templateDefaults": {}}, "spec.templateDefaults"),
        ({"entrypoint": "gone"}, "spec.entrypoint"),
        ({"onExit": "gone"}, "spec.onExit"),
        ({"templates": [3]}, "spec.templates[0]"),
        ({"templates": [_dag({"template": "x"})]}, "spec.templates[0].dag.tasks[0]"),
        ({"templates": [_dag({"name": "x", "template": "gone"})]}, "spec.templates[0].dag.tasks[0].template"),
        ({"templates": [_dag({"name": "x", "dependencies": ["y"], "inline": {"script": {}}})]},
         "spec.templates[0].dag.tasks[0].dependencies"),
        ({"templates": [_dag({"name": "x", "depends": "y", "inline": {"script": {}}})]},
         "spec.templates[0].dag.tasks[0].depends"),
    ],
)  # fmt: skip
def test_unknown_parts(spec: dict[str, object], unknown: str) -> None:
    """An unknown part, or one that refers to nothing, is reported with its path."""
    whole = {"entrypoint": "main", "templates": [{**POD, "name": "main"}], **spec}
    summary = summary_of({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "spec": whole})
    assert unknown in summary.unknown_parts

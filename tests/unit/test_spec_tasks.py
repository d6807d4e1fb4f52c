"""Single facts of the tasks of KFP v2: dependencies, kinds, resources, extras, and unknown parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.spec_outline import summary_of

from kfadapter_grpc.contract.spec import Artifact, KubernetesExtra, Task, TaskKind, TaskResources

if TYPE_CHECKING:
    from kfadapter_grpc.contract.spec import SpecSummary


def _pipeline(tasks: object, executor: object = None, platform: object = None, **parts: object) -> SpecSummary:
    """A pipeline of tasks, each of which may run the component `run`."""
    pipeline = {
        "root": {"dag": {"tasks": tasks}},
        "components": {"run": {"executorLabel": "exec"}, **parts},
        "deploymentSpec": {"executors": {"exec": executor or {"container": {"image": "busybox"}}}},
    }
    if platform is None:
        return summary_of(pipeline)
    executors = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec": platform}}}}}
    return summary_of({"pipeline_spec": pipeline, "platform_spec": executors})


def _runs(component: str = "run", **task: object) -> dict[str, object]:
    return {"componentRef": {"name": component}, **task}


def _one(executor: object = None, platform: object = None, **task: object) -> Task:
    """The only task of a pipeline without unknown parts."""
    summary = _pipeline({"t": {**_runs(), **task}}, executor, platform)
    assert summary.unknown_parts == ()
    (reported,) = summary.tasks
    return reported


def _inputs(**parameters: object) -> dict[str, object]:
    return {"parameters": parameters}


def _output(task: str, key: str = "Output") -> dict[str, object]:
    return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}}


def test_dependencies_that_inputs_imply() -> None:
    """A task depends on the tasks it names, and on the sources of its inputs and final status, each once."""
    artifact = {"taskOutputArtifact": {"producerTask": "b", "outputArtifactKey": "data"}}
    inputs = {"parameters": {"x": _output("c"), "y": _output("a")}, "artifacts": {"data": artifact}}
    status = {"status": {"taskFinalStatus": {"producerTask": "d"}}}
    summary = _pipeline(
        {
            "last": _runs(dependentTasks=["a"], inputs=inputs),
            "exit": _runs(inputs={"parameters": status}, triggerPolicy={"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}),
            **{name: _runs() for name in "abcd"},
        }
    )
    assert [(task.name, task.depends_on) for task in summary.tasks if task.depends_on] == [
        ("last", ("a", "b", "c")),
        ("exit", ("d",)),
    ]
    assert summary.unknown_parts == ()


def test_dependencies_on_missing_tasks() -> None:
    """A dependency on a task that is not in the group is reported."""
    summary = _pipeline({"t": _runs(dependentTasks=["gone"])})
    assert summary.tasks[0].depends_on == ()
    assert summary.unknown_parts == ("root.dag.tasks.t.dependentTasks",)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ({}, TaskKind.CONTAINER),
        ({"triggerPolicy": {"condition": "true"}}, TaskKind.CONTAINER),
        ({"triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_SUCCEEDED"}}, TaskKind.CONTAINER),
        ({"triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}}, TaskKind.EXIT_HANDLER),
        ({"parameterIterator": {"itemInput": "i", "items": {"raw": "[1]"}}}, TaskKind.LOOP),
        ({"componentRef": {"name": "group"}}, TaskKind.DAG),
        ({"componentRef": {"name": "group"}, "triggerPolicy": {"condition": "true"}}, TaskKind.CONDITION),
        (
            {"componentRef": {"name": "group"}, "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}},
            TaskKind.EXIT_HANDLER,
        ),
    ],
)
def test_kinds(task: dict[str, object], kind: TaskKind) -> None:
    """Conditions, groups with one, loops and exit handlers are distinguished; a container keeps its image."""
    summary = _pipeline({"t": {**_runs(), **task}}, group={"dag": {"tasks": {"inner": _runs()}}})
    (reported,) = summary.tasks
    assert reported.kind is kind
    assert (reported.image, len(reported.tasks)) == (("", 1) if reported.component == "group" else ("busybox", 0))
    assert summary.unknown_parts == ()


def test_importer() -> None:
    """An importer has no image."""
    reported = _one({"importer": {"artifactUri": {"constant": "gs://x"}, "reimport": True}})
    assert (reported.kind, reported.image) == (TaskKind.IMPORTER, "")


@pytest.mark.parametrize(
    ("resources", "reported"),
    [
        ({"cpuLimit": 1.0, "cpuRequest": 0.25}, TaskResources(cpu_request="250m", cpu_limit="1")),
        (
            {"memoryLimit": 0.512, "memoryRequest": 1.073741824},
            TaskResources(memory_request="1Gi", memory_limit="512M"),
        ),
        ({"memoryLimit": 16, "memoryRequest": 1e-9}, TaskResources(memory_request="1", memory_limit="16G")),
        (
            {"cpuLimit": 1.0, "resourceCpuLimit": "1500m", "resourceMemoryRequest": "2Gi"},
            TaskResources(cpu_limit="1500m", memory_request="2Gi"),
        ),
        (
            {"accelerator": {"type": "NVIDIA_TESLA_K80", "count": "2"}},
            TaskResources(accelerator_type="NVIDIA_TESLA_K80", accelerator_count="2"),
        ),
        (
            {"accelerator": {"type": "old", "count": 1, "resourceType": "nvidia.com/gpu", "resourceCount": "4"}},
            TaskResources(accelerator_type="nvidia.com/gpu", accelerator_count="4"),
        ),
        ({"cpuLimit": 0.0}, None),
        ({}, None),
    ],
)
def test_resources(resources: object, reported: TaskResources | None) -> None:
    """Resources are written as in Kubernetes; the newer fields take precedence over the numbers of older SDKs."""
    assert _one({"container": {"image": "x", "resources": resources}}).resources == reported


def test_placeholders() -> None:
    """A placeholder of an input is shown as the input's source in braces."""
    name = "{{$.inputs.parameters['pipelinechannel--cpu']}}"
    executor = {"container": {"image": f"repo/{name}:1", "resources": {"resourceCpuLimit": name}}}
    reported = _one(executor, inputs=_inputs(**{"pipelinechannel--cpu": {"componentInputParameter": "cpu"}}))
    assert reported.image == "repo/{{cpu}}:1"
    assert reported.resources == TaskResources(cpu_limit="{{cpu}}")


def test_retries_and_caching() -> None:
    """Retries, caching and the display name are the task's."""
    reported = _one(
        retryPolicy={"maxRetryCount": 3, "backoffFactor": 2.0},
        cachingOptions={"enableCache": True, "cacheKey": "k"},
        taskInfo={"name": "학습"},
    )
    assert (reported.max_retries, reported.caching_enabled, reported.display_name) == (3, True, "학습")
    assert _one().display_name == "t"
    assert not _one(cachingOptions={}).caching_enabled


@pytest.mark.parametrize("count", [-1, 2**31, 1.5, "many", True])
def test_malformed_counts(count: object) -> None:
    """An invalid number of retries is reported, not shown."""
    summary = _pipeline({"t": _runs(retryPolicy={"maxRetryCount": count})})
    assert summary.tasks[0].max_retries == 0
    assert summary.unknown_parts == ("root.dag.tasks.t.retryPolicy.maxRetryCount",)


@pytest.mark.parametrize(
    ("entry", "reported"),
    [
        ({"pvcMount": [{"constant": "old"}]}, KubernetesExtra("pvcMount", "old")),
        ({"pvcMount": [{"componentInputParameter": "volume"}]}, KubernetesExtra("pvcMount", "volume")),
        (
            {"pvcMount": [{"taskOutputParameter": {"producerTask": "made", "outputParameterKey": "name"}}]},
            KubernetesExtra("pvcMount", "made.name"),
        ),
        (
            {"secretAsEnv": [{"secretNameParameter": {"runtimeValue": {"constant": "s3"}}, "keyToEnv": []}]},
            KubernetesExtra("secretAsEnv", "s3"),
        ),
        ({"secretAsVolume": [{"secretName": "old-secret"}]}, KubernetesExtra("secretAsVolume", "old-secret")),
        ({"nodeSelector": {"labels": {"disk": "ssd"}}}, KubernetesExtra("nodeSelector")),
        ({"imagePullPolicy": "Always"}, KubernetesExtra("imagePullPolicy", "Always")),
        ({"enabledSharedMemory": {"volumeName": "shm"}}, KubernetesExtra("enabledSharedMemory", "shm")),
    ],
)
def test_kubernetes_extras(entry: object, reported: KubernetesExtra) -> None:
    """Each entry has its kind and the object's name, which older and newer SDKs write differently."""
    assert _one(platform=entry).kubernetes_extras == (reported,)


def test_loops_over_nothing_known() -> None:
    """Items that are not JSON are shown unchanged, and reported."""
    summary = _pipeline({"t": _runs(parameterIterator={"items": {"raw": "[1,"}, "itemInput": "i"})})
    assert summary.tasks[0].loop_items == "[1,"
    assert summary.unknown_parts == ("root.dag.tasks.t.parameterIterator",)


def test_items_in_every_script() -> None:
    """Raw items are one line of JSON, without escaped characters, whole numbers without decimals."""
    raw = '[1.0, {"a":"\\ud55c"}]'
    assert _one(parameterIterator={"items": {"raw": raw}, "itemInput": "i"}).loop_items == '[1, {"a": "한"}]'


def test_what_comes_out_of_groups() -> None:
    """An output of a condition is named after the task inside that produces it, or after all possible ones."""
    one_of = {"valueFromOneof": {"parameterSelectors": [
        {"producerSubtask": "x", "outputParameterKey": "Output"},
        {"producerSubtask": "y", "outputParameterKey": "Output"}]}}  # fmt: skip
    group = {"dag": {"tasks": {"x": _runs(), "y": _runs()}, "outputs": {"parameters": {"pipelinechannel--o": one_of}}}}
    summary = _pipeline(
        {
            "branches": _runs("group"),
            "t": _runs(
                inputs=_inputs(o=_output("branches", "pipelinechannel--o")),
                triggerPolicy={"condition": "inputs.parameter_values['o'] == 'a'"},
            ),
        },
        group=group,
    )
    assert summary.tasks[1].condition == "one of (x.Output, y.Output) == 'a'"
    assert summary.unknown_parts == ()


def test_conditions_that_are_not_understood() -> None:
    """An unknown condition is shown unchanged, and reported."""
    summary = _pipeline({"t": _runs(triggerPolicy={"condition": "size(inputs) > 1"})})
    assert summary.tasks[0].condition == "size(inputs) > 1"
    assert summary.unknown_parts == ("root.dag.tasks.t.triggerPolicy.condition",)


@pytest.mark.parametrize(
    ("tasks", "executor", "platform", "unknown"),
    [
        ({"t": _runs("gone")}, None, None, "root.dag.tasks.t.componentRef"),
        ({"t": {}}, None, None, "root.dag.tasks.t.componentRef"),
        ({"t": _runs(newField=1)}, None, None, "root.dag.tasks.t.newField"),
        ({"t": _runs(triggerPolicy={"strategy": "NEW"})}, None, None, "root.dag.tasks.t.triggerPolicy.strategy"),
        (
            {"t": _runs(inputs={"parameters": {"x": {"new": 1}}})},
            None,
            None,
            "root.dag.tasks.t.inputs.parameters.x.new",
        ),
        ({"t": _runs()}, {"customJob": {}}, None, "deploymentSpec.executors.exec.customJob"),
        ({"t": _runs()}, {"resolver": {}}, None, "deploymentSpec.executors.exec.resolver"),
        ({"t": _runs()}, {"container": {"gpus": 1}}, None, "deploymentSpec.executors.exec.container.gpus"),
        ({"t": _runs()}, None, {"new": []}, "platforms.kubernetes.deploymentSpec.executors.exec.new"),
        (
            {"t": _runs()},
            None,
            {"pvcMount": [{"constant": "x", "new": 1}]},
            "platforms.kubernetes.deploymentSpec.executors.exec.pvcMount[0].new",
        ),
    ],
)
def test_unknown_parts(tasks: object, executor: object, platform: object, unknown: str) -> None:
    """An unknown part, at any level, is reported with its path; the task is still shown."""
    summary = _pipeline(tasks, executor, platform)
    assert [task.name for task in summary.tasks] == ["t"]
    assert summary.unknown_parts == (unknown,)


def test_a_task_that_is_none() -> None:
    """A task that is not a mapping is reported, and shown with its name."""
    summary = _pipeline({"t": 3})
    assert [(task.name, task.kind) for task in summary.tasks] == [("t", TaskKind.UNKNOWN)]
    assert "root.dag.tasks.t" in summary.unknown_parts


def test_a_missing_executor() -> None:
    """A component without its executor has an unknown kind, and is reported."""
    summary = _pipeline({"t": _runs("lost")}, lost={"executorLabel": "gone"})
    assert summary.tasks[0].kind is TaskKind.UNKNOWN
    assert summary.unknown_parts == ("components.lost.executorLabel",)


def test_platforms_that_are_not_known() -> None:
    """A platform other than Kubernetes is reported."""
    spec = {"pipeline_spec": {"root": {}}, "platform_spec": {"platforms": {"cloud": {}}}}
    assert summary_of(spec).unknown_parts == ("platforms.cloud",)


@pytest.mark.parametrize(
    ("artifact", "reported"),
    [
        ({"artifactType": {"schemaTitle": "system.Model", "schemaVersion": "0.0.1"}}, Artifact("a", "system.Model")),
        ({"artifactType": {"instanceSchema": "title: kfp.Dataset\ntype: object\n"}}, Artifact("a", "kfp.Dataset")),
        ({"artifactType": {"schemaUri": "gs://schema.yaml"}}, Artifact("a", "gs://schema.yaml")),
        (
            {"artifactType": {"schemaTitle": "x"}, "isArtifactList": True, "isOptional": True, "description": "왜"},
            Artifact("a", "x", is_list=True, optional=True, description="왜"),
        ),
    ],
)
def test_artifacts(artifact: object, reported: Artifact) -> None:
    """Artifacts have their type however the SDK wrote it, whether they are lists, and whether they are optional."""
    summary = summary_of({"root": {"inputDefinitions": {"artifacts": {"a": artifact}}}})
    assert summary.input_artifacts == (reported,)
    assert summary.unknown_parts == ()

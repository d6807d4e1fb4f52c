"""Pipeline specs that contain only the names, kinds and order of tasks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Declared:
    """A task, or a group that contains others.

    Attributes:
        title: The display name.
        after: The tasks that it depends on.
        at_end: Whether it runs regardless of how those end.
        when: The condition of a group.
        loops: Whether it is a loop.
        takes: The sources of its inputs: `task.output`, or the name of an input of its group.
    """

    name: str
    inside: tuple[Declared, ...] = ()
    title: str = ""
    after: tuple[str, ...] = ()
    at_end: bool = False
    when: bool = False
    loops: bool = False
    takes: tuple[tuple[str, str], ...] = ()


def spec_of_tasks(*tasks: Declared) -> dict[str, object]:
    """Returns a spec as KFP serves it."""
    components: dict[str, object] = {}
    return {
        "pipelineInfo": {"name": "p"},
        "root": {"dag": {"tasks": {task.name: _task(task, components) for task in tasks}}},
        "components": components,
        "deploymentSpec": {"executors": {"exec": {"container": {"image": "i", "command": ["c"]}}}},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
    }


def _task(task: Declared, components: dict[str, object]) -> dict[str, object]:
    name = f"comp-{task.name}-{len(components)}"
    components[name] = {"executorLabel": "exec"}
    if task.inside:
        components[name] = {"dag": {"tasks": {inner.name: _task(inner, components) for inner in task.inside}}}
    trigger = {"condition": "true"} if task.when else {}
    trigger |= {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"} if task.at_end else {}
    return {
        "componentRef": {"name": name},
        "taskInfo": {"name": task.title or task.name},
        **({"dependentTasks": list(task.after)} if task.after else {}),
        **({"triggerPolicy": trigger} if trigger else {}),
        "inputs": {"parameters": {name: _taken(source) for name, source in task.takes}},
        **({"parameterIterator": {"itemInput": "item", "items": {"inputParameter": "items"}}} if task.loops else {}),
    }


def _taken(source: str) -> dict[str, object]:
    task, dot, output = source.partition(".")
    if not dot:
        return {"componentInputParameter": source}
    return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": output}}

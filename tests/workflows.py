"""Argo Workflows as KFP's compiler and Argo's controller create them, from a pipeline that a test describes.

Names, templates and boundaries follow the recordings in tests/data/run_nodes: with `retries` as 2.17.0 is installed
(every template is retried, so each node is a Retry node around its attempts), without them as before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

NAME = "wf-x7k2d"
AT = "2026-01-02T03:04:05Z"


@dataclass(frozen=True)
class Task:
    """The source of a node: a task, or a group that contains others; a loop has `items` iterations."""

    name: str
    kind: Literal["container", "importer", "volume", "dag", "condition", "loop"] = "container"
    inside: tuple[Task, ...] = ()
    items: int = 1
    exit_task: str = ""
    phase: str = "Succeeded"
    message: str = ""
    spec: dict[str, object] = field(default_factory=dict)
    component: dict[str, object] = field(default_factory=dict)
    cached: bool = False
    attempts: int = 1


@dataclass
class Workflow:
    """Builds the nodes of a pipeline."""

    tasks: tuple[Task, ...]
    retries: bool = True
    name: str = NAME
    nodes: dict[str, dict[str, object]] = field(default_factory=dict)

    def manifest(self, **status: object) -> str:
        """Returns the Workflow as KFP serves it."""
        self.nodes.clear()
        top = self._node(self.name, self.name, "DAG", "entrypoint", "")
        self._driver("root", "system-dag-driver", top, task="")
        root = self._node(f"{top[1]}.root", "root", "DAG", "root", top[0])
        for task in self.tasks:
            self._task(task, root)
        body = {"metadata": {"name": self.name, "namespace": "kubeflow"}, "status": {"nodes": self.nodes, **status}}
        return json.dumps(body)

    def _task(self, task: Task, within: tuple[str, str]) -> None:
        if task.kind == "loop":
            self._loop(task, within)
        elif task.kind == "importer":
            name = f"{within[1]}.{task.name}"
            self._node(name, task.name, "Pod", "system-importer", within[0], task=task, spec=task.spec)
        elif task.kind == "volume":
            at = f"{within[1]}.{task.name}"
            self._node(at, task.name, "Pod", "system-container-driver", within[0], task=task, reported=task.name)
        elif task.kind == "container":
            self._driver(task.name, "system-container-driver", within, task.spec, of=task)
            executor = self._node(
                f"{within[1]}.{task.name}", task.name, "DAG", "system-container-executor", within[0], task=task
            )
            self._executor(task, executor)
        else:
            spec = {"triggerPolicy": {"condition": "a == 1"}} if task.kind == "condition" else {}
            spec.update(task.spec)  # type: ignore[arg-type] # JSON
            self._driver(task.name, "system-dag-driver", within, spec)
            skipped = task.phase == "Skipped"
            kind = "Skipped" if skipped else "DAG"
            group = self._node(f"{within[1]}.{task.name}", task.name, kind, f"comp-{task.name}", within[0], task=task)
            for one in () if skipped else task.inside:
                self._task(one, group)
            if task.exit_task:
                shown = f"{task.name}.onExit"
                hook = self._node(f"{within[1]}.{shown}", shown, "DAG", "exit-hook-root-x", within[0])
                self._task(Task(task.exit_task), hook)

    def _loop(self, task: Task, within: tuple[str, str]) -> None:
        template = f"comp-{task.name}-{task.name}-iterator"
        loop = self._node(f"{within[1]}.{task.name}", task.name, "DAG", template, within[0], task=task)
        self._driver("iteration", "system-dag-driver", loop, task.spec, task=task.name)
        group = f"{loop[1]}.iteration-iterations"
        plain = Workflow((), retries=False, name=self.name, nodes=self.nodes)
        plain._node(group, "iteration-iterations", "TaskGroup", "x", loop[0])
        for index in range(task.items):
            shown = f"iteration-iterations({index}:{index})"
            one = self._node(f"{loop[1]}.{shown}", shown, "DAG", f"comp-{task.name}-iteration", loop[0])
            self._driver("iteration-item", "system-dag-driver", one, task=task.name)
            item = self._node(f"{one[1]}.iteration-item", "iteration-item", "DAG", f"comp-{task.name}", one[0])
            for inner in task.inside:
                self._task(inner, item)

    def _executor(self, task: Task, within: tuple[str, str]) -> None:
        """Adds the node of a container: skipped if the task was cached, a Retry node if there were several attempts."""
        name = f"{within[1]}.executor"
        if task.cached or task.attempts == 1:
            kind = "Skipped" if task.cached else "Pod"
            self._node(name, "executor", kind, "system-container-impl", within[0], task=task)
            return
        common = {"templateName": "retry-system-container-impl", "boundaryID": within[0], "startedAt": AT}
        self._put(name, {**common, "displayName": "executor", "type": "Retry", "phase": task.phase})
        for number in range(task.attempts):
            phase = task.phase if number == task.attempts - 1 else "Failed"
            shown = f"executor({number})"
            self._put(f"{name}({number})", {**common, "displayName": shown, "type": "Pod", "phase": phase})

    def _driver(
        self,
        name: str,
        template: str,
        within: tuple[str, str],
        spec: object = None,
        task: str | None = None,
        *,
        of: Task | None = None,
    ) -> None:
        shown = f"{name}-driver"
        at = f"{within[1]}.{shown}"
        node = self._node(at, shown, "Pod", template, within[0], reported=name if task is None else task, spec=spec)
        if of is not None:
            self.nodes[node[0]]["outputs"] = {
                "parameters": [{"name": "cached-decision", "value": str(of.cached).lower()}]
            }
            ports = self.nodes[node[0]]["inputs"]["parameters"]  # type: ignore[index] # made by _node
            ports.append({"name": "component", "value": json.dumps(of.component)})

    def _node(
        self,
        name: str,
        shown: str,
        kind: str,
        template: str,
        boundary: str,
        *,
        task: Task | None = None,
        reported: str = "",
        spec: object = None,
    ) -> tuple[str, str]:
        """Adds a node, and with retries its Retry node; returns the id and name of the parent for nested nodes."""
        phase = task.phase if task else "Succeeded"
        common = {
            "templateName": template,
            "boundaryID": boundary,
            "phase": phase,
            "message": task.message if task and kind == "Pod" else "",
            "startedAt": AT,
            "finishedAt": AT if phase not in {"Running", "Pending"} else None,
        }
        ports = {
            "parameters": [{"name": "task-name", "value": reported}, {"name": "task", "value": json.dumps(spec or {})}]
        }
        if not self.retries or kind in {"Skipped", "TaskGroup"}:
            return self._put(name, {**common, "displayName": shown, "type": kind, "inputs": ports})
        self._put(name, {**common, "displayName": shown, "type": "Retry"})
        return self._put(f"{name}(0)", {**common, "displayName": f"{shown}(0)", "type": kind, "inputs": ports})

    def _put(self, name: str, node: dict[str, object]) -> tuple[str, str]:
        key = node_id(name, self.name)
        self.nodes[key] = {"id": key, "name": name, **node}
        return key, name


def node_id(name: str, workflow: str = NAME) -> str:
    """Returns the id that Argo gives a node: the Workflow's name and the FNV-1a hash of the node's name."""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return workflow if name == workflow else f"{workflow}-{value}"

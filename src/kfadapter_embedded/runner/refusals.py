"""What cannot run on this machine, found before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .spec import mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kfadapter_embedded.json_text import JsonValue

    from .spec import Component, Pipeline

_ELSEWHERE = "Run it on Kubeflow Pipelines on Kubernetes: set KFADAPTER_KFP_URL to its address, nothing else changes"
_EXECUTOR = "kfp.dsl.executor_main"
# What such a component is started with: its code is in the image.
_CONTAINERIZED = ("python3", "-m", _EXECUTOR)
_CLAIMS = {"argostub/createpvc": "makes a volume", "argostub/deletepvc": "deletes a volume"}
# Where a pod runs, and what it is called, makes no difference to what its program sees.
_HARMLESS = {
    "activeDeadlineSeconds",
    "imagePullPolicy",
    "imagePullSecret",
    "nodeAffinity",
    "nodeSelector",
    "podAffinity",
    "podMetadata",
    "tolerations",
}
_NEEDED = {
    "configMapAsEnv": "a ConfigMap",
    "configMapAsVolume": "a ConfigMap",
    "emptyDirMounts": "a volume",
    "fieldPathAsEnv": "a field of its pod",
    "genericEphemeralVolume": "a volume",
    "pvcMount": "a volume (PersistentVolumeClaim)",
    "secretAsEnv": "a Kubernetes secret",
    "secretAsVolume": "a Kubernetes secret",
    "securityContext": "a security context",
    "enabledSharedMemory": "a shared memory volume",
}


def refusal(pipeline: Pipeline) -> str:
    """Returns why a pipeline cannot run here; empty if it can."""
    reasons = [
        f"task {task} {reason}" for task, component in _leaves(pipeline) if (reason := _reason(pipeline, component))
    ]
    if not reasons:
        return ""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}. {_ELSEWHERE}."


def _leaves(pipeline: Pipeline) -> Iterator[tuple[str, Component]]:
    """The tasks that are no DAGs, each component once, by name: a spec that was stored has no order."""
    waiting, seen = [("", pipeline.root)], set()
    while waiting:
        path, component = waiting.pop(0)
        if component.executor.container:
            yield path, component
        for name, task in sorted(component.dag.tasks.items() if component.dag else ()):
            runs = task.component_ref.get("name")
            if runs not in seen:
                seen.add(runs)
                waiting.append((f"{path}/{name}".lstrip("/"), pipeline.component(task)))


def _reason(pipeline: Pipeline, component: Component) -> str:
    container = component.executor.container
    if container is None:
        return ""
    command = (*container.command, *container.args)
    if claim := _CLAIMS.get(container.image):
        return f"{claim} (PersistentVolumeClaim), and there is no Kubernetes here"
    if _EXECUTOR not in " ".join(command):
        return f"is a container component (image {container.image}), and the embedded KFP runs Python components only"
    if command[: len(_CONTAINERIZED)] == _CONTAINERIZED:
        return f"is a Python component whose code is in its image ({container.image}), and there are no containers here"
    return _kubernetes_reason(mapping(pipeline.kubernetes.get(component.executor_label)))


def _kubernetes_reason(extras: Mapping[str, JsonValue]) -> str:
    for name, value in extras.items():
        if name not in _HARMLESS and value and not _only_optional(value):
            return f"needs {_NEEDED.get(name, f'{name} of its pod')}, and there is no Kubernetes here"
    return ""


def _only_optional(value: JsonValue) -> bool:
    """Whether secrets or the like may be missing."""
    return isinstance(value, list) and all(mapping(one).get("optional") is True for one in value)

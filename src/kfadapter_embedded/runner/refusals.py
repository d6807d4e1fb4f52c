"""Finds what cannot run on this machine before anything is started."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping

from kfadapter_embedded.execution import Steps
from kfadapter_embedded.json_text import JsonValue
from kfadapter_grpc.check import rules

from .command import in_container, is_containerized, needs_image
from .places import IMAGES
from .spec import Component, Container, Pipeline, mapping

_ELSEWHERE = "Run it on Kubeflow Pipelines on Kubernetes: set KFADAPTER_KFP_URL to its address, nothing else changes"
_START_ONE = (
    "Start Docker, or Podman with its socket (systemctl --user start podman.socket); or have commands that this "
    "machine has run as processes (--steps process). "
)
_IN_CONTAINERS = "Start the server without --steps process, so that a container engine runs it. "
_CLAIMS = {"argostub/createpvc": "makes a volume", "argostub/deletepvc": "deletes a volume"}
# The node and the metadata of a pod make no difference to its program.
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


def refusal(pipeline: Pipeline, steps: Steps, no_engine: str) -> str:
    """Why a pipeline cannot run here; empty if it can.

    `no_engine` is why no container engine is available for steps that need one; empty if one is.
    """
    for name, artifact in pipeline.root.input_definitions.artifacts.items():
        if not artifact.is_optional:
            return rules.ROOT_ARTIFACT.text(input=name)
    if model := _taken_image(pipeline):
        return f"{model}. {_ELSEWHERE}."
    reasons = [
        (f"task {task} {reason}", to_do)
        for task, component in leaves(pipeline)
        if component.executor.container
        for reason, to_do in _reasons(pipeline, component, component.executor.container, steps, no_engine)
    ]
    if not reasons:
        return ""
    reason, to_do = reasons[0]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reason}{more}. {to_do}{_ELSEWHERE}."


def _taken_image(pipeline: Pipeline) -> str:
    """Why steps cannot use a model in an image: in KFP a sidecar container provides it."""
    for component in (pipeline.root, *pipeline.components.values()):
        tasks = component.dag.tasks if component.dag else {}
        sources = [source for task in tasks.values() for source in task.inputs.artifacts.values()]
        taken = {source.output.task for source in sources if source.output}
        for name in sorted(taken & tasks.keys()):
            importer = pipeline.component(tasks[name]).executor.importer
            if importer and (uri := importer.artifact_uri.get("constant", "")).startswith(IMAGES):
                return f"task {name} imports {uri}, a model in an image, which needs a container beside its takers"
    return ""


def leaves(pipeline: Pipeline) -> Iterator[tuple[str, Component]]:
    """The container tasks, each component once; sorted by name, because a stored spec has no order."""
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


def _reasons(
    pipeline: Pipeline, component: Component, container: Container, steps: Steps, no_engine: str
) -> Iterator[tuple[str, str]]:
    """Why a component cannot run here, and how it could run on this machine; at most one reason."""
    if claim := _CLAIMS.get(container.image):
        yield f"{claim} (PersistentVolumeClaim), and there is no Kubernetes here", ""
    elif reason := _kubernetes_reason(mapping(pipeline.kubernetes.get(component.executor_label))):
        yield reason, ""
    elif in_container(container, steps):
        if no_engine:
            yield f"{_kind(container)}, and no container engine responds: {no_engine}", _START_ONE
    elif needs_image(container) and (is_containerized(container) or not _is_here(container)):
        yield f"{_kind(container)}, which this machine does not have", _IN_CONTAINERS


def _kind(container: Container) -> str:
    if is_containerized(container):
        return f"is a Python component whose code is in its image ({container.image})"
    if not needs_image(container):
        return f"is to run in a container (image {container.image})"
    return f"is a container component (image {container.image}) that runs {_program(container)}"


def _program(container: Container) -> str:
    return next(iter((*container.command, *container.args)), "what its image runs by itself")


def _is_here(container: Container) -> bool:
    """Whether this machine has the program; true if the program is known only at run time."""
    program = _program(container)
    return "{{$" in program or shutil.which(program) is not None


def _kubernetes_reason(extras: Mapping[str, JsonValue]) -> str:
    for name, value in extras.items():
        if name not in _HARMLESS and value and not _only_optional(value):
            return f"needs {_NEEDED.get(name, f'{name} of its pod')}, and there is no Kubernetes here"
    return ""


def _only_optional(value: JsonValue) -> bool:
    """Whether all secrets or the like are optional."""
    return isinstance(value, list) and all(mapping(one).get("optional") is True for one in value)

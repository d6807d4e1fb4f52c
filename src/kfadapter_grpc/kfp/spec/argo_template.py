"""The templates of a Workflow: groups of steps, and pods with their image, resources and caching."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from kfadapter_grpc.contract.spec import KubernetesExtra, TaskKind, TaskResources
from kfadapter_grpc.kfp.spec.argo_expression import names_in_depends, with_sources_in_braces
from kfadapter_grpc.kfp.spec.part import Part
from kfadapter_grpc.kfp.spec.tree import MAX_TASKS, without_cycles
from kfadapter_grpc.kfp.spec.values import Sources, fill_resources

_CACHE_SWITCHES = ("pipelines.kubeflow.org/enable_caching", "pipelines.kubeflow.org/cache_enabled")
_STALENESS = "pipelines.kubeflow.org/max_cache_staleness"
_NO_TIME = re.compile(r"-?P(?:0+[YMWD])*(?:T(?:0+[HMS])*)?")
_NO_ACCELERATORS = {"cpu", "memory", "ephemeral-storage"}
_POD_KEYS = ("nodeSelector", "tolerations", "affinity", "imagePullSecrets")
_VOLUME_NAMES = {"persistentVolumeClaim": "claimName", "secret": "secretName", "configMap": "name"}
_MANIFEST_KIND = re.compile(r"""^[ \t]*["']?kind["']?[ \t]*:[ \t]*["']?([A-Za-z]+)""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """A task of a DAG, or a step; an exit step runs at the end of another one, whatever the outcome of that."""

    part: Part
    name: str
    template: str
    depends_on: tuple[str, ...]
    arguments: Mapping[str, str] = field(default_factory=dict)
    is_exit: bool = False


@dataclass(frozen=True, slots=True)
class Pod:
    """What a template runs; texts may contain placeholders."""

    kind: TaskKind = TaskKind.UNKNOWN
    image: str = ""
    resources: TaskResources | None = None
    extras: tuple[KubernetesExtra, ...] = ()
    caching_enabled: bool = False

    def with_sources(self, sources: Sources) -> Pod:
        if "{{" not in f"{self.image}{self.resources}{self.extras}":
            return self
        extras = tuple(replace(one, name=with_sources_in_braces(one.name, sources)) for one in self.extras)
        resources = fill_resources(self.resources, lambda text: with_sources_in_braces(text, sources))
        return replace(self, image=with_sources_in_braces(self.image, sources), resources=resources, extras=extras)


@dataclass(frozen=True, slots=True)
class Template:
    """A template; `parallelism` limits how many of its tasks run at once, 0 means no limit."""

    part: Part
    is_group: bool
    steps: tuple[Step, ...] = ()
    pod: Pod = field(default_factory=Pod)
    parallelism: int = 0
    max_retries: int = 0


def read_template(part: Part, shared: Part) -> Template:
    """Reads a template; one that is neither a group nor runs a container is noted."""
    part.known(
        "name dag steps container script containerSet parallelism metadata retryStrategy nodeSelector tolerations"
        " affinity volumes resource suspend",
        "activeDeadlineSeconds annotations archiveLocation automountServiceAccountToken daemon executor failFast"
        " hostAliases initContainers inputs memoize metrics outputs priority priorityClassName schedulerName"
        " securityContext serviceAccountName sidecars synchronization timeout",
    )
    retries = _retries(part["retryStrategy"])
    if part.first("dag", "steps"):
        steps = tuple(_in_order(_steps(part), part))
        return Template(part, True, steps, parallelism=part["parallelism"].count(), max_retries=retries)
    for key in ("suspend", "resource"):
        if key in part:
            part[key].note()
    return Template(part, False, pod=_pod(part, shared), max_retries=retries)


def _retries(part: Part) -> int:
    """Reads how often a template is retried; an unlimited or computed number is noted."""
    if part.is_absent:
        return 0
    limit = part.only("limit", "affinity backoff expression retryPolicy")
    if limit.is_absent or "{{" in limit.any_text():
        part.note()
        return 0
    return limit.count()


def _steps(template: Part) -> Iterable[Step]:
    if template.has("dag"):
        for part in template["dag"].only("tasks", "failFast target").items():
            yield from _with_hooks(part, None)
        return
    before: tuple[str, ...] = ()
    for group in template["steps"].items():
        steps = [step for part in group.items() for step in _with_hooks(part, before)]
        yield from steps
        before = tuple(step.name for step in steps) or before


def _with_hooks(part: Part, before: tuple[str, ...] | None) -> Iterable[Step]:
    part.known(
        "name template arguments when dependencies depends withItems withParam withSequence onExit hooks inline"
        " templateRef",
        "continueOn",
    )
    name = part["name"].text()
    if not name:
        part.note()
        return
    if before is None:
        listed = [item.text() for item in part["dependencies"].items()]
        before = tuple(dict.fromkeys([*listed, *names_in_depends(part["depends"].text())]))
    template = part["template"].text()
    if part.has("templateRef"):
        reference = part["templateRef"].known("name template", "clusterScope")
        template = f"{reference['name'].text()}/{reference['template'].text()}"
    yield Step(part, name, template, before, dict(_arguments(part["arguments"])))
    hook = part["hooks"].only("exit").only("template", "arguments expression").text()
    for number, at_end in enumerate(item for item in (part["onExit"].text(), hook) if item):
        yield Step(part, f"{name}.onExit{number or ''}", at_end, (name,), is_exit=True)


def _arguments(part: Part) -> Iterable[tuple[str, str]]:
    for argument in part.known("parameters artifacts")["parameters"].items():
        argument.known("name value", "default description enum globalName valueFrom")
        if argument.has("value"):
            yield argument["name"].text(), argument["value"].any_text()


def _in_order(steps: Iterable[Step], part: Part) -> Iterable[Step]:
    """Sorts steps after their dependencies; a name that occurs twice, or not at all, is noted."""
    by_name: dict[str, Step] = {}
    for step in islice(steps, MAX_TASKS):
        if step.name in by_name:
            step.part.note()
        else:
            by_name[step.name] = step
    declared = {name: tuple(other for other in step.depends_on if other in by_name) for name, step in by_name.items()}
    if len(by_name) == MAX_TASKS:
        part.note()
    for name, before in without_cycles(declared).items():
        step = by_name[name]
        if len(before) < len(step.depends_on):
            step.part["depends" if "depends" in step.part else "dependencies"].note()
        yield replace(step, depends_on=before)


def _pod(template: Part, shared: Part) -> Pod:
    """Reads what a template runs.

    A `resource` runs no image of the author's, and is of a kind that the contract does not know; the kind of object
    that it creates is shown as an extra.
    """
    container = _container(template)
    if container is None:
        if not template.has("resource"):
            return Pod()
        manifest = template["resource"].only(
            "manifest", "action failureCondition flags manifestFrom mergeStrategy setOwnerReference successCondition"
        )
        kind = _MANIFEST_KIND.search(manifest.text())
        return Pod(extras=(KubernetesExtra("resource", kind[1] if kind else ""),))
    container.known(
        "image resources volumeMounts env envFrom",
        "args command imagePullPolicy lifecycle livenessProbe mirrorVolumeMounts name ports readinessProbe resizePolicy"
        " restartPolicy securityContext source startupProbe stdin stdinOnce terminationMessagePath"
        " terminationMessagePolicy tty volumeDevices workingDir dependencies",
    )
    volumes = {**_volumes(shared["volumes"]), **_volumes(template["volumes"])}
    return Pod(
        TaskKind.CONTAINER,
        container["image"].text(),
        _resources(container["resources"]),
        (*_container_extras(container, volumes), *_pod_extras(template, shared)),
        _is_cached(template["metadata"]),
    )


def _container(template: Part) -> Part | None:
    """Finds the container; of a set of containers the first one is shown, and the existence of others is noted."""
    if key := template.first("container", "script"):
        return template[key]
    if not template.has("containerSet"):
        return None
    containers = list(template["containerSet"].only("containers", "retryStrategy volumeMounts").items())
    for other in containers[1:]:
        other.note()
    return containers[0] if containers else None


def _is_cached(metadata: Part) -> bool:
    """Returns whether KFP may use earlier results of a template.

    KFP v1 caches every pod, unless its label (or annotation) `pipelines.kubeflow.org/enable_caching` or `cache_enabled`
    is `false`, or `pipelines.kubeflow.org/max_cache_staleness` is a duration of zero (`P0D`).
    """
    values: dict[str, str] = {}
    for key in ("annotations", "labels"):
        marks = metadata[key]
        values |= {name: marks[name].any_text() for name in (*_CACHE_SWITCHES, _STALENESS) if marks.has(name)}
    off = any(values.get(switch, "").strip().lower() == "false" for switch in _CACHE_SWITCHES)
    return not off and not (values.get(_STALENESS) and _NO_TIME.fullmatch(values[_STALENESS]))


def _resources(part: Part) -> TaskResources | None:
    part.known("limits requests", "claims")
    requests, limits = part["requests"], part["limits"]
    accelerator = _accelerator(limits) or _accelerator(requests)
    resources = TaskResources(
        cpu_request=requests["cpu"].any_text(),
        cpu_limit=limits["cpu"].any_text(),
        memory_request=requests["memory"].any_text(),
        memory_limit=limits["memory"].any_text(),
        accelerator_type=accelerator,
        accelerator_count=accelerator and (limits[accelerator].any_text() or requests[accelerator].any_text()),
    )
    return None if resources == TaskResources() else resources


def _accelerator(amounts: Part) -> str:
    """The first resource that is not a built-in one of Kubernetes; others are noted."""
    keys = [key for key, _ in amounts.entries() if key not in _NO_ACCELERATORS and not key.startswith("hugepages-")]
    for key in keys[1:]:
        amounts[key].note()
    return keys[0] if keys else ""


def _volumes(part: Part) -> dict[str, str]:
    volumes = {}
    for volume in part.items():
        name = volume["name"].text()
        objects = (volume[kind][key].text() for kind, key in _VOLUME_NAMES.items() if volume.has(kind))
        volumes[name] = next(objects, name)
    return volumes


def _container_extras(container: Part, volumes: Mapping[str, str]) -> Iterable[KubernetesExtra]:
    for mount in container["volumeMounts"].items():
        name = mount.only("name", "mountPath mountPropagation readOnly recursiveReadOnly subPath subPathExpr").text()
        yield KubernetesExtra("volumeMounts", volumes.get(name, name))
    for variable in container["env"].items():
        yield from _references(variable["valueFrom"], ("secretKeyRef", "configMapKeyRef"))
    for source in container["envFrom"].items():
        yield from _references(source, ("secretRef", "configMapRef"))


def _references(part: Part, kinds: tuple[str, ...]) -> Iterable[KubernetesExtra]:
    return (KubernetesExtra(kind, part[kind]["name"].text()) for kind in kinds if part.has(kind))


def _pod_extras(template: Part, shared: Part) -> Iterable[KubernetesExtra]:
    for key in _POD_KEYS:
        part = template[key] if template.has(key) else shared[key]
        for item in part.items() if part.is_list else (part,) if not part.is_absent else ():
            yield KubernetesExtra(key, item["name"].text() if key == "imagePullSecrets" else "")

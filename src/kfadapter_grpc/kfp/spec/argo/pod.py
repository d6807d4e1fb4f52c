"""What a template runs in a pod: image, resources, what it uses of Kubernetes, retries and caching."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import KubernetesExtra, TaskKind, TaskResources
from kfadapter_grpc.kfp.spec.argo import levels
from kfadapter_grpc.kfp.spec.argo.expression import in_braces
from kfadapter_grpc.kfp.spec.level import ANY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kfadapter_grpc.kfp.spec.part import Fields, Part
    from kfadapter_grpc.kfp.spec.source import Sources

_CACHE_SWITCHES = ("pipelines.kubeflow.org/enable_caching", "pipelines.kubeflow.org/cache_enabled")
_STALENESS = "pipelines.kubeflow.org/max_cache_staleness"
_NO_TIME = re.compile(r"-?P(?:0+[YMWD])*(?:T(?:0+[HMS])*)?")
_NO_ACCELERATORS = {"cpu", "memory", "ephemeral-storage"}
_POD_KEYS = ("nodeSelector", "tolerations", "affinity", "imagePullSecrets")
_VOLUME_NAMES = {"persistentVolumeClaim": "claimName", "secret": "secretName", "configMap": "name"}
_MANIFEST_KIND = re.compile(r"""^[ \t]*["']?kind["']?[ \t]*:[ \t]*["']?([A-Za-z]+)""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pod:
    """What a template runs; texts may hold placeholders."""

    kind: TaskKind = TaskKind.UNKNOWN
    image: str = ""
    resources: TaskResources | None = None
    extras: tuple[KubernetesExtra, ...] = ()
    caching_enabled: bool = False
    has_placeholders: bool = False

    def with_words(self, sources: Sources) -> Pod:
        """Puts words in the place of references."""
        if not self.has_placeholders:
            return self
        extras = tuple(replace(one, name=in_braces(one.name, sources)) for one in self.extras)
        image, resources = in_braces(self.image, sources), _filled(self.resources, sources)
        return replace(self, image=image, resources=resources, extras=extras)


def read_pod(fields: Fields, shared: Fields) -> Pod:
    """Reads what a template runs.

    A `resource` runs no image of the author's, and its kind is one that the contract does not know; the kind of object
    that it makes is told as an extra.

    Args:
        fields: The template.
        shared: The workflow's spec, of which some settings hold for every pod.
    """
    container = _container(fields)
    if container is None:
        return Pod(extras=tuple(_made_object(fields["resource"])))
    volumes = {**_volumes(shared["volumes"]), **_volumes(fields["volumes"])}
    found = container.fields(levels.CONTAINER)
    extras = (*_container_extras(found, volumes), *_pod_extras(fields, shared))
    image, resources = found["image"].text(), _resources(found["resources"])
    placeholders = "{{" in f"{image}{resources}{extras}"
    return Pod(TaskKind.CONTAINER, image, resources, extras, is_cached(fields["metadata"]), placeholders)


def _container(fields: Fields) -> Part | None:
    """Finds the container; of a set of containers the first one is told, and that there are others is noted."""
    for key in ("container", "script"):
        if fields.has(key):
            return fields[key]
    if not fields.has("containerSet"):
        return None
    first, *others = fields["containerSet"].fields(levels.CONTAINER_SET)["containers"].items() or [None]
    for other in others:
        if other:
            other.note()
    return first


def is_cached(metadata: Part) -> bool:
    """Tells whether KFP may use earlier results of a template.

    KFP v1 caches every pod, unless its label (or annotation) `pipelines.kubeflow.org/enable_caching` or `cache_enabled`
    says `false`, or `pipelines.kubeflow.org/max_cache_staleness` is a duration of nothing (`P0D`).
    """
    fields = metadata.fields(ANY)
    told: dict[str, str] = {}
    for key in ("annotations", "labels"):
        marks = fields[key].fields(ANY)
        told |= {name: marks[name].loose_text() for name in (*_CACHE_SWITCHES, _STALENESS) if marks.has(name)}
    off = any(told.get(switch, "").strip().lower() == "false" for switch in _CACHE_SWITCHES)
    return not off and not (told.get(_STALENESS) and _NO_TIME.fullmatch(told[_STALENESS]))


def _resources(part: Part) -> TaskResources | None:
    fields = part.fields(levels.RESOURCES)
    requests, limits = dict(fields["requests"].entries()), dict(fields["limits"].entries())
    accelerator = _accelerator(limits) or _accelerator(requests)
    found = TaskResources(
        cpu_request=_amount(requests, "cpu"),
        cpu_limit=_amount(limits, "cpu"),
        memory_request=_amount(requests, "memory"),
        memory_limit=_amount(limits, "memory"),
        accelerator_type=accelerator,
        accelerator_count=_amount(limits, accelerator) or _amount(requests, accelerator),
    )
    return None if found == TaskResources() else found


def _amount(amounts: Mapping[str, Part], key: str) -> str:
    return amounts[key].loose_text() if key in amounts else ""


def _accelerator(amounts: Mapping[str, Part]) -> str:
    """The first resource that is none of Kubernetes' own; others are noted."""
    found = [key for key in amounts if key not in _NO_ACCELERATORS and not key.startswith("hugepages-")]
    for key in found[1:]:
        amounts[key].note()
    return found[0] if found else ""


def _filled(resources: TaskResources | None, sources: Sources) -> TaskResources | None:
    if resources is None:
        return None
    return TaskResources(
        cpu_request=in_braces(resources.cpu_request, sources),
        cpu_limit=in_braces(resources.cpu_limit, sources),
        memory_request=in_braces(resources.memory_request, sources),
        memory_limit=in_braces(resources.memory_limit, sources),
        accelerator_type=resources.accelerator_type,
        accelerator_count=in_braces(resources.accelerator_count, sources),
    )


def _volumes(part: Part) -> dict[str, str]:
    """The volumes by name, each with the name of the object that it is made of."""
    volumes = {}
    for one in part.items():
        fields = one.fields(ANY)
        name = fields["name"].text()
        objects = (fields[kind].fields(ANY)[key].text() for kind, key in _VOLUME_NAMES.items() if fields.has(kind))
        volumes[name] = next(objects, name)
    return volumes


def _container_extras(fields: Fields, volumes: Mapping[str, str]) -> Iterable[KubernetesExtra]:
    for mount in fields["volumeMounts"].items():
        name = mount.fields(levels.MOUNT)["name"].text()
        yield KubernetesExtra("volumeMounts", volumes.get(name, name))
    for variable in fields["env"].items():
        yield from _references(variable.fields(ANY)["valueFrom"], ("secretKeyRef", "configMapKeyRef"))
    for source in fields["envFrom"].items():
        yield from _references(source, ("secretRef", "configMapRef"))


def _references(part: Part, kinds: tuple[str, ...]) -> Iterable[KubernetesExtra]:
    fields = part.fields(ANY)
    return (KubernetesExtra(kind, fields[kind].fields(ANY)["name"].text()) for kind in kinds if fields.has(kind))


def _pod_extras(fields: Fields, shared: Fields) -> Iterable[KubernetesExtra]:
    """The settings of the pod: the template's, or those that the workflow gives to all."""
    for key in _POD_KEYS:
        part = fields[key] if fields.has(key) else shared[key]
        for one in part.items() if part.is_list else (part,) if not part.is_absent else ():
            yield KubernetesExtra(key, one.fields(ANY)["name"].text() if key == "imagePullSecrets" else "")


def _made_object(part: Part) -> Iterable[KubernetesExtra]:
    if part.is_absent:
        return
    kind = _MANIFEST_KIND.search(part.fields(levels.RESOURCE)["manifest"].text())
    yield KubernetesExtra("resource", kind[1] if kind else "")

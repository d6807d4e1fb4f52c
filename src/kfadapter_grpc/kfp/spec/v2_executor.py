"""What a task runs: an image with resources, or an importer; and what it uses of Kubernetes, from the platform spec.

The keys of an executor's configuration (kubernetes_executor_config.proto of KFP 2.17) are the kinds of extras; the
name is that of the object, if it has one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kfadapter_grpc.contract.spec import KubernetesExtra, TaskKind, TaskResources
from kfadapter_grpc.kfp.spec.part import Part
from kfadapter_grpc.kfp.spec.v2_component import Input, read_parameter
from kfadapter_grpc.kfp.spec.values import fill_resources

_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\[(?:'([^']*)'|\"([^\"]*)\")\]\}\}")
_GIGABYTE = 10**9
_UNITS = (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10), ("G", 10**9), ("M", 10**6), ("k", 10**3), ("", 1))

_SECRET = ("secretNameParameter", "secretName")
_CONFIG_MAP = ("configMapNameParameter", "configMapName")
_VOLUME = ("volumeName",)
_CLAIM = "pvcNameParameter"
_OLD_CLAIM = "taskOutputParameter constant componentInputParameter"
_POD_MATCHES = "matchPodExpressions matchPodLabels matchNamespaceExpressions matchNamespaceLabels"
_KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "secretAsVolume": (_SECRET, "mountPath optional"),
    "secretAsEnv": (_SECRET, "keyToEnv optional"),
    "imagePullSecret": (_SECRET, ""),
    "configMapAsVolume": (_CONFIG_MAP, "mountPath optional"),
    "configMapAsEnv": (_CONFIG_MAP, "keyToEnv optional"),
    "pvcMount": ((_CLAIM,), f"{_OLD_CLAIM} mountPath subPath"),
    "genericEphemeralVolume": (_VOLUME, "mountPath accessModes size defaultStorageClass storageClassName metadata"),
    "emptyDirMounts": (_VOLUME, "mountPath medium sizeLimit"),
    "enabledSharedMemory": (_VOLUME, "size"),
    "fieldPathAsEnv": (("fieldPath",), "name"),
    "nodeSelector": ((), "labels nodeSelectorJson"),
    "podMetadata": ((), "labels annotations"),
    "tolerations": ((), "key operator value effect tolerationSeconds tolerationJson"),
    "nodeAffinity": ((), "matchExpressions matchFields weight nodeAffinityJson"),
    "podAffinity": ((), f"{_POD_MATCHES} topologyKey namespaces weight anti"),
    "securityContext": ((), "runAsUser runAsGroup runAsNonRoot"),
}
"""The kinds of extras: the keys that hold the object's name, in order of preference, and the other keys of an entry."""
_SETTINGS = {"imagePullPolicy", "activeDeadlineSeconds"}


@dataclass(frozen=True, slots=True)
class Executor:
    """What a task runs; texts may contain placeholders, and names of extras depend on the task."""

    kind: TaskKind = TaskKind.UNKNOWN
    image: str = ""
    resources: TaskResources | None = None
    extras: tuple[tuple[str, Input], ...] = ()

    def with_sources(self, label_of: Callable[[str], str]) -> Executor:
        """Substitutes the sources of inputs for the placeholders of a text: `{{cpu}}`."""

        def fill(text: str) -> str:
            if "{{" not in text:
                return text
            return _PLACEHOLDER.sub(lambda found: f"{{{{{label_of(found[1] or found[2] or '')}}}}}", text)

        return replace(self, image=fill(self.image), resources=fill_resources(self.resources, fill))

    def extras_of(self, label_of: Callable[[Input], str]) -> tuple[KubernetesExtra, ...]:
        return tuple(
            KubernetesExtra(kind, name.constant.removeprefix("'").removesuffix("'") or label_of(name))
            for kind, name in self.extras
        )


def read_executor(part: Part, platform: Part | None) -> Executor:
    """Reads an executor, and its Kubernetes configuration; one that is not a container or importer is noted."""
    settings = platform.entries() if platform is not None else ()
    extras = tuple(extra for kind, setting in settings for extra in _extras(kind, setting))
    part.known("container importer")
    if "container" in part:
        container = part["container"].known("image resources", "command args env lifecycle")
        return Executor(TaskKind.CONTAINER, container["image"].text(), _resources(container["resources"]), extras)
    if "importer" in part:
        part["importer"].known(
            "", "artifactUri typeSchema properties customProperties reimport metadata downloadToWorkspace"
        )
        return Executor(TaskKind.IMPORTER, extras=extras)
    return Executor(extras=extras)


def read_executors(part: Part) -> dict[str, Part]:
    return dict(part.only("executors").entries())


def read_platform(platform_spec: Part) -> dict[str, Part]:
    """Finds the Kubernetes configuration of each executor by its label."""
    kubernetes = platform_spec.only("platforms").only("kubernetes")
    return read_executors(kubernetes.only("deploymentSpec", "platform pipelineConfig"))


def _resources(part: Part) -> TaskResources | None:
    if part.is_absent:
        return None
    part.known(
        "cpuLimit cpuRequest memoryLimit memoryRequest accelerator"
        " resourceCpuLimit resourceCpuRequest resourceMemoryLimit resourceMemoryRequest"
    )
    accelerator = part["accelerator"].known("type count resourceType resourceCount")
    count = accelerator["resourceCount"].text() or accelerator["count"].count()
    resources = TaskResources(
        cpu_request=part["resourceCpuRequest"].text() or _cpu(part["cpuRequest"]),
        cpu_limit=part["resourceCpuLimit"].text() or _cpu(part["cpuLimit"]),
        memory_request=part["resourceMemoryRequest"].text() or _memory(part["memoryRequest"]),
        memory_limit=part["resourceMemoryLimit"].text() or _memory(part["memoryLimit"]),
        accelerator_type=accelerator["resourceType"].text() or accelerator["type"].text(),
        accelerator_count=str(count or ""),
    )
    return None if resources == TaskResources() else resources


def _cpu(part: Part) -> str:
    """Cores in Kubernetes' notation: 0.5 is `500m`."""
    cores = part.number()
    if not cores:
        return ""
    return f"{cores:g}" if cores.is_integer() else f"{cores * 1000:g}m"


def _memory(part: Part) -> str:
    """GB (10⁹ bytes) in Kubernetes' notation, in the unit that makes it shortest: 0.512 is `512M`."""
    gigabytes = part.number()
    if not gigabytes:
        return ""
    if abs(gigabytes) > _GIGABYTE:
        part.note()
        return ""
    size = round(gigabytes * _GIGABYTE)
    return min((f"{size // unit}{name}" for name, unit in _UNITS if size % unit == 0), key=len)


def _extras(kind: str, part: Part) -> Iterable[tuple[str, Input]]:
    """Reads one kind of extras; unknown parts are shown by their kind, and noted."""
    if kind in _SETTINGS:
        yield kind, Input(constant=part.any_text())
    elif kind in _KINDS:
        names, ignored = _KINDS[kind]
        for entry in part.items() if part.is_list else (part,):
            yield kind, _name(entry.known(" ".join(names), ignored), names)
    else:
        part.note()
        yield kind, Input()


def _name(part: Part, keys: tuple[str, ...]) -> Input:
    key = part.first(*keys)
    if key is not None:
        return read_parameter(part[key]) if key.endswith("Parameter") else Input(constant=part[key].text())
    if _CLAIM not in keys:
        return Input()
    # The name of a volume's claim as the platform spec had it before `pvcNameParameter`.
    if part.has("taskOutputParameter"):
        output = part["taskOutputParameter"].known("producerTask outputParameterKey outputArtifactKey")
        return Input(task=output["producerTask"].text(), output=output["outputParameterKey"].text())
    if part.has("componentInputParameter"):
        return Input(outer=part["componentInputParameter"].text())
    return Input(constant=part["constant"].text())

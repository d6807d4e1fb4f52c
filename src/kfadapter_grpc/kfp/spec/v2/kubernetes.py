"""What tasks use of Kubernetes, from the platform spec.

The keys of an executor's configuration (kubernetes_executor_config.proto of KFP 2.17) are the kinds of extras; the
name is that of the object, where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import KubernetesExtra
from kfadapter_grpc.kfp.spec.level import Level, level
from kfadapter_grpc.kfp.spec.v2 import levels
from kfadapter_grpc.kfp.spec.v2.inputs import Input, read_parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kfadapter_grpc.kfp.spec.part import Fields, Part

_SECRET = ("secretNameParameter", "secretName")
_CONFIG_MAP = ("configMapNameParameter", "configMapName")
_VOLUME = ("volumeName",)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of extra: the keys that hold the object's name, the best first, and the keys of an entry."""

    names: tuple[str, ...]
    level: Level


_KINDS = {
    "secretAsVolume": _Kind(_SECRET, level("secretName secretNameParameter", "mountPath optional")),
    "secretAsEnv": _Kind(_SECRET, level("secretName secretNameParameter", "keyToEnv optional")),
    "imagePullSecret": _Kind(_SECRET, level("secretName secretNameParameter")),
    "configMapAsVolume": _Kind(_CONFIG_MAP, level("configMapName configMapNameParameter", "mountPath optional")),
    "configMapAsEnv": _Kind(_CONFIG_MAP, level("configMapName configMapNameParameter", "keyToEnv optional")),
    "pvcMount": _Kind(
        ("pvcNameParameter",),
        level("pvcNameParameter taskOutputParameter constant componentInputParameter", "mountPath subPath"),
    ),
    "genericEphemeralVolume": _Kind(
        _VOLUME, level("volumeName", "mountPath accessModes size defaultStorageClass storageClassName metadata")
    ),
    "emptyDirMounts": _Kind(_VOLUME, level("volumeName", "mountPath medium sizeLimit")),
    "enabledSharedMemory": _Kind(_VOLUME, level("volumeName", "size")),
    "fieldPathAsEnv": _Kind(("fieldPath",), level("fieldPath", "name")),
    "nodeSelector": _Kind((), level("", "labels nodeSelectorJson")),
    "podMetadata": _Kind((), level("", "labels annotations")),
    "tolerations": _Kind((), level("", "key operator value effect tolerationSeconds tolerationJson")),
    "nodeAffinity": _Kind((), level("", "matchExpressions matchFields weight nodeAffinityJson")),
    "podAffinity": _Kind(
        (),
        level(
            "",
            "matchPodExpressions matchPodLabels topologyKey namespaces matchNamespaceExpressions matchNamespaceLabels"
            " weight anti",
        ),
    ),
    "securityContext": _Kind((), level("", "runAsUser runAsGroup runAsNonRoot")),
}
_SETTINGS = {"imagePullPolicy", "activeDeadlineSeconds"}


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra of which the name may depend on the task."""

    kind: str
    name: Input

    def of_task(self, words_of: Callable[[Input], str]) -> KubernetesExtra:
        """As one task uses it."""
        constant = self.name.constant.removeprefix("'").removesuffix("'")
        return KubernetesExtra(self.kind, constant or words_of(self.name))


def read_platform(platform_spec: Part) -> dict[str, Part]:
    """Finds the Kubernetes configuration of each executor by its label."""
    platforms = platform_spec.fields(levels.PLATFORM_SPEC)["platforms"].fields(levels.PLATFORMS)
    deployment = platforms["kubernetes"].fields(levels.PLATFORM)["deploymentSpec"].fields(levels.DEPLOYMENT)
    return dict(deployment["executors"].entries())


def read_extras(part: Part) -> tuple[Extra, ...]:
    """Reads one executor's configuration; what is not known is told by its kind, and noted."""
    return tuple(extra for kind, one in part.entries() for extra in _extras(kind, one))


def _extras(kind: str, part: Part) -> Iterable[Extra]:
    if kind in _SETTINGS:
        yield Extra(kind, Input(constant=part.loose_text()))
    elif kind in _KINDS:
        for one in part.items() if part.is_list else (part,):
            yield Extra(kind, _name(one.fields(_KINDS[kind].level), _KINDS[kind].names))
    else:
        part.note()
        yield Extra(kind, Input())


def _name(fields: Fields, keys: tuple[str, ...]) -> Input:
    if "pvcNameParameter" in keys and not fields.has("pvcNameParameter"):
        return _old_volume(fields)
    for key in keys:
        if fields.has(key):
            return read_parameter(fields[key]) if key.endswith("Parameter") else Input(constant=fields[key].text())
    return Input()


def _old_volume(fields: Fields) -> Input:
    """Reads the name of a volume's claim as the platform spec had it before `pvcNameParameter`."""
    if fields.has("taskOutputParameter"):
        output = fields["taskOutputParameter"].fields(levels.TASK_OUTPUT)
        return Input(task=output["producerTask"].text(), output=output["outputParameterKey"].text())
    if fields.has("componentInputParameter"):
        return Input(outer=fields["componentInputParameter"].text())
    return Input(constant=fields["constant"].text())

"""What a task needs from Kubernetes (kfp-kubernetes' platform spec), by the names of its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kfadapter_grpc.check.pipeline import Task, inside, items, mapping, text
from kfadapter_grpc.contract.spec import Json

_MUST_EXIST = {
    "secretAsEnv": ("the secret", "secretName", "secretNameParameter"),
    "secretAsVolume": ("the secret", "secretName", "secretNameParameter"),
    "configMapAsEnv": ("the ConfigMap", "configMapName", "configMapNameParameter"),
    "configMapAsVolume": ("the ConfigMap", "configMapName", "configMapNameParameter"),
    "pvcMount": ("the PersistentVolumeClaim", "constant", "pvcNameParameter"),
    "imagePullSecret": ("the secret", "secretName", "secretNameParameter"),
}
_OF_THE_POD = {
    "emptyDirMounts": "a volume (emptyDir)",
    "fieldPathAsEnv": "a field of its pod",
    "genericEphemeralVolume": "a volume",
    "securityContext": "a security context",
    "enabledSharedMemory": "a shared memory volume",
}
_CLAIMS = {
    "argostub/createpvc": "making a PersistentVolumeClaim",
    "argostub/deletepvc": "deleting a PersistentVolumeClaim",
}


def needed_by(task: Task) -> Iterator[tuple[str, bool]]:
    """Yields what a task needs, as text, and whether it must exist before the run."""
    for field, value in task.kubernetes.items():
        if field in _MUST_EXIST:
            kind, *keys = _MUST_EXIST[field]
            for item in items(value):
                entry = mapping(item)
                if entry.get("optional") is not True and "taskOutputParameter" not in entry:
                    yield f"{kind} {_name(entry, keys)}", True
        elif field in _OF_THE_POD and value:
            yield _OF_THE_POD[field], False
    claim = _CLAIMS.get(text(inside(task.executor, "container").get("image")))
    if claim:
        yield claim, False


def _name(entry: Mapping[str, Json], keys: list[str]) -> str:
    """A name in the spec, or its source."""
    for key in keys:
        value = entry.get(key)
        name = text(value) or text(inside(value, "runtimeValue").get("constant"))
        if name:
            return f"'{name}'"
        if source := text(mapping(value).get("componentInputParameter")):
            return f"that the parameter '{source}' names"
    source = text(entry.get("componentInputParameter"))
    return f"that the parameter '{source}' names" if source else "that it names"

"""What a task runs: an image with resources, or an importer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import TaskKind, TaskResources
from kfadapter_grpc.kfp.spec.v2 import levels

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.kfp.spec.part import Fields, Part

_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\[(?:'([^']*)'|\"([^\"]*)\")\]\}\}")
_GIGABYTE = 10**9
_UNITS = (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10), ("G", 10**9), ("M", 10**6), ("k", 10**3), ("", 1))


@dataclass(frozen=True, slots=True)
class Executor:
    """What a task runs; texts may hold placeholders."""

    kind: TaskKind = TaskKind.UNKNOWN
    image: str = ""
    resources: TaskResources | None = None
    has_placeholders: bool = False

    def with_words(self, words_of: Callable[[str], str]) -> Executor:
        """Puts names of inputs in words where a text holds a placeholder: `{{cpu}}`."""
        if not self.has_placeholders:
            return self
        return replace(self, image=_filled(self.image, words_of), resources=_filled_resources(self.resources, words_of))


def read_executor(part: Part) -> Executor:
    """Reads an executor; one of another kind than container or importer is noted."""
    fields = part.fields(levels.EXECUTOR)
    if "container" in fields:
        container = fields["container"].fields(levels.CONTAINER)
        image, resources = container["image"].text(), _resources(container["resources"])
        return Executor(TaskKind.CONTAINER, image, resources, "{{" in f"{image}{resources}")
    if "importer" in fields:
        fields["importer"].fields(levels.IMPORTER)
        return Executor(TaskKind.IMPORTER)
    return Executor()


def _resources(part: Part) -> TaskResources | None:
    if part.is_absent:
        return None
    fields = part.fields(levels.RESOURCES)
    accelerator = fields["accelerator"].fields(levels.ACCELERATOR)
    found = TaskResources(
        cpu_request=fields["resourceCpuRequest"].text() or _cpu(fields["cpuRequest"]),
        cpu_limit=fields["resourceCpuLimit"].text() or _cpu(fields["cpuLimit"]),
        memory_request=fields["resourceMemoryRequest"].text() or _memory(fields["memoryRequest"]),
        memory_limit=fields["resourceMemoryLimit"].text() or _memory(fields["memoryLimit"]),
        accelerator_type=accelerator["resourceType"].text() or accelerator["type"].text(),
        accelerator_count=accelerator["resourceCount"].text() or _count(accelerator),
    )
    return None if found == TaskResources() else found


def _count(accelerator: Fields) -> str:
    count = accelerator["count"].count()
    return str(count) if count else ""


def _cpu(part: Part) -> str:
    """Cores, as Kubernetes writes them: 0.5 is `500m`."""
    cores = part.number()
    if not cores:
        return ""
    return f"{cores:g}" if cores.is_integer() else f"{cores * 1000:g}m"


def _memory(part: Part) -> str:
    """GB (10⁹ bytes), as Kubernetes writes them, in the unit that makes it shortest: 0.512 is `512M`."""
    gigabytes = part.number()
    if not gigabytes:
        return ""
    if abs(gigabytes) > _GIGABYTE:
        part.note()
        return ""
    size = round(gigabytes * _GIGABYTE)
    return min((f"{size // unit}{name}" for name, unit in _UNITS if size % unit == 0), key=len)


def _filled(text: str, words_of: Callable[[str], str]) -> str:
    return _PLACEHOLDER.sub(lambda found: f"{{{{{words_of(found[1] or found[2] or '')}}}}}", text)


def _filled_resources(resources: TaskResources | None, words_of: Callable[[str], str]) -> TaskResources | None:
    if resources is None:
        return None
    return TaskResources(
        cpu_request=_filled(resources.cpu_request, words_of),
        cpu_limit=_filled(resources.cpu_limit, words_of),
        memory_request=_filled(resources.memory_request, words_of),
        memory_limit=_filled(resources.memory_limit, words_of),
        accelerator_type=_filled(resources.accelerator_type, words_of),
        accelerator_count=_filled(resources.accelerator_count, words_of),
    )

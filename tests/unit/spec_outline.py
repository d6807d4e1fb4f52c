"""A summary as an indented text, to compare it with one written by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from kfadapter_grpc.kfp.spec import summarize

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kfadapter_grpc.contract.spec import SpecSummary, Task

_PARTS = ("component", "image", "condition", "loop_items", "loop_parallelism", "max_retries")


def summary_of(spec: object) -> SpecSummary:
    """Summarizes a spec as KFP would serve it."""
    return summarize(json.dumps(spec).encode())


def served(path: Path) -> object:
    """The spec of a file as KFP serves it."""
    parts = list(yaml.safe_load_all(path.read_bytes()))
    return parts[0] if len(parts) == 1 else {"pipeline_spec": parts[0], "platform_spec": parts[1]}


def outline(summary: SpecSummary) -> str:
    """Writes a line for each artifact, each task and each unknown part."""
    return "".join(f"{line.rstrip(': ')}\n" for line in _lines(summary))


def _lines(summary: SpecSummary) -> Iterator[str]:
    for way, artifacts in (("needs", summary.input_artifacts), ("makes", summary.output_artifacts)):
        for one in artifacts:
            marks = "".join(mark for mark, holds in ((" list", one.is_list), (" optional", one.optional)) if holds)
            yield f"{way} {one.name}: {one.type}{marks}"
    for task in summary.tasks:
        yield from _task_lines(task, "")
    yield from (f"unknown: {path}" for path in summary.unknown_parts)


def _task_lines(task: Task, indent: str) -> Iterator[str]:
    name = task.name if task.display_name == task.name else f"{task.name} ({task.display_name})"
    yield f"{indent}{name}: {task.kind.value}{', cached' if task.caching_enabled else ''}"
    for what, value in _told(task):
        yield f"{indent}  - {what}: {value}"
    for inner in task.tasks:
        yield from _task_lines(inner, f"{indent}    ")


def _told(task: Task) -> Iterator[tuple[str, object]]:
    if task.depends_on:
        yield "after", ", ".join(task.depends_on)
    yield from ((part, getattr(task, part)) for part in _PARTS if getattr(task, part))
    if task.resources:
        fields = task.resources.__dataclass_fields__
        yield from ((key, getattr(task.resources, key)) for key in fields if getattr(task.resources, key))
    yield from ((one.kind, one.name) for one in task.kubernetes_extras)

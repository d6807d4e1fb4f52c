"""What the parts of a summary weigh in an answer, in bytes, rather too much than too little.

The same figures bound a summary while it is made, and a page of versions that hold summaries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.contract.spec import Artifact, Json, Parameter, SpecSummary, Task

_PART = 40
_TASK = 100
_EXTRA = 12


def text_weight(text: str) -> int:
    """Bytes of a text on the wire, with its tag and length."""
    return (len(text) if text.isascii() else len(text.encode())) + 4


def value_weight(value: Json) -> int:
    """Bytes of a JSON value as a `google.protobuf.Value`."""
    if isinstance(value, str):
        return 8 + text_weight(value)
    if isinstance(value, dict):
        return 12 + sum(12 + text_weight(key) + value_weight(inner) for key, inner in value.items())
    if isinstance(value, list):
        return 12 + sum(8 + value_weight(inner) for inner in value)
    return 12


def parameter_weight(item: Parameter) -> int:
    """Bytes of a parameter."""
    texts = text_weight(item.name) + text_weight(item.description) + text_weight(item.declared_type)
    values = (*item.literals, item.default) if item.has_default else item.literals
    return _PART + texts + sum(map(value_weight, values))


def artifact_weight(item: Artifact) -> int:
    """Bytes of an artifact."""
    return _PART + text_weight(item.name) + text_weight(item.type) + text_weight(item.description)


def task_weight(item: Task) -> int:
    """Bytes of a task without those inside it."""
    texts = (item.name, item.display_name, item.component, item.image, item.condition, item.loop_items)
    extras = sum(_EXTRA + text_weight(one.kind) + text_weight(one.name) for one in item.kubernetes_extras)
    return _TASK + _texts_weight(texts) + _texts_weight(item.depends_on) + extras + _resources_weight(item)


def _resources_weight(item: Task) -> int:
    asked = item.resources
    if asked is None:
        return 0
    limits = (asked.cpu_request, asked.cpu_limit, asked.memory_request, asked.memory_limit)
    return _texts_weight((*limits, asked.accelerator_type, asked.accelerator_count))


def summary_weight(item: SpecSummary) -> int:
    """Bytes of a whole summary."""
    texts = (item.name, item.description, item.schema_version, item.sdk_version, *item.unknown_parts)
    parameters = sum(map(parameter_weight, (*item.parameters, *item.output_parameters)))
    artifacts = sum(map(artifact_weight, (*item.input_artifacts, *item.output_artifacts)))
    return _PART + _texts_weight(texts) + parameters + artifacts + sum(map(_tree_weight, item.tasks))


def _tree_weight(item: Task) -> int:
    return task_weight(item) + sum(map(_tree_weight, item.tasks))


def _texts_weight(texts: Iterable[str]) -> int:
    return sum(map(text_weight, texts))

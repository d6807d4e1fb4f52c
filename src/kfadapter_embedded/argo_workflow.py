"""Pipelines of KFP v1: Argo Workflows, served with the empty fields that Go's types add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .json_text import as_served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .json_text import JsonValue

_CONTAINER_FIELDS = ("container", "script")
_CONTAINER_LISTS = ("initContainers", "sidecars")


def try_workflow(document: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
    """The document as KFP serves it, if it is an Argo Workflow."""
    version = document.get("apiVersion")
    if not isinstance(version, str) or not version.startswith("argoproj.io/") or document.get("kind") != "Workflow":
        return None
    served = _copy(document)
    served["metadata"] = served.get("metadata") or {}
    served.setdefault("status", {"finishedAt": None, "startedAt": None})
    spec = served.setdefault("spec", {})
    if isinstance(spec, dict):
        _fill_arguments(spec)
        for template in _mappings(spec.get("templates")):
            _fill_template(template)
    return served


def _copy(document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """A copy of its own all the way down: what two aliases share must not be filled in twice."""
    copy = as_served(document)
    return copy if isinstance(copy, dict) else {}


def _fill_template(template: dict[str, JsonValue]) -> None:
    for name in ("inputs", "metadata", "outputs"):
        template.setdefault(name, {})
    _fill_parameters(template["inputs"])
    lists = [each for name in _CONTAINER_LISTS for each in _mappings(template.get(name))]
    for container in [*_mappings([template.get(name) for name in _CONTAINER_FIELDS]), *lists]:
        container.setdefault("name", "")
        container.setdefault("resources", {})
    for task in _tasks(template):
        _fill_arguments(task)


def _tasks(template: dict[str, JsonValue]) -> Iterator[dict[str, JsonValue]]:
    dag, steps = template.get("dag"), template.get("steps")
    yield from _mappings(dag.get("tasks")) if isinstance(dag, dict) else ()
    for group in steps if isinstance(steps, list) else ():
        yield from _mappings(group)


def _fill_arguments(holder: dict[str, JsonValue]) -> None:
    _fill_parameters(holder.setdefault("arguments", {}))


def _fill_parameters(arguments: JsonValue) -> None:
    """Argo keeps the values of parameters as text, whatever they are."""
    for parameter in _mappings(arguments.get("parameters")) if isinstance(arguments, dict) else ():
        for name in ("default", "value"):
            value = parameter.get(name)
            if isinstance(value, bool):
                parameter[name] = str(value).lower()
            elif isinstance(value, int | float):
                parameter[name] = str(value)


def _mappings(values: JsonValue) -> Iterator[dict[str, JsonValue]]:
    yield from (each for each in values if isinstance(each, dict)) if isinstance(values, list) else ()

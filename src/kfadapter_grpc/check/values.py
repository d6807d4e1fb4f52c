"""Finds values that change: in strings, in inputs of other types, and from missing sources."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from kfadapter_grpc.check import rules
from kfadapter_grpc.check.pipeline import Origin, Task, inside, items, mapping, text, walk
from kfadapter_grpc.check.rule import Finding, Severity
from kfadapter_grpc.contract.spec import Json

INPUT = re.compile(r"""\{\{\$\.inputs\.parameters\[(['"])(?P<name>.+?)\1\]\}\}""")
_CHANNEL = re.compile(r"\{\{channel:[^}]*\}\}")
_NAMED = re.compile(
    r"\{\{\$\.(?:pipeline_job_name|pipeline_job_resource_name|pipeline_job_uuid|pipeline_task_name|pipeline_task_uuid"
    r"|pipeline_job_create_time_utc|pipeline_job_schedule_time_utc|pipeline_root)\}\}"
)
_BREAKS_JSON = re.compile(r'["\\\x00-\x1f]')
_FIELD = re.compile(r"""\[["'](.+?)["']\]$""")
_NUMBER = "NUMBER"


def _constants(task: Task) -> Iterator[tuple[str, str]]:
    for name, origin in task.origins():
        if origin.kind == "constant" and "{{" in text(origin.value):
            yield name, text(origin.value)


def texts(task: Task) -> Iterator[Finding]:
    """Texts that contain values."""
    origins = dict(task.origins())
    for to, constant in _constants(task):
        if task.inner_group and INPUT.search(constant):
            yield rules.TEXT_INTO_PIPELINE.at(task.path, input=short_name(to))
        for match in INPUT.finditer(constant) if not task.inner_group else ():
            name = match["name"]
            if name not in origins:
                yield rules.UNKNOWN_PLACEHOLDER.at(task.path, placeholder=match[0])
            elif severity := _breaks_json(origins[name]):
                yield rules.RAW_JSON_IN_TEXT.at(task.path, severity, input=short_name(name))
        for match in _CHANNEL.finditer(constant):
            yield rules.LOOP_ITEM_IN_TEXT.at(task.path, "error", input=match[0])
        for match in _NAMED.finditer(constant):
            if match[0] != constant:
                yield rules.PLACEHOLDER_IN_TEXT.at(task.path, placeholder=match[0])


def _breaks_json(origin: Origin) -> Severity | None:
    """Whether a value in a string breaks, or may break, the JSON around it."""
    values = known_values(origin)
    if any(_needs_escaping(value) for value in values):
        return "error"
    if origin.kind == "constant" or (origin.kind == "item" and values):
        return None
    return "warning" if _type(origin) in {"LIST", "STRUCT"} else None


def _needs_escaping(value: Json) -> bool:
    if isinstance(value, str):
        return bool(_BREAKS_JSON.search(value))
    return any(isinstance(part, str) for part in walk(value))


def known_values(origin: Origin) -> list[Json]:
    """The values that are known before a run: a constant, a default, or the items of a loop."""
    if origin.field:
        return []
    if origin.kind == "constant":
        return [origin.value]
    if origin.kind in {"parameter", "unset"} and "defaultValue" in mapping(origin.value):
        return [mapping(origin.value)["defaultValue"]]
    if origin.kind == "item" and origin.task:
        return known_items(origin.task) or []
    return []


def known_items(loop: Task) -> list[Json] | None:
    """The items of a loop, as far as they are known before a run."""
    source = inside(loop.loop, "items")
    if raw := text(source.get("raw")):
        try:
            return items(json.loads(raw))
        except (ValueError, RecursionError):
            return None
    values = known_values(loop.group.origin(mapping(loop.inputs("parameters").get(text(source.get("inputParameter"))))))
    return items(values[0]) if values else None


def _type(origin: Origin) -> str:
    """The type of a value as far as it is known: STRING, NUMBER, BOOLEAN, LIST, STRUCT, NULL."""
    if origin.field:
        return ""
    if origin.kind == "constant":
        return _type_of(origin.value)
    declared: Json = None
    if origin.kind in {"parameter", "unset"}:
        declared = mapping(origin.value).get("parameterType")
    elif origin.kind == "item" and origin.task:
        declared = origin.task.definition(origin.name).get("parameterType")
    elif origin.kind == "output" and origin.task:
        if origin.task.loop:
            return "LIST"
        outputs = inside(origin.task.component, "outputDefinitions", "parameters", origin.name)
        declared = outputs.get("parameterType")
    return _declared(declared)


def _declared(kind: Json) -> str:
    return _NUMBER if text(kind).startswith(_NUMBER) else text(kind)


def _type_of(value: Json) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int | float):
        return _NUMBER
    kinds: dict[type, str] = {str: "STRING", list: "LIST", dict: "STRUCT", type(None): "NULL"}
    return kinds.get(type(value), "")


def fields(task: Task) -> Iterator[Finding]:
    """Fields of items that are null in an item that is known before a run."""
    for name, source in task.inputs("parameters").items():
        match = _FIELD.search(text(mapping(source).get("parameterExpressionSelector")))
        loop = task.group.origin(mapping(source)).task
        values = known_items(loop) if match and loop and loop.loop else None
        if match and any(item.get(match[1], "") is None for item in map(mapping, values or ())):
            yield rules.NULL_FIELD.at(task.path, "error", input=short_name(name))


def types(task: Task) -> Iterator[Finding]:
    """Values of another type than declared, and values other than the literals."""
    for name, origin in task.origins():
        definition = task.definition(name)
        declared = text(definition.get("parameterType"))
        expected, received = _declared(declared), _type(origin)
        if origin.kind == "item" and received == "STRING":
            if expected not in {"", "STRING"}:
                yield rules.ITEM_OF_ANY_LIST.at(task.path, "error", input=short_name(name), expected=declared)
            continue
        if expected and received and expected not in {received, "STRING"} and not expected.startswith("TASK_"):
            yield rules.TYPE_MISMATCH.at(task.path, "error", input=name, expected=declared, given=received)
        literals = items(definition.get("literals"))
        if literals and origin.kind == "constant" and origin.value not in literals:
            received = json.dumps(origin.value, ensure_ascii=False, default=str)
            yield rules.LITERALS.at(task.path, "error", input=name, given=received)


def sources(task: Task) -> Iterator[Finding]:
    """Missing inputs: neither in the containing group, nor among the outputs of the other task."""
    missing: dict[bool, list[str]] = {}
    for kind in ("parameters", "artifacts"):
        for source in map(mapping, task.inputs(kind).values()):
            name = text(source.get("componentInputParameter") or source.get("componentInputArtifact"))
            is_declared = name in inside(task.group.component, "inputDefinitions", kind)
            if not name:
                origin = task.group.origin(source)
                outputs = inside(origin.task.component, "outputDefinitions", kind) if origin.task else {}
                name, is_declared = (
                    origin.name,
                    origin.kind != "undeclared" and (not origin.task or origin.name in outputs),
                )
            if not is_declared:
                missing.setdefault("loop-item" in name, []).append(short_name(name))
    for is_item, names in missing.items():
        rule = rules.LOOP_ITEM_IN_TEXT if is_item else rules.UNDECLARED_INPUT
        yield rule.at(task.path, "error", input="', '".join(names))


def short_name(name: str) -> str:
    """A name without the prefix of KFP's compiler."""
    return name.removeprefix("pipelinechannel--")

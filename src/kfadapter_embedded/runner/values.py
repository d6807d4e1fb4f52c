"""Values on their way between tasks: what they are converted to, picked from, and put into."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from kfadapter_embedded.execution import EXECUTOR_LOGS
from kfadapter_embedded.json_text import as_served, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kfadapter_embedded.json_text import JsonValue
    from kfadapter_grpc.check.rules import Rule

_STEP = re.compile(r"\[(?:\"(?P<key>[^\"]*)\"|'(?P<quoted>[^']*)'|(?P<index>\d+))\]")


class ValueFaultError(Exception):
    """A value does not fit where it is to go; the text says which and why."""


@dataclass(frozen=True)
class RuntimeArtifact:
    """An artifact as it is handed from task to task.

    Attributes:
        name: Its name.
        type: Its type as the spec has it, for example `{"schemaTitle": "system.Model"}`.
        uri: Where it is: a path, or a URI for one that was imported from elsewhere.
        metadata: What its maker noted, metrics among others.
        custom_path: Where it is, if its maker chose another path.
        records: It in KFP's artifact API, where each number of a `system.Metrics` is an artifact.
    """

    name: str
    type: Mapping[str, JsonValue]
    uri: str
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    custom_path: str = ""
    records: tuple[Mapping[str, JsonValue], ...] = ()

    def json(self) -> dict[str, JsonValue]:
        """The form in which KFP's executor takes it."""
        custom: dict[str, JsonValue] = {"customPath": self.custom_path} if self.custom_path else {}
        kind, metadata = dict(self.type), dict(self.metadata)
        return {"name": self.name, "type": kind, "uri": self.uri, "metadata": metadata, **custom}


class Origin(NamedTuple):
    """Where a value comes from, in the words of KFP's task API: the type of an input or output, and a task's name."""

    type: str
    producer: str


@dataclass(frozen=True)
class Values:
    """Parameters and artifacts that go into a task or come out of it, by name.

    Attributes:
        artifacts: An artifact is a list, mostly of one.
        origins: Where each parameter and artifact comes from.
        collected: What was collected from a loop, and which rule of KFP's those that take it break, if any.
    """

    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[RuntimeArtifact, ...]] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    collected: Mapping[str, Rule | None] = field(default_factory=dict)

    def only(self, name: str) -> Values:
        """One of them."""
        parameters = {key: value for key, value in self.parameters.items() if key == name}
        return Values(parameters, {key: one for key, one in self.artifacts.items() if key == name}, self.origins)

    def with_logs(self, logs: Sequence[RuntimeArtifact]) -> Values:
        """The same and the logs of a task's attempts, the last one first, as KFP lists them."""
        return replace(self, artifacts={**self.artifacts, EXECUTOR_LOGS: tuple(reversed(logs))})

    def of_type(self, kind: str) -> Values:
        """The same as inputs or outputs of another type."""
        return replace(self, origins={name: one._replace(type=kind) for name, one in self.origins.items()})


def load_json(text: bytes) -> JsonValue:
    """Reads JSON; whole numbers are integers, however they are written, but for those that Go writes as `1e+21`.

    KFP's compiler writes every number as a float, inside lists and structs too, and its Go server drops `.0` again.
    """
    return as_served(cast("JsonValue", read_json(text)))


def check_literals(value: JsonValue, literals: tuple[JsonValue, ...], name: str) -> None:
    """Refuses a value that is none of those that a component takes, as KFP's driver does, by a ValueFaultError."""
    if literals and value not in literals:
        raise ValueFaultError(f"{name} is {_short(value)}, which is none of the values that are allowed")


def converted(value: JsonValue, kind: str, name: str) -> JsonValue:
    """Gives the value of a parameter its declared type, as KFP's driver does.

    Raises:
        ValueFaultError: the value has no such form.
    """
    try:
        if isinstance(value, str):
            return _parsed(value, kind)
        if value is not None and kind == "STRING":
            return as_text(value)
        return _as_number(value, kind)
    except (ValueError, RecursionError):
        raise ValueFaultError(f"{name} is {_short(value)}, which is no {kind}") from None


def _parsed(text: str, kind: str) -> JsonValue:
    if kind == "NUMBER_INTEGER":
        return int(text)
    if kind == "NUMBER_DOUBLE":
        return float(text)
    if kind == "BOOLEAN":
        return {"true": True, "false": False}[text.lower()] if text.lower() in {"true", "false"} else _fault()
    if kind in {"LIST", "STRUCT"}:
        value: JsonValue = json.loads(text)
        return value if isinstance(value, list if kind == "LIST" else dict) else _fault()
    return text


def _fault() -> JsonValue:
    raise ValueError


def _as_number(value: JsonValue, kind: str) -> JsonValue:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if kind == "NUMBER_DOUBLE":
        return float(value)
    return int(value) if kind == "NUMBER_INTEGER" and float(value).is_integer() else value


def as_text(value: JsonValue) -> str:
    """Writes a value into a text: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def picked(value: JsonValue, selector: str) -> JsonValue:
    """Takes a part of a value, as `parseJson(string_value)["name"]` says.

    Raises:
        ValueFaultError: the value has no such part, or the selector is none.
    """
    path = selector.removeprefix("parseJson(string_value)")
    steps = list(_STEP.finditer(path))
    if not selector.startswith("parseJson(") or "".join(one[0] for one in steps) != path:
        raise ValueFaultError(f"the selector {selector!r} cannot be read")
    try:
        part: JsonValue = json.loads(value) if isinstance(value, str) else value
        for step in steps:
            part = _part(part, step)
    except (KeyError, IndexError, TypeError, ValueError, RecursionError):
        raise ValueFaultError(f"{_short(value)} has no {path}") from None
    return part


def _part(value: JsonValue, step: re.Match[str]) -> JsonValue:
    if step["index"] is not None and isinstance(value, list):
        return value[int(step["index"])]
    key = step["key"] if step["key"] is not None else step["quoted"]
    if not isinstance(value, dict) or key is None:
        raise KeyError
    return value[key]


def _short(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:100]}…"  # noqa: PLR2004  # as long as a message bears

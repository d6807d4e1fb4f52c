"""Values passed between tasks: conversions, types and origins."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, NoReturn, cast

from kfadapter_embedded.execution import EXECUTOR_LOGS
from kfadapter_embedded.json_text import SURROGATE, JsonValue, digits_of, finite, protojson, protojson_number, read_json
from kfadapter_grpc.check.rule import Rule

# The characters that Go's json.Marshal escapes for HTML and JavaScript.
_GO_ESCAPES = {ord(one): f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"}
# The characters that Go's strings.TrimSpace removes; Python's `strip` also removes U+001C to U+001F.
_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_MOST_DIGITS = 19
_MOST_SHOWN = 100


class ValueFaultError(Exception):
    """A value is not valid for its use; the message has the value and the reason."""


@dataclass(frozen=True)
class RuntimeArtifact:
    """An artifact as it is passed from task to task.

    Attributes:
        type: Its type as in the spec, for example `{"schemaTitle": "system.Model"}`.
        uri: Its URI, or the path of an imported file of this machine.
        metadata: The metadata from its producer, including metrics.
        path: Where it is stored, for an artifact of a run; the file need not exist.
        records: Its form in KFP's artifact API, where each number of a `system.Metrics` is an artifact.
        workspace_path: Where its importer downloaded it, in the run's workspace.
    """

    name: str
    type: Mapping[str, JsonValue]
    uri: str
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    path: str = ""
    records: tuple[Mapping[str, JsonValue], ...] = ()
    workspace_path: str = ""


class Origin(NamedTuple):
    """Where a value comes from, in the terms of KFP's task API: the type of an input or output, and a task's name."""

    type: str
    producer: str


@dataclass(frozen=True)
class Values:
    """Input or output parameters and artifacts of a task, by name.

    Attributes:
        artifacts: An artifact is a list, usually of one.
        origins: Where each parameter and artifact comes from.
        collected: The names of values collected from a loop, and of those that KFP cannot hand on, with the rule that
            using them violates, if any.
        ways: For the values of a group, the tasks below it that they come through.
    """

    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[RuntimeArtifact, ...]] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    collected: Mapping[str, Rule | None] = field(default_factory=dict)
    ways: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def only(self, name: str) -> Values:
        parameters = {key: value for key, value in self.parameters.items() if key == name}
        return Values(parameters, {key: one for key, one in self.artifacts.items() if key == name}, self.origins)

    def with_logs(self, logs: Sequence[RuntimeArtifact]) -> Values:
        """The same with the logs of a task's attempts, the last one first, as KFP lists them."""
        return replace(self, artifacts={**self.artifacts, EXECUTOR_LOGS: tuple(reversed(logs))})

    def of_type(self, kind: str) -> Values:
        return replace(self, origins={name: one._replace(type=kind) for name, one in self.origins.items()})


def load_json(text: bytes | str) -> JsonValue:
    """Parses JSON as protojson does; numbers become what a component sees of them, see `protojson_number`.

    Raises ValueError, also for a text in it that is not Unicode, or RecursionError.
    """
    text = text.decode() if isinstance(text, bytes) else text
    value = cast("JsonValue", read_json(text, lambda digits: protojson_number(finite(digits)), _struct))
    if ("\\ud" in text or "\\uD" in text) and SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("a text has half of a surrogate pair, which is no character")
    return value


def _struct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate map key {_quoted(next(key for key in keys if keys.count(key) > 1))}")
    return found


class ItemText(str):
    """The text of a loop's item in a group that declares it a string, and the item itself.

    The SDK declares items of unknown type like this, so tasks that take a number get a text in KFP, and fail.
    """

    __slots__ = ("item",)
    item: JsonValue

    @classmethod
    def of(cls, text: str, item: JsonValue) -> ItemText:
        """The text of an item that is none."""
        made = cls(text)
        made.item = item
        return made


def as_text(value: JsonValue) -> str:
    """The text that KFP makes of a value (`metadata/converter.go:PbValueToText`)."""
    if isinstance(value, str) or value is None:
        return value or ""
    if isinstance(value, float):
        return digits_of(value)
    return protojson(value).translate(_GO_ESCAPES)


def parsed(text: str, kind: str) -> JsonValue:
    """Parses the text that a component wrote for an output (`metadata/converter.go:TextToPbValue`).

    Raises ValueFaultError if it is not a value of this type.
    """
    if kind == "STRING":
        return text
    try:
        if kind in {"LIST", "STRUCT"}:
            value = load_json(text)
            return value if isinstance(value, list if kind == "LIST" else dict) else _fault("unexpected type")
        read = _READERS.get(kind)
        return read(text.strip(_GO_SPACE)) if read else _fault("unknown type")
    except (ValueError, RecursionError) as error:
        raise ValueFaultError(f'TextToPbValue(text={_quoted(text)}, type="{kind}") failed: {error}') from None


def _fault(text: str) -> NoReturn:
    raise ValueError(text)


def _read_int(text: str) -> JsonValue:
    found = re.fullmatch("([+-]?)0*([0-9]+)", text)
    if not found:
        _fault(f"strconv.ParseInt: parsing {_quoted(text)}: invalid syntax")
    # Python rejects numbers with very many digits.
    number = int(found[1] + found[2][: _MOST_DIGITS + 1])
    if not -(1 << 63) <= number < 1 << 63:
        _fault(f"strconv.ParseInt: parsing {_quoted(text)}: value out of range")
    return protojson_number(float(number))


def _read_float(text: str) -> JsonValue:
    if re.fullmatch("nan|[+-]?inf(inity)?", text, re.IGNORECASE):
        return float(text)
    # Go accepts underscores between digits, and after `0x`.
    hexadecimal = text.lstrip("+-")[:2].lower() == "0x"
    digit = "[0-9a-fA-FxX]" if hexadecimal else "[0-9]"
    plain = re.sub(f"(?<={digit})_(?={digit})", "", text)
    form = r"0x([\da-f]+\.?[\da-f]*|\.[\da-f]+)p[+-]?\d+" if hexadecimal else r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
    if not re.fullmatch(f"[+-]?{form}", plain, re.IGNORECASE | re.ASCII):
        _fault(f"strconv.ParseFloat: parsing {_quoted(text)}: invalid syntax")
    try:
        return protojson_number(float.fromhex(plain) if hexadecimal else finite(plain))
    except (ValueError, OverflowError):
        _fault(f"strconv.ParseFloat: parsing {_quoted(text)}: value out of range")


def _read_bool(text: str) -> JsonValue:
    if text in {"1", "t", "T", "TRUE", "true", "True"}:
        return True
    if text in {"0", "f", "F", "FALSE", "false", "False"}:
        return False
    _fault(f"strconv.ParseBool: parsing {_quoted(text)}: invalid syntax")


_READERS: dict[str, Callable[[str], JsonValue]] = {
    "NUMBER_INTEGER": _read_int,
    "NUMBER_DOUBLE": _read_float,
    "BOOLEAN": _read_bool,
}


def converted(value: JsonValue, kind: str, name: str) -> JsonValue:
    """The value of a parameter in its declared type, by the rules of KFP's driver: it only converts to strings.

    Raises ValueFaultError for another type (`driver/resolve.go`: handleParamTypeValidationAndConversion).
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueFaultError(f"proto: google.protobuf.Value.number_value: invalid {as_text(value)} value")
    if kind == "STRING":
        try:
            return as_text(value)
        except RecursionError:
            raise ValueFaultError(f"converting input parameter {_quoted(name)} to string: it is too deep") from None
    if value is None:
        raise ValueFaultError(f'got null for input parameter "{name}"')
    actual, kinds = next(found for types, found in _KINDS.items() if isinstance(value, types))
    if kind not in kinds:
        raise ValueFaultError(f'input parameter "{name}" type mismatch: expect {kind}, got {actual}')
    return value


# In Python a bool is an int.
_KINDS: dict[type | tuple[type, ...], tuple[str, set[str]]] = {
    str: ("string", set()),
    bool: ("bool", {"BOOLEAN"}),
    (int, float): ("number", {"NUMBER_INTEGER", "NUMBER_DOUBLE"}),
    list: ("list", {"LIST"}),
    dict: ("struct", {"STRUCT", "TASK_FINAL_STATUS", "TASK_CONFIG"}),
}


def check_literals(value: JsonValue, literals: Sequence[JsonValue], name: str) -> None:
    """Raises ValueFaultError for a value that is not one of a component's literals, as KFP's driver does."""
    if literals and protojson(value) not in {protojson(one) for one in literals}:
        allowed = ", ".join(protojson(one) for one in literals)
        words = "does not match any of the allowed literal values"
        raise ValueFaultError(f'input parameter "{name}" value {_short(value)} {words}: [{allowed}]')


def _short(value: JsonValue) -> str:
    return _cut(protojson(value))


def _quoted(text: str) -> str:
    return json.dumps(_cut(text), ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"

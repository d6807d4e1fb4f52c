"""KFP's list filters: predicates in JSON, all of which must match.

The text is URL-decoded a second time before it is parsed, because KFP does so: in a value, `+` and `%` must be
percent-encoded twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote_plus

from .document_kinds import Kind
from .errors import KfpError, invalid_input, invalid_page_token
from .json_text import read_time, sound_text

_TAG_PREFIX = "tags."
_UNREAD = "failed to parse filter spec:"
# KFP's operations, and their names in a page token.
_TOKEN_NAMES = {
    "EQUALS": "EQ",
    "NOT_EQUALS": "NEQ",
    "GREATER_THAN": "GT",
    "GREATER_THAN_EQUALS": "GTE",
    "LESS_THAN": "LT",
    "LESS_THAN_EQUALS": "LTE",
    "IN": "IN",
    "IS_SUBSTRING": "SUBSTRING",
}
_OPERATION_NUMBERS = {
    1: "EQUALS",
    2: "NOT_EQUALS",
    3: "GREATER_THAN",
    5: "GREATER_THAN_EQUALS",
    6: "LESS_THAN",
    7: "LESS_THAN_EQUALS",
    8: "IN",
    9: "IS_SUBSTRING",
}
_COMPARISONS = {"EQ": "=", "NEQ": "<>", "GT": ">", "GTE": ">=", "LT": "<", "LTE": "<="}
# SQLite's own limits are about three times as high.
_MAX_PREDICATES = 100
_MAX_VALUES = 10_000
_MAX_PATTERN = 10_000
_INT64 = range(-(2**63), 2**63)

Scalar: TypeAlias = "str | int"
Value: TypeAlias = "str | int | tuple[str | int, ...]"


Sent: TypeAlias = "tuple[str, str, Value | None]"
"""Operation, field and value of a condition as it was sent, before it is known what is listed."""


@dataclass(frozen=True)
class Predicate:
    """A condition on a column; `kind` is the operation's name in a token ("EQ"), the value a tuple only for "IN"."""

    kind: str
    column: str
    value: Value

    def sql(self) -> tuple[str, list[Scalar]]:
        """The condition and its arguments; text columns are compared case-insensitively."""
        if isinstance(self.value, tuple):
            return f"{self.column} IN ({', '.join('?' * len(self.value))})", list(self.value)
        if self.kind == "SUBSTRING":
            return f"fold({self.column}) LIKE fold(?) ESCAPE '\\'", [f"%{self.value}%"]
        return f"{self.column} {_COMPARISONS[self.kind]} ?", [self.value]


@dataclass(frozen=True)
class Filter:
    """Conditions that must all match.

    Attributes:
        predicates: conditions on columns, in a fixed order. They are part of page tokens.
        tags: keys and values of tags. They are not part of tokens: as in KFP, clients send them with each page.
    """

    predicates: tuple[Predicate, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()

    def sql(self) -> tuple[str, list[Scalar]]:
        """The conditions, each after an AND, and their arguments."""
        tag = "EXISTS (SELECT 1 FROM json_each(document, '$.tags') WHERE fold(key) = fold(?) AND fold(value) = fold(?))"
        parts = [predicate.sql() for predicate in self.predicates]
        parts += [(tag, list(each)) for each in self.tags]
        text = "".join(f" AND {condition}" for condition, _ in parts)
        return text, [argument for _, arguments in parts for argument in arguments]

    def to_token(self, prefix: str) -> dict[str, dict[str, list[object]]] | None:
        """KFP's form in a page token; `None` without conditions."""
        if not self.predicates:
            return None
        groups: dict[str, dict[str, list[object]]] = {name: {} for name in _TOKEN_NAMES.values()}
        for predicate in self.predicates:
            value = list(predicate.value) if isinstance(predicate.value, tuple) else predicate.value
            groups[predicate.kind].setdefault(prefix + predicate.column, []).append(value)
        return groups

    @classmethod
    def from_token(cls, groups: object, kind: Kind, tags: tuple[tuple[str, str], ...]) -> Filter:
        """Parses the form in a page token, which is untrusted: raises KfpError if it is not of `to_token`."""
        predicates = []
        for operation, column, value in _flattened(groups)[:_MAX_PREDICATES]:
            name = column.removeprefix(kind.token_prefix)
            plain = tuple(value) if isinstance(value, list) else value
            known = name in kind.columns.values() and not _fault(operation, plain)
            if not known or not isinstance(plain, str | int | tuple):
                raise invalid_page_token("its filter is not known")
            predicates.append(Predicate(operation, name, plain))
        return cls(_ordered(predicates), tags)


def read_filter(text: str, *, tagged: bool) -> tuple[tuple[Sent, ...], tuple[tuple[str, str], ...]]:
    """Parses the query parameter `filter`: conditions on fields and, for resources with tags, on tags.

    Raises KfpError if it cannot be parsed, or a condition on a tag is not supported.
    """
    try:
        sent = [_read_predicate(item) for item in _decode(text)]
    except KfpError as error:
        if tagged:
            raise
        raise invalid_input(error.reason.replace(_UNREAD, f'failed to parse valid filter from "{text}":')) from None
    tags = [each for each in sent if tagged and each[1].startswith(_TAG_PREFIX)]
    return tuple(each for each in sent if each not in tags), tuple(_tag(*each) for each in tags)


def predicates_of(sent: Iterable[Sent], kind: Kind) -> tuple[Predicate, ...]:
    """The conditions on the columns of a kind; raises KfpError for an unknown field or an unsupported condition."""
    return _ordered([_predicate(*each, kind) for each in sent])


def is_scalar(value: object) -> bool:
    """Whether a value can be compared by the database."""
    return value in _INT64 if isinstance(value, int) else isinstance(value, str)


def _ordered(predicates: list[Predicate]) -> tuple[Predicate, ...]:
    """The same conditions in a canonical order, so that two filters can be compared."""
    return tuple(sorted(predicates, key=lambda each: (each.kind, each.column, repr(each.value))))


def _flattened(groups: object) -> list[tuple[str, str, object]]:
    found: list[tuple[str, str, object]] = []
    for kind, columns in groups.items() if isinstance(groups, dict) else ():
        for column, values in columns.items() if isinstance(columns, dict) else ():
            found += [(kind, column, value) for value in values if isinstance(values, list)]
    return found


def _predicate(operation: str, key: str, value: Value | None, kind: Kind) -> Predicate:
    if not key:
        raise invalid_input(f"Predicate key cannot be empty for operation {operation} and value {value}")
    column = kind.try_column(key)
    if column is None:
        raise invalid_input(f'no support for filtering on unrecognized field "{key}"')
    if fault := _fault(_TOKEN_NAMES.get(operation), value):
        raise invalid_input(fault.format(operation=operation))
    return Predicate(_TOKEN_NAMES[operation], column, "" if value is None else value)


def _fault(kind: object, value: object) -> str:
    """What is wrong with a condition; empty if it is valid."""
    if kind not in _TOKEN_NAMES.values():
        return "invalid predicate operation: {operation}"
    if kind == "SUBSTRING" and not isinstance(value, str):
        return "cannot use non string value type with operator {operation}"
    if kind == "SUBSTRING" and len(str(value)) > _MAX_PATTERN:
        return f"a substring is longer than {_MAX_PATTERN} characters"
    if kind == "IN":
        listed = isinstance(value, tuple) and all(map(is_scalar, value))
        return "" if listed else "cannot use IN operator with scalar type"
    return "" if is_scalar(value) else "cannot use scalar operator {operation} on array type"


def _tag(operation: str, key: str, value: Value | None) -> tuple[str, str]:
    if operation != "EQUALS":
        raise invalid_input(f'only EQUALS operation is supported for tag filtering, got {operation} for key "{key}"')
    if not isinstance(value, str):
        raise invalid_input(f'tag filter value must be a string for key "{key}"')
    return key.removeprefix(_TAG_PREFIX), value


def _decode(text: str) -> list[object]:
    if bad := re.search(r"%(?![0-9A-Fa-f]{2}).{0,2}", text, re.DOTALL):
        raise invalid_input(f'failed to decode filter spec: invalid URL escape "{bad[0]}"')
    decoded = unquote_plus(text)
    try:
        document = json.loads(decoded) if decoded else {}
    except json.JSONDecodeError as error:
        raise _syntax_error(decoded, error) from None
    except RecursionError:
        raise invalid_input(f"{_UNREAD} proto: exceeded max recursion depth") from None
    predicates = document.get("predicates", []) if isinstance(document, dict) else None
    if not isinstance(predicates, list) or not document.keys() <= {"predicates"}:
        raise _unreadable()
    if len(predicates) > _MAX_PREDICATES:
        raise invalid_input(f"a filter has more than {_MAX_PREDICATES} predicates")
    return predicates


def _syntax_error(text: str, error: json.JSONDecodeError) -> KfpError:
    """The message of Go's protojson for a JSON syntax error."""
    token = re.match(r"[-+._a-zA-Z0-9]{1,32}|.", text[error.pos :])
    if token is None:
        return invalid_input(f"{_UNREAD} proto: unexpected EOF")
    where = f"proto: syntax error (line {error.lineno}:{error.colno})"
    return invalid_input(f"{_UNREAD} {where}: invalid value {token[0]}")


def _unreadable() -> KfpError:
    return invalid_input(f"{_UNREAD} proto: syntax error: it is no list of predicates")


def _read_predicate(item: object) -> tuple[str, str, Value | None]:
    if not isinstance(item, dict):
        raise _unreadable()
    # Proto's JSON form accepts either spelling of fields, and enums by name or number.
    rest = {re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name): value for name, value in item.items()}
    operation, key = rest.pop("operation", 0), rest.pop("key", "")
    if isinstance(operation, int):
        operation = _OPERATION_NUMBERS.get(operation, "OPERATION_UNSPECIFIED")
    if not isinstance(operation, str) or not isinstance(key, str) or len(rest) > 1:
        raise _unreadable()
    for name, value in rest.items():
        if name not in _VALUES:
            raise invalid_input(f'{_UNREAD} proto: unknown field "{name}"')
        return operation, key, _VALUES[name](value)
    return operation, key, None


def _integer(value: object) -> int:
    # Proto's JSON form writes 64-bit numbers as strings, and reads both.
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,19}", str(value)):
        raise _unreadable()
    return int(str(value))


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _unreadable()
    return sound_text(value)


def _seconds(value: object) -> int:
    try:
        return read_time(_string(value))
    except (ValueError, OverflowError):
        raise invalid_input(f"{_UNREAD} proto: invalid google.protobuf.Timestamp value {value!r}") from None


def _many(read: Callable[[object], Scalar]) -> Callable[[object], tuple[Scalar, ...]]:
    def read_all(value: object) -> tuple[Scalar, ...]:
        values = value.get("values", []) if isinstance(value, dict) else None
        if not isinstance(values, list):
            raise _unreadable()
        if len(values) > _MAX_VALUES:
            raise invalid_input(f"a predicate has more than {_MAX_VALUES} values")
        return tuple(read(each) for each in values)

    return read_all


_VALUES: dict[str, Callable[[object], Value]] = {
    "int_value": _integer,
    "long_value": _integer,
    "string_value": _string,
    "timestamp_value": _seconds,
    "int_values": _many(_integer),
    "long_values": _many(_integer),
    "string_values": _many(_string),
}

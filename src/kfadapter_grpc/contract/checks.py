"""Checks of the fields of requests, declared with their types: `name: Annotated[str, text(128)]`.

A check takes the value of a field and yields what is wrong with it. Limits are KFP's, checked before it is called
because it rejects some of them with a bare 500. Rules about several fields are checked by the record's method
`check`, which yields the field and what is wrong.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from kfadapter_grpc.contract.errors import FieldViolation, InvalidFieldError

Check: TypeAlias = Callable[[Any], Iterator[str]]
"""Yields the faults of a value."""
Faults: TypeAlias = Iterator[tuple[str, str]]
"""The invalid fields of a record, each with its fault."""

MAX_COLUMN_BYTES = 255
"""Maximum of UTF-8 bytes in a description of an experiment, run or recurring run, and in a display name (KFP's)."""
_TAG_LENGTH = 63
_SHOWN = 80


class Violations:
    """Collects the violations of a request, while it is read in a namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.found: list[FieldViolation] = []

    def add(self, path: str, text: str) -> None:
        self.found.append(FieldViolation(path, text))

    def check_field(self, path: str, value: object, checks: Sequence[Check]) -> None:
        """Checks a field, unless it has a violation already."""
        if checks and not (self.found and any(violation.field == path for violation in self.found)):
            self.found += [FieldViolation(path, text) for check in checks for text in check(value)]

    def check_record(self, record: object, prefix: str) -> None:
        """Checks the rules about several fields of a record, for fields that are valid by themselves."""
        if check := getattr(record, "check", None):
            fields = {violation.field for violation in self.found}
            self.found += [FieldViolation(prefix + name, text) for name, text in check() if prefix + name not in fields]

    def raise_any(self) -> None:
        """Raises one error for all violations. Raises InvalidFieldError if there are violations."""
        if self.found:
            raise InvalidFieldError.of_all(self.found)


def text(limit: int, *, required: str = "") -> Check:
    """A line of up to `limit` characters; `required`, if set, is the message for a blank one."""

    def check(value: str) -> Iterator[str]:
        if required and not value.strip():
            yield f"is empty; {required}"
        if len(value) > limit:
            yield f"has {len(value)} characters; at most {limit} are allowed"
        if not value.isprintable() and any(unicodedata.category(character) == "Cc" for character in value):
            yield "holds a control character (such as a line break or NUL); remove it"

    return check


def column(limit: int = MAX_COLUMN_BYTES) -> Check:
    """A text of several lines in a column of KFP's of `limit` bytes."""

    def check(value: str) -> Iterator[str]:
        if (size := len(value.encode())) > limit:
            yield f"has {size} bytes of UTF-8; at most {limit} fit"
        if "\0" in value:
            yield "holds a NUL character; remove it"

    return check


def pattern(expression: str, wrong: str) -> Check:
    """Empty, or a text that matches; `{}` in `wrong` is replaced by the text."""
    compiled = re.compile(expression)

    def check(value: str) -> Iterator[str]:
        if value and not compiled.fullmatch(value):
            yield wrong.format(value[:_SHOWN])

    return check


def within(least: int, most: int, wrong: str) -> Check:
    """A number from `least` to `most`; `{}` in `wrong` is replaced by the number."""

    def check(value: int | None) -> Iterator[str]:
        if value is not None and not least <= value <= most:
            yield wrong.format(value)

    return check


def tags(limit: int, wrong: str, *, reserved: str = "") -> Check:
    """Up to `limit` tags, none of which begins with `reserved`; keys and values are as long as KFP allows."""

    def check(value: Mapping[str, str]) -> Iterator[str]:
        if len(value) > limit:
            yield f"has {len(value)} tags; {wrong}"
        for key, content in value.items():
            if not key or "." in key:
                yield f"the key '{key[:_SHOWN]}' is empty or holds a dot, which Kubeflow Pipelines does not allow"
            label = f"the key '{key[:20]}…'" if len(key) > _TAG_LENGTH else "a key"
            yield from (f"{label} {wrong}" for wrong in text(_TAG_LENGTH)(key))
            yield from (f"the value of '{key[:_SHOWN]}' {wrong}" for wrong in text(_TAG_LENGTH)(content))
            if reserved and key.startswith(reserved):
                yield f"the key '{key[:_SHOWN]}' begins with {reserved}, which is the adapter's own"

    return check


def _is_uuid(value: str) -> Iterator[str]:
    try:
        is_uuid = str(uuid.UUID(value)) == value.lower()
    except ValueError:
        is_uuid = False
    if not is_uuid:
        yield f"'{value[:_SHOWN]}' is not an id (a UUID); to use a name, set the name"


Id: TypeAlias = Annotated[str, _is_uuid]
"""An id of KFP's, a UUID."""
OptionalId: TypeAlias = Annotated[str, lambda value: _is_uuid(value) if value else iter(())]
"""The same, or empty."""
Namespace: TypeAlias = Annotated[
    str, pattern("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "'{}' is not the name of a Kubernetes namespace")
]
"""A Kubernetes namespace; if empty, the adapter's own."""
RequestId: TypeAlias = Annotated[
    str, pattern("[A-Za-z0-9._:-]{1,63}", "must be 1 to 63 letters, digits, '-', '_', '.' or ':'; a UUID is best")
]

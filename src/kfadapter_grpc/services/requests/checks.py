"""Collects what is wrong with a request, so that all of it is told at once."""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kfadapter.v1 import common_pb2
from kfadapter_grpc.contract.errors import FieldViolation, InvalidFieldError

if TYPE_CHECKING:
    from google.protobuf.message import Message


@dataclass(slots=True)
class Checks:
    """Collects what is wrong with a request."""

    violations: list[FieldViolation] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        """Notes that a field is wrong, and how."""
        self.violations.append(FieldViolation(name, text))

    def text(self, name: str, value: str, limit: int, what: str = "") -> None:
        """Checks a text's length and that it can be shown; `what` says which text of the field is meant."""
        if len(value) > limit:
            self.add(name, f"{what}has {len(value)} characters; at most {limit} are allowed")
        if any(unicodedata.category(character) == "Cc" for character in value):
            self.add(name, f"{what}holds a control character (such as a line break or NUL); remove it")

    def id(self, name: str, value: str) -> None:
        """Checks that a text can be an id of KFP's, a UUID."""
        try:
            known = str(uuid.UUID(value)) == value.lower()
        except ValueError:
            known = False
        if not known:
            self.add(name, f"'{value[:80]}' is not an id (a UUID); to look something up by its name, set the name")

    def namespace(self, name: str, value: str) -> None:
        """Checks that a text is empty or can be a Kubernetes namespace."""
        if value and not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
            self.add(name, f"'{value[:80]}' is not the name of a Kubernetes namespace")

    def bytes(self, name: str, value: str, limit: int) -> None:
        """Checks a text of several lines that KFP keeps in a column of `limit` bytes."""
        if (size := len(value.encode())) > limit:
            self.add(name, f"has {size} bytes of UTF-8; at most {limit} fit")
        if "\0" in value:
            self.add(name, "holds a NUL character; remove it")

    def time(self, request: Message, name: str, field_name: str = "") -> datetime | None:
        """Reads a time of a message; None where it is not set. `name` is the field's path, if not its name."""
        field_name = field_name or name
        if not request.HasField(field_name):
            return None
        try:
            moment: datetime = getattr(request, field_name).ToDatetime(tzinfo=timezone.utc)
        except (ValueError, OverflowError):
            self.add(name, "is not a time between the years 1 and 9999")
            return None
        return moment

    def archived(self, name: str, value: common_pb2.StorageState.ValueType) -> bool:
        """Reads whether what is put away is asked for; it is not where nothing is said."""
        if value not in common_pb2.StorageState.values():
            self.add(name, f"{value} is not a state; use STORAGE_STATE_AVAILABLE or STORAGE_STATE_ARCHIVED")
        return value == common_pb2.STORAGE_STATE_ARCHIVED

    def raise_any(self) -> None:
        """Raises one error for all that is wrong.

        Raises:
            InvalidFieldError: Something is.
        """
        if self.violations:
            raise InvalidFieldError.of_all(self.violations)

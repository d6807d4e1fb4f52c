"""The parts of a row of the error table."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kfadapter_grpc.contract.errors import AdapterError
    from kfadapter_grpc.kfp.failures import Operation

KFP_FILE_LIMIT = 33_554_432
"""The largest file that KFP accepts (32 MiB)."""
KFP_PACKET_LIMIT = 16_777_216
"""The largest statement that KFP's MySQL accepts unless configured otherwise, in bytes (16 MiB)."""


class Look(enum.Enum):
    """The check after a failure."""

    TARGET = "is the target there, and may we use it?"
    SIZE = "how large was the file?"


class Seen(enum.Enum):
    """The possible results of a check."""

    THERE = "there"
    MISSING = "missing"
    UNKNOWN_ADAPTER = "KFP does not know the adapter (401)"
    UNKNOWN_CALLER = "KFP does not know the caller (401)"
    FORBIDDEN_ADAPTER = "KFP does not let the adapter do it (403)"
    FORBIDDEN_CALLER = "KFP does not let the caller do it (403)"
    OVER_LIMIT = "over KFP's limit"
    OVER_PACKET = "over MySQL's default packet"
    SMALL = "within all limits"


@dataclass(frozen=True, slots=True)
class Row:
    """One case.

    Attributes:
        operations: The operation of KFP; empty for any.
        statuses: The HTTP statuses.
        pattern: A regular expression found in KFP's chain of messages.
        error: The error for the caller.
        message: The text; `{said}` is KFP's innermost message, and `{subject}`, `{size}`, `{limit}` stand for what the
            call was about.
        proof: The evidence for the row.
        seen: The required result of the check; None: no check.
        field: The invalid field of the request.
        as_caller: Whether the caller's own credentials were sent; None if that does not matter.
    """

    operations: tuple[Operation, ...]
    statuses: tuple[int, ...]
    pattern: str
    error: type[AdapterError]
    message: str
    proof: tuple[str, ...]
    seen: Seen | None = None
    field: str = ""
    as_caller: bool | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What is known about the failed call.

    Attributes:
        subject: What the call was about, in words (`'x'` in `pipeline 'x'`).
        resource: Its name or id.
        values: Further values for the error's metadata.
        look: The check after the failure.
    """

    subject: str = ""
    resource: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    look: Callable[[Look], Seen] | None = None

    def error(self, kind: type[AdapterError], text: str) -> AdapterError:
        """Makes the error; `{subject}` stands for the subject in `text`."""
        return kind(text.format(subject=self.subject), metadata=self.values, resource_name=self.resource)


LOOK_OF = {
    Seen.THERE: Look.TARGET,
    Seen.MISSING: Look.TARGET,
    Seen.UNKNOWN_ADAPTER: Look.TARGET,
    Seen.UNKNOWN_CALLER: Look.TARGET,
    Seen.FORBIDDEN_ADAPTER: Look.TARGET,
    Seen.FORBIDDEN_CALLER: Look.TARGET,
    Seen.OVER_LIMIT: Look.SIZE,
    Seen.OVER_PACKET: Look.SIZE,
}
"""The check that can have this result."""

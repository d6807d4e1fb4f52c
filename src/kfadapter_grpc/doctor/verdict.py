"""What a check says: how it stands, what was seen, why, and what to do next."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.cli.errors import ExitCode

if TYPE_CHECKING:
    from kfadapter_grpc.cli.invocation import Step


class Status(str, enum.Enum):
    """How it stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check says.

    Attributes:
        check: The name of the check.
        status: How it stands.
        what: What was seen.
        why: What it means, or why it was not looked at.
        next_step: What to type or to do next; empty where there is nothing to do.
        exit_code: What a failure ends the command with.
    """

    check: str
    status: Status
    what: str
    why: str = ""
    next_step: str | Step = ""
    exit_code: ExitCode = ExitCode.OK


def ok(check: str, what: str, why: str = "") -> Verdict:
    """All is well."""
    return Verdict(check, Status.OK, what, why)


def warning(check: str, what: str, *, why: str, next_step: str | Step) -> Verdict:
    """It works, and could be better."""
    return Verdict(check, Status.WARNING, what, why, next_step)


def failed(
    check: str, what: str, *, why: str, next_step: str | Step, exit_code: ExitCode = ExitCode.REFUSED
) -> Verdict:
    """It does not work."""
    return Verdict(check, Status.FAILED, what, why, next_step, exit_code)


def skipped(check: str, why: str, next_step: str | Step = "") -> Verdict:
    """It was not looked at."""
    return Verdict(check, Status.SKIPPED, "not looked at", why, next_step)


def worst(verdicts: list[Verdict]) -> ExitCode:
    """What a command ends with: the code of the first failure."""
    return next((verdict.exit_code for verdict in verdicts if verdict.status is Status.FAILED), ExitCode.OK)

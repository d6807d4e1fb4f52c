"""What a check reports: its status, what was found, why, and what to do next; and checks shared by both sides."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.cli.invocation import Invocation, Step, current
from kfadapter_grpc.cli.options import ClientOptions

SOON_DAYS = 14
"""The number of days before its expiry at which a certificate causes a warning."""
_DAY_SECONDS = 24 * 3600
MAX_SKEW_SECONDS = 5.0
"""The difference of clocks that causes a warning."""


class Status(str, enum.Enum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Verdict:
    check: str
    status: Status
    what: str
    why: str = ""
    next_step: str | Step = ""
    exit_code: ExitCode = ExitCode.OK

    def advice(self, target: str = "") -> str:
        """Formats the next step: a command on its own line, and a text; for the adapter at `target`, if set."""
        invocation = Invocation(options=ClientOptions(target=target)) if target else current()
        return invocation.format(self.next_step)


def ok(check: str, what: str) -> Verdict:
    return Verdict(check, Status.OK, what)


def warning(check: str, what: str, *, why: str, next_step: str | Step) -> Verdict:
    """It works, with limits."""
    return Verdict(check, Status.WARNING, what, why, next_step)


def failed(
    check: str, what: str, *, why: str, next_step: str | Step, exit_code: ExitCode = ExitCode.REFUSED
) -> Verdict:
    return Verdict(check, Status.FAILED, what, why, next_step, exit_code)


def skipped(check: str, why: str, next_step: str | Step = "") -> Verdict:
    return Verdict(check, Status.SKIPPED, "not checked", why, next_step)


def worst(verdicts: list[Verdict]) -> ExitCode:
    """The exit code of the command: that of the first failure."""
    return next((verdict.exit_code for verdict in verdicts if verdict.status is Status.FAILED), ExitCode.OK)


def certificate(check: str, subject: str, ends: float) -> Verdict:
    """Checks a certificate by when it expires, in seconds since 1970; `subject` names it."""
    days = (ends - time.time()) / _DAY_SECONDS
    moment = f"{datetime.fromtimestamp(ends, timezone.utc):%Y-%m-%d %H:%M} UTC"
    step = "renew it, and check why it was not renewed automatically"
    if days < 0:
        return failed(check, f"{subject} expired {moment}", why="clients reject it", next_step=step)
    if days < SOON_DAYS:
        why = f"from then on clients cannot connect; that is in {days:.0f} days"
        return warning(check, f"{subject} expires {moment}", why=why, next_step=step)
    return ok(check, f"{subject} expires {moment}, in {days:.0f} days")


def clock(check: str, whose: str, ahead_seconds: float) -> Verdict:
    """Checks a clock by how far it is ahead of this one, in seconds; negative if behind."""
    if abs(ahead_seconds) <= MAX_SKEW_SECONDS:
        return ok(check, f"{whose} clock agrees with this one within {max(abs(ahead_seconds), 0.1):.1f} s")
    return warning(
        check,
        f"{whose} clock is {abs(ahead_seconds):.0f} s {'ahead of' if ahead_seconds > 0 else 'behind'} this one",
        why="filters by time miss new records, and tokens and certificates may seem not yet or no longer valid",
        next_step="set both clocks by NTP: timedatectl set-ntp true",
    )

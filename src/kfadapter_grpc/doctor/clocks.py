"""How far clocks are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.cli.invocation import do
from kfadapter_grpc.doctor.verdict import ok, warning

if TYPE_CHECKING:
    from kfadapter_grpc.doctor.verdict import Verdict

MAX_SKEW_SECONDS = 5.0
"""How far clocks may be apart before filters by time, tokens and certificates surprise."""


def clock(check: str, whose: str, ahead_seconds: float) -> Verdict:
    """Judges a clock by how far it is ahead of this one, in seconds; behind it where that is negative."""
    if abs(ahead_seconds) <= MAX_SKEW_SECONDS:
        return ok(check, f"{whose} clock agrees with this one within {max(abs(ahead_seconds), 0.1):.1f} s")
    return warning(
        check,
        f"{whose} clock is {abs(ahead_seconds):.0f} s {'ahead of' if ahead_seconds > 0 else 'behind'} this one",
        why="filters by time miss what is new, and tokens and certificates may seem not yet or no longer valid",
        next_step=do("set both clocks by NTP: timedatectl set-ntp true"),
    )

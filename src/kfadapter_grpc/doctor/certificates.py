"""When certificates end."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.cli.invocation import do
from kfadapter_grpc.doctor.verdict import failed, ok, warning

if TYPE_CHECKING:
    from kfadapter_grpc.doctor.verdict import Verdict

SOON_DAYS = 14
"""How many days before its end a certificate is due."""
_DAY_SECONDS = 24 * 3600


def certificate(check: str, words: str, ends: float) -> Verdict:
    """Judges a certificate by when it ends.

    Args:
        check: The name of the check.
        words: What the certificate is, in front of when it ends.
        ends: Its end, in seconds since 1970.
    """
    days = (ends - time.time()) / _DAY_SECONDS
    moment = f"{datetime.fromtimestamp(ends, timezone.utc):%Y-%m-%d %H:%M} UTC"
    step = do("renew it, and see why it was not renewed by itself")
    if days < 0:
        return failed(check, f"{words} ended {moment}", why="nobody accepts it any more", next_step=step)
    if days < SOON_DAYS:
        why = f"from then on nothing can connect; that is in {days:.0f} days"
        return warning(check, f"{words} ends {moment}", why=why, next_step=step)
    return ok(check, f"{words} ends {moment}, in {days:.0f} days")

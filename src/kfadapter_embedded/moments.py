"""Moments in requests, as proto's JSON form writes them (RFC 3339)."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_FRACTION = re.compile(r"\.[0-9]+")


def read_moment(text: str) -> int:
    """The seconds since 1970, which are all that KFP keeps of a moment; without a zone it is UTC.

    Raises:
        ValueError: it is no moment.
    """
    moment = datetime.fromisoformat(_FRACTION.sub("", text).replace("Z", "+00:00"))
    return int((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp())

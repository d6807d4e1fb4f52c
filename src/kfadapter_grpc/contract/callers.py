"""Who calls, and what that allows."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Role(enum.Enum):
    """What a caller may do."""

    READER = "reader"
    """Calls without side effects."""
    WRITER = "writer"
    """All calls."""

    def allows(self, needed: Role) -> bool:
        """Tells whether somebody of this role may do what needs `needed`."""
        return self is Role.WRITER or needed is Role.READER


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has shown who they are.

    Attributes:
        name: As the operator calls them: the name of a token, or the one in a client certificate.
        role: What they may do.
    """

    name: str
    role: Role

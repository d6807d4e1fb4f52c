"""What goes wrong on this side of the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from kfadapter_grpc.cli.invocation import Step


class CommandError(Exception):
    """A command cannot do its work, for a reason that no adapter was asked about. All three parts are to be given.

    Attributes:
        what: What is wrong.
        why: What is known of the cause.
        next_step: What to type next, or to do, as words or as a step.
        exit_code: What the command exits with.
    """

    def __init__(self, what: str, *, why: str, next_step: str | Step, exit_code: ExitCode = ExitCode.REFUSED) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next_step = next_step
        self.exit_code = exit_code

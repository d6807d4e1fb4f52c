"""The question before something is deleted, where somebody can answer it."""

from __future__ import annotations

import sys

import typer

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.exit_codes import ExitCode


def can_answer() -> bool:
    """Tells whether somebody sits at a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str) -> None:
    """Asks, and ends the command where the answer is no."""
    if not typer.confirm(question, err=True):
        output.note("nothing was deleted")
        raise typer.Exit(ExitCode.CANCELLED)

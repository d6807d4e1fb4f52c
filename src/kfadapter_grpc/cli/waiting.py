"""A word on the terminal while somebody waits for what tells no progress."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import Progress, TextColumn

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Shows a text on stderr as long as the block runs, where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with Progress(
        TextColumn("{task.description}", markup=False), console=output.console(sys.stderr), transient=True
    ) as bars:
        bars.add_task(one_line(text), total=None)
        yield

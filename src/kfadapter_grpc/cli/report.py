"""The three parts of an error on stderr: what is wrong, why, and what to do next."""

from __future__ import annotations

import sys

from kfadapter_grpc.cli.text import plain


def print_parts(what: str, why: str, next_step: str) -> None:
    """Prints an error."""
    lines = [f"error: {_block(what)}", f"why:   {_block(why)}", f"next:  {_block(next_step)}"]
    sys.stderr.write("\n".join(lines) + "\n")


def _block(text: str) -> str:
    """Keeps the lines of a text below each other."""
    return "\n       ".join(plain(line) for line in text.splitlines() if line.strip())

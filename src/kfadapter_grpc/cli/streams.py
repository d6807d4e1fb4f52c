"""The process's standard streams and arguments, made fit whatever the shell and the locale gave."""

from __future__ import annotations

import os
import sys
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kfadapter_grpc.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence
STDIN = Path("-")
"""Stands for the standard input."""


def prepare_streams() -> None:
    """Makes the streams fit to be used.

    Raises:
        CommandError: There is no standard output; whatever is opened first would be taken for it.
    """
    closed = sys.stdout is None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # a new file gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, TextIOWrapper(FileIO(os.devnull, mode), encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a character that the encoding lacks is no failure
    if closed:
        raise CommandError(
            "the standard output is closed",
            why="there is nowhere to print to",
            next_step="the same command without >&-; >/dev/null discards the output",
        )


def utf8(text: str) -> str:
    """Reads a text of the command line or the disk as UTF-8 where the locale could not; otherwise leaves it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode("utf-8", "surrogateescape")
    return text


def utf8_arguments(arguments: Sequence[str]) -> list[str]:
    """Reads arguments as UTF-8 where the locale could not read them; what is no UTF-8 either stays as it is."""
    return [utf8(argument) for argument in arguments]


def native_path(text: str) -> Path:
    """Undoes `utf8_arguments` for a path: spelled as the locale spells what is on the disk.

    Raises:
        BadParameter: It is empty, which Python would take for the current folder.
    """
    if not text:
        raise typer.BadParameter("an empty text is no path")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))
    return Path(text)


def state_folder() -> Path:
    """Where a program of the user keeps what it must not lose, as the XDG base directory specification says."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "kfadapter"

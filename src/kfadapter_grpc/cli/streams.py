"""Makes the standard streams and arguments usable with any shell and locale."""

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
    """Makes the standard streams usable.

    Raises:
        CommandError: Stdout is closed; the first file to be opened would become stdout.
    """
    closed = sys.stdout is None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # a new file gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, TextIOWrapper(FileIO(os.devnull, mode), encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # characters that the encoding lacks must not raise
    if closed:
        raise CommandError(
            "the standard output is closed",
            why="there is nowhere to print to",
            next_step="the same command without >&-; >/dev/null discards the output",
        )


def utf8(text: str) -> str:
    """Decodes a text from the command line or the disk as UTF-8 if the locale could not; otherwise unchanged."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode("utf-8", "surrogateescape")
    return text


def utf8_arguments(arguments: Sequence[str]) -> list[str]:
    """Decodes arguments as UTF-8 if the locale could not; those that are not UTF-8 either are unchanged."""
    return [utf8(argument) for argument in arguments]


def native_path(text: str) -> Path:
    """Undoes `utf8_arguments` for a path: encoded in the locale, as file names are.

    Raises:
        BadParameter: It is empty, which Python would treat as the current folder.
    """
    if not text:
        raise typer.BadParameter("an empty text is no path")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))
    return Path(text)

"""Text from shells and disks, error messages, and the standard streams."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from io import FileIO, TextIOWrapper
from pathlib import Path

import typer

from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.printable import printable

_UNESCAPED_BY_JSON = re.compile("[\x7f-\x9f]")


def printable_json(text: str) -> str:
    """Replaces raw control characters in JSON, which JSON allows, by escapes; the value is unchanged."""
    return _UNESCAPED_BY_JSON.sub(lambda char: f"\\u{ord(char[0]):04x}", text)


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Returns a sentence with the known text that is the most alike, after a blank; empty if none is alike."""
    by_letters = {name.casefold(): name for name in known}
    similar = get_close_matches(text.casefold(), by_letters, 1)
    return f" Did you mean '{by_letters[similar[0]]}'?" if similar else ""


def print_error(what: str, why: str, next_step: str) -> None:
    lines = [f"error: {_block(what)}", f"why:   {_block(why)}", f"next:  {_block(next_step)}"]
    sys.stderr.write("\n".join(lines) + "\n")


def _block(text: str) -> str:
    return "\n       ".join(printable(line) for line in text.splitlines() if line.strip())


STDIN = Path("-")


def prepare_streams() -> None:
    """Makes the standard streams usable; fails if stdout is closed: the first file opened would become it."""
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
    """Undoes `utf8_arguments` for a path: encoded in the locale, as file names are. Empty is no path."""
    if not text:
        raise typer.BadParameter("an empty text is no path")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))
    return Path(text)

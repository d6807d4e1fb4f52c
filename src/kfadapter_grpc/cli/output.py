"""Data on stdout, in the format that was asked for; everything that is not data goes to stderr."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

import yaml
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.column_widths import GAP, Step, try_fit
from kfadapter_grpc.cli.text import one_line, plain, plain_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kfadapter_grpc.contract.spec import Json

_TRAILING_BLANKS = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")
_WIDE = 100_000
"""Columns that a pipe has: lines are never broken for a program that reads them."""


def console(stream: TextIO) -> Console:
    """Makes a console that sends escape codes to terminals only, and styles none where NO_COLOR is set."""
    terminal = stream.isatty()
    styled = terminal and not os.environ.get("NO_COLOR")
    return Console(
        file=stream,
        force_terminal=terminal,
        color_system="auto" if styled else None,
        width=None if terminal else _WIDE,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
    )


def note(text: str) -> None:
    """Tells a person something that is not data."""
    sys.stderr.write(plain(text) + "\n")


def print_document(value: Json, style: Format) -> None:
    """Prints a value as JSON or YAML."""
    if style is Format.YAML:
        sys.stdout.write(yaml.safe_dump(value, allow_unicode=is_utf8(), sort_keys=False))
    else:
        sys.stdout.write(plain_json(json.dumps(value, indent=2, ensure_ascii=not is_utf8())) + "\n")


def print_heading(text: str) -> None:
    """Prints a title as tables have it."""
    _print(Text(text, style="bold"))


def width(least: int) -> int:
    """Tells how long lines may be, at least so long; in a pipe they need not end."""
    return max(console(sys.stdout).width, least)


def encodable(text: str) -> str:
    """Writes characters that stdout lacks as it would, so that their width is known."""
    return text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding)


def print_line(text: str) -> None:
    """Prints one line."""
    sys.stdout.write(one_line(text) + "\n")


def print_names(names: Iterable[str]) -> None:
    """Prints one name on each line, each as soon as it is known; programs get it as it is."""
    shown = plain if sys.stdout.isatty() else str
    for name in names:
        sys.stdout.write(shown(name) + "\n")


def print_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, steps: Sequence[Step], cut: Sequence[str] = ()
) -> None:
    """Prints rows under a head; wide characters keep their columns.

    Where the terminal is too narrow for a table, each row becomes a block of lines with a title and a value.

    Args:
        head: The titles of the columns.
        rows: The cells.
        steps: Which columns give way where the terminal is narrow. What is left out or cut is marked.
        cut: The titles of the columns that are cut where they are too narrow; the others are broken into lines.
    """
    cells = [[encodable(one_line(cell)) for cell in row] for row in rows]
    natural = {title: max(map(cell_len, (title, *column))) for title, *column in zip(head, *cells, strict=True)}
    widths = try_fit(natural, steps, console(sys.stdout).width, cell_len(_mark()))
    if widths is None:
        _print_blocks(head, cells)
    else:
        _print_columns(widths, cells, cut)


def _print_columns(widths: dict[str, int], rows: Sequence[Sequence[str]], cut: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_edge=False)
    shown = {title: width for title, width in widths.items() if width}
    for title, width in shown.items():
        table.add_column(title, overflow="fold", width=width)
    left_out = any(cell for row in rows for title, cell in zip(widths, row, strict=True) if title not in shown)
    if left_out:
        table.add_column(_mark(), no_wrap=True)
    for row in rows:
        kept = [(title, cell) for title, cell in zip(widths, row, strict=True) if title in shown]
        table.add_row(*(Text(_cut(cell, shown[title]) if title in cut else cell) for title, cell in kept))
    _print(table)


def _print_blocks(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(rows):
        if number:
            print_line("")
        print_fields(zip(head, row, strict=True))


def _cut(text: str, width: int) -> str:
    """Shortens a text that is too wide, and marks that."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - cell_len(_mark())).rstrip() + _mark()


def _mark() -> str:
    """Stands for what there is no room for."""
    return "…" if is_utf8() else "..."


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Prints a name and a value on each line; values that are empty are left out."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False, show_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        if value:
            table.add_row(Text(name), Text("\n".join(encodable(plain(line)) for line in value.splitlines())))
    _print(table)


def _print(what: Table | Text) -> None:
    screen = console(sys.stdout)
    with screen.capture() as captured:
        screen.print(what)
    sys.stdout.write("".join(_TRAILING_BLANKS.sub(r"\1", line) + "\n" for line in captured.get().splitlines()))


def is_utf8(stream: TextIO | None = None) -> bool:
    """Tells whether a stream, stdout unless another is given, takes every character."""
    return (stream or sys.stdout).encoding.lower().replace("-", "").startswith("utf")

"""Data on stdout, in the requested format; everything else goes to stderr."""
# ruff: noqa: PLC0415  Rich and PyYAML are imported where something is printed, to keep the help fast

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, BinaryIO, TextIO, TypeVar

import typer

from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.cli.text import printable_json
from kfadapter_grpc.printable import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from kfadapter_grpc.cli.options import Format


T = TypeVar("T")
GAP = 3
SHORT_ID = 8
"""The length of ids in a narrow table; commands accept it as a reference."""
SHORT_NAME = 16
"""The width at which names are broken in a narrow table; below it, no table is printed."""

_TRAILING_BLANKS = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")
_WIDE = 100_000
"""The width of a pipe: lines are never wrapped for programs."""


@dataclass(frozen=True, slots=True)
class Shrink:
    """A step that shrinks a table: the column's minimum width, 0 to omit it."""

    title: str
    minimum: int


def console(stream: TextIO) -> Console:
    """Creates a console that sends escape codes to terminals only, and no styles if NO_COLOR is set."""
    from rich.console import Console

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
    """Prints a message on stderr."""
    sys.stderr.write(printable(text) + "\n")


def print_document(value: object, style: Format) -> None:
    """Prints JSON, a record of the contract, or a list of them, as JSON or YAML."""
    from kfadapter_grpc.codec import to_json

    if isinstance(value, list):
        value = [to_json(item) if is_dataclass(item) else item for item in value]
    elif is_dataclass(value):
        value = to_json(value)
    if style == "yaml":
        import yaml

        sys.stdout.write(yaml.safe_dump(value, allow_unicode=is_utf8(), sort_keys=False))
    else:
        sys.stdout.write(printable_json(json.dumps(value, indent=2, ensure_ascii=not is_utf8())) + "\n")


def print_section(title: str, lines: Iterable[str]) -> None:
    """Prints lines under a bold title, after an empty line."""
    from rich.text import Text

    print_line("")
    _print(Text(title, style="bold"))
    sys.stdout.writelines(f"{line}\n" for line in lines)


def width() -> int:
    """Returns the maximum line length, at least 20; in a pipe it is unlimited."""
    return max(console(sys.stdout).width, 20)


def encodable(text: str) -> str:
    """Escapes characters that stdout cannot encode, so that the width is known."""
    return text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding)


def print_line(text: str) -> None:
    sys.stdout.write(one_line(text) + "\n")


def print_names(names: Iterable[str]) -> None:
    """Prints one name per line, as they arrive; unescaped if stdout is not a terminal."""
    escape = printable if sys.stdout.isatty() else str
    for name in names:
        sys.stdout.write(escape(name) + "\n")


@contextmanager
def stdout() -> Iterator[BinaryIO]:
    """Stdout, for bytes; on a terminal a final newline puts the next prompt on its own line."""
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()
    if sys.stdout.isatty():
        sys.stdout.write("\n")


def print_record(record: object, style: Format, *, name: str, table: Callable[[], None]) -> None:
    """Prints a record of the contract, or its JSON: its name, a document, or what `table` prints."""
    if style == "table":
        table()
    elif style == "name":
        print_names([name])
    else:
        print_document(record, style)


def print_change(record: object, style: Format, *, name: str, text: str) -> None:
    """Prints a changed record; as a table, only what was done."""
    print_record(record, style, name=name, table=lambda: print_line(text))


def print_deletion(record: object, style: Format, *, name: str, text: str, missing: str) -> None:
    """Prints the result of a deletion; without a `name` there was nothing to delete."""
    if style in ("json", "yaml"):
        print_document(record, style)
    elif not name:
        note(missing)
    elif style == "name":
        print_names([name])
    else:
        print_line(text)


def print_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    steps: Sequence[Shrink],
    cut: Sequence[str] = (),
    ids: Sequence[str] = (),
) -> None:
    """Prints rows under a header; wide characters keep columns aligned.

    If the terminal is too narrow, `steps` shrink columns, and the columns `ids` have the first SHORT_ID characters
    only. The columns `cut` are cut where they are too narrow, the others wrapped. What is omitted or cut is marked. If
    that does not suffice, each row becomes a block of lines with a title and a value.
    """
    from rich.cells import cell_len

    cells = [[encodable(one_line(cell)) for cell in row] for row in rows]
    short = [
        [cell[:SHORT_ID] if title in ids else cell for title, cell in zip(head, row, strict=True)] for row in cells
    ]
    width, omitted = console(sys.stdout).width, cell_len(ellipsis())
    for texts, shrink in ((cells, ()), (short, steps)):
        columns = zip(head, *texts, strict=True)
        natural = {title: max(map(cell_len, (title, *column))) for title, *column in columns}
        if widths := try_fit(natural, shrink, width, omitted):
            _print_columns(widths, texts, cut)
            return
    for number, row in enumerate(cells):
        if number:
            print_line("")
        print_fields(zip(head, row, strict=True))


def _print_columns(widths: dict[str, int], rows: Sequence[Sequence[str]], cut: Sequence[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    from kfadapter_grpc.graph.model import truncate

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_edge=False)
    visible = {title: width for title, width in widths.items() if width}
    for title, width in visible.items():
        table.add_column(title, overflow="fold", width=width)
    left_out = any(cell for row in rows for title, cell in zip(widths, row, strict=True) if title not in visible)
    if left_out:
        table.add_column(ellipsis(), no_wrap=True)
    for row in rows:
        cells = [(title, cell) for title, cell in zip(widths, row, strict=True) if title in visible]
        table.add_row(
            *(Text(truncate(cell, visible[title], ellipsis()) if title in cut else cell) for title, cell in cells)
        )
    _print(table)


def ellipsis() -> str:
    """The ellipsis for truncated text."""
    return "…" if is_utf8() else "..."


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Prints a name and a value on each line; empty values are omitted."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False, show_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        if value:
            table.add_row(Text(name), Text("\n".join(encodable(printable(line)) for line in value.splitlines())))
    _print(table)


def _print(content: Table | Text) -> None:
    screen = console(sys.stdout)
    with screen.capture() as captured:
        screen.print(content)
    sys.stdout.write("".join(_TRAILING_BLANKS.sub(r"\1", line) + "\n" for line in captured.get().splitlines()))


def is_utf8(stream: TextIO | None = None) -> bool:
    """Returns whether a stream, by default stdout, can encode every character."""
    return (stream or sys.stdout).encoding.lower().replace("-", "").startswith("utf")


def try_fit(natural: dict[str, int], steps: Sequence[Shrink], available: int, mark_width: int) -> dict[str, int] | None:
    """Applies the steps in order until the columns fit; None if they do not fit after the last."""
    widths = dict(natural)
    if _total(widths, mark_width) <= available:
        return widths
    for step in steps:
        excess = _total(widths, mark_width) - available
        width = widths[step.title]
        widths[step.title] = max(min(step.minimum, width), width - excess) if step.minimum else 0
        if _total(widths, mark_width) <= available:
            return widths
    return None


def _total(widths: dict[str, int], mark_width: int) -> int:
    visible = [width for width in widths.values() if width]
    if len(visible) < len(widths):
        visible.append(mark_width)
    return sum(visible) + GAP * (len(visible) - 1)


def is_interactive() -> bool:
    """Whether a terminal can answer a prompt."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, refused: str = "nothing was deleted") -> None:
    """Asks for confirmation, and ends the command if it is declined."""
    if not typer.confirm(question, err=True):
        note(refused)
        raise typer.Exit(ExitCode.CANCELLED)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Shows a text on stderr during the block, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.progress import Progress, TextColumn

    with Progress(TextColumn("{task.description}", markup=False), console=console(sys.stderr), transient=True) as bars:
        bars.add_task(one_line(text), total=None)
        yield


@contextmanager
def progress_bar(
    doing: str, at_end: str = "", *, counts: bool = False
) -> Iterator[Callable[[int, int | None], None] | None]:
    """Shows a progress bar on stderr if that is a terminal; `at_end` replaces its text after the last byte.

    Its numbers are bytes, or, with `counts`, how many of how many are done.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TransferSpeedColumn

    numbers = (MofNCompleteColumn(),) if counts else (DownloadColumn(), TransferSpeedColumn())
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *numbers)
    with Progress(*columns, console=console(sys.stderr), transient=True) as bars:
        task = bars.add_task(doing, total=None)

        def update(done: int, total: int | None) -> None:
            bars.update(task, completed=done, total=total, description=at_end if at_end and done == total else doing)

        yield update

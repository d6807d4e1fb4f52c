"""Lists of records: a table, CSV, names or documents, from one definition of their columns."""

# ruff: noqa: PLC0415  codec loads gRPC, which the help does not need

from __future__ import annotations

import csv
import enum
import json
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Generic, Literal, TypeVar

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.text import did_you_mean
from kfadapter_grpc.printable import printable
from kfadapter_grpc.times import shown_age, shown_duration, shown_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kfadapter_grpc.contract.spec import Json

T = TypeVar("T")
MAX_CELL = 200
"""The maximum number of characters of a value in tables that are not wide."""
TABULAR = ("table", "wide", "csv")
_DESCENDING = ":desc"
NAME_STEPS = (
    out.Shrink("DESCRIPTION", 12),
    out.Shrink("DESCRIPTION", 0),
    *(out.Shrink(title, out.SHORT_NAME) for title in ("NAME", "VERSION")),
)
"""How to shrink a table of names with descriptions."""


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column of a list. Its values are formatted by their types: in tables for people, in CSV in full.

    Attributes:
        key: Its title in CSV, and its name in `--columns` and `--sort`: the field of the record.
        value: Returns the value of a record; the field by default.
        format: Formats the value in tables; by its type by default.
        wide: Whether plain tables omit it.
        if_any: Whether tables omit it if all of its cells are empty.
        cut: Whether its text is cut where the table is too wide; otherwise it is wrapped.
        is_id: Whether it is an id, of which the first characters suffice where the table is too wide.
    """

    title: str
    key: str
    value: Callable[[T], object] | None = None
    format: Callable[[T], str] | None = None
    wide: bool = False
    if_any: bool = False
    cut: bool = False
    is_id: bool = False

    def of(self, record: T) -> object:
        return self.value(record) if self.value else getattr(record, self.key)

    def cell(self, record: T, now: datetime, *, wide: bool) -> str:
        """Returns the cell of a table; times are relative to now unless it is wide."""
        if self.format:
            return self.format(record)
        value = self.of(record)
        if isinstance(value, datetime):
            return shown_time(value) if wide else shown_age(value, now)
        if isinstance(value, timedelta):
            return shown_duration(value)
        text = f"{value:.6g}" if isinstance(value, float) else _full(value)
        return text if wide or len(text) <= MAX_CELL else text[:MAX_CELL] + out.ellipsis()


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """The definition of a list.

    Attributes:
        what: The name of the records, in the plural.
        steps: The columns to shrink on a narrow terminal, in order.
        orders: The fields that the server can sort by.
        document: Returns the JSON of a record; that of a record of the contract by default.
    """

    what: str
    name: Callable[[T], str]
    columns: Sequence[Column[T]]
    steps: Sequence[out.Shrink] = ()
    orders: Sequence[str] = ()
    document: Callable[[T], Json] | None = None

    def column(self, name: str) -> Column[T]:
        by_name = {text.lower(): column for column in self.columns for text in (column.title, column.key)}
        chosen = by_name.get(name.strip().lower())
        if chosen is None:
            every = ", ".join(column.key for column in self.columns)
            raise typer.BadParameter(f"no column '{name}'.{did_you_mean(name, by_name)} There are: {every}")
        return chosen


@dataclass(frozen=True, slots=True)
class ListOptions:
    output: Annotated[
        Literal["table", "wide", "csv", "json", "yaml", "name"],
        typer.Option("--output", "-o", help="Output format; wide and csv have more columns, and exact times."),
    ] = "table"
    columns: Annotated[str, typer.Option(metavar="NAME,...", help="Columns of table, wide and csv, in this order.")] = (
        ""
    )
    sort: Annotated[
        str,
        typer.Option(
            metavar="COLUMN[:desc]",
            help="Sort by a column: all records if --order-by supports it, otherwise those that are printed.",
        ),
    ] = ""

    def order_by(self, table: Table[T], order_by: str = "") -> str:
        """Returns the order to request: `order_by`, unless --sort names a column that the server supports."""
        if self.sort and order_by:
            raise typer.BadParameter("--sort and --order-by exclude each other")
        # An unknown column is reported by `print`: those of metrics are only known when they are printed.
        keys = [column.key for column in table.columns if self._sorted_by.lower() in (column.title.lower(), column.key)]
        if not self.sort or not keys or keys[0] not in table.orders:
            return order_by
        return f"{keys[0]} desc" if self._descends else keys[0]

    @property
    def _sorted_by(self) -> str:
        return self.sort.removesuffix(_DESCENDING)

    @property
    def _descends(self) -> bool:
        return self.sort.endswith(_DESCENDING)

    def print(self, records: Iterable[T], table: Table[T], *, limit: int = 0) -> None:
        """Prints records, at most `limit` unless it is 0; names are printed as they arrive."""
        chosen = [table.column(name) for name in self.columns.split(",") if name.strip()]
        listed: Iterable[T] = islice(records, limit or None)
        if self.sort and (column := table.column(self._sorted_by)).key not in table.orders:
            listed = _sorted(listed, column, descending=self._descends)
        if chosen and self.output not in TABULAR:
            raise typer.BadParameter("--columns is for -o table, wide and csv")
        if self.output == "name":
            out.print_names(map(table.name, listed))
        elif self.output == "csv":
            columns = chosen or table.columns
            print_csv([one.key for one in columns], ([one.of(record) for one in columns] for record in listed))
        elif self.output in ("json", "yaml"):
            from kfadapter_grpc.codec import to_listed_json

            out.print_document([(table.document or to_listed_json)(record) for record in listed], self.output)
        elif items := list(listed):
            print_rows(items, table, chosen, wide=self.output == "wide")
        else:
            out.note(f"no {table.what}")


def print_rows(records: Sequence[T], table: Table[T], chosen: Sequence[Column[T]] = (), *, wide: bool = False) -> None:
    """Prints records as a table: the chosen columns or the default ones; if `wide` all, uncut, with exact times."""
    now = datetime.now(timezone.utc)
    cells = {
        one.title: (one, [one.cell(record, now, wide=wide) for record in records])
        for one in chosen or [column for column in table.columns if wide or not column.wide]
    }
    visible = {title: column for title, (one, column) in cells.items() if chosen or not one.if_any or any(column)}
    out.print_table(
        list(visible),
        list(zip(*visible.values(), strict=True)),
        steps=() if wide else [step for step in table.steps if step.title in visible],
        cut=[title for title in visible if cells[title][0].cut],
        ids=() if wide else [title for title in visible if cells[title][0].is_id],
    )


def print_csv(head: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Prints full values; on a terminal, without characters that could control it."""
    escaped = printable if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow(escaped(_full(value)) for value in row)


def _full(value: object) -> str:
    """Writes a value in full: text and numbers as they are, anything else as JSON, None as empty."""
    if isinstance(value, datetime):
        from kfadapter_grpc.codec import json_moment

        return json_moment(value) or ""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    if isinstance(value, enum.Enum):
        value = value.value
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _sorted(records: Iterable[T], column: Column[T], *, descending: bool) -> Iterator[T]:
    """Sorts numbers before text, and records without a value last."""
    numbers, texts, missing = list[tuple[float, T]](), list[tuple[str, T]](), list[T]()
    for record in records:
        value = column.of(record)
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, int | float) and value == value:  # noqa: PLR0124  not NaN
            numbers.append((value, record))
        elif isinstance(value, float) or not (text := _full(value)):
            missing.append(record)
        else:
            texts.append((text.casefold(), record))
    for part in (texts, numbers) if descending else (numbers, texts):
        part.sort(key=lambda pair: pair[0], reverse=descending)
        yield from (record for _, record in part)
    yield from missing

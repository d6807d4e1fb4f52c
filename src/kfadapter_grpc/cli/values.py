"""Parses and formats values of the command line: times, durations and pairs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Protocol, TypeVar

import typer

from kfadapter_grpc.times import read_duration


class _Created(Protocol):
    @property
    def created_at(self) -> datetime | None: ...


C = TypeVar("C", bound=_Created)


def duration(text: str) -> timedelta:
    """Parses a duration: integers with w, d, h, m or s."""
    if (parsed := read_duration(text)) is None:
        raise typer.BadParameter(f"'{text}' is no length of time; write 90s, 15m, 1h30m, 7d or 2w")
    return parsed


def parse_time(text: str, also: str = "") -> datetime:
    """Parses an ISO 8601 date or time; UTC if it has no zone, as all printed times.

    The error names another form that the option accepts, too.
    """
    try:
        parsed = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no time; write {also}2026-01-31 or 2026-01-31T08:00:00Z") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def parse_optional_time(text: str) -> datetime | None:
    """Parses a time as `parse_time` does; None if it is unset."""
    return parse_time(text) if text else None


def parse_past_time(text: str) -> datetime | None:
    """Parses a time as `parse_time` does, or a duration before now; None if it is unset."""
    if length := read_duration(text):
        return datetime.now(timezone.utc) - length
    return parse_time(text, also="2d, ") if text else None


class Period:
    """When the records of a list were created: after and before which times, None for no bound.

    No call filters by the latter.
    """

    def __init__(self, after: str, before: str) -> None:
        """Parses two times, or durations before now; empty for no bound."""
        self.after = parse_past_time(after)
        self.before = parse_past_time(before)

    def page_size(self, limit: int) -> int:
        """Returns the page size for a list of which at most `limit` records are shown; 0 for the adapter's default."""
        return 0 if self.before else min(limit, 1000)

    def select(self, records: Iterable[C], *, newest_first: bool = False) -> Iterator[C]:
        """Yields the records of the period; reads no further than its begin if the newest records come first."""
        for record in records:
            if self.after and record.created_at and record.created_at <= self.after:
                if newest_first:
                    return
            elif not (self.before and record.created_at and record.created_at >= self.before):
                yield record


def pairs(texts: Sequence[str] | None, form: str = "name=value", called: str = "") -> dict[str, str]:
    """Parses pairs of the format `form`; a value may contain further `=`. All mistakes are reported at once."""
    values: dict[str, str] = {}
    wrong: list[str] = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            wrong.append(f"'{text}' is not of the form {form}")
        elif name in values:
            wrong.append(f"{called}'{name}' is set twice")
        values[name] = value
    if wrong:
        raise typer.BadParameter("; ".join(wrong))
    return values


def tags(texts: Sequence[str] | None) -> dict[str, str]:
    return pairs(texts, "KEY=VALUE", "the tag ")


def labels(texts: Sequence[str] | None) -> dict[str, str]:
    return pairs(texts, "KEY=VALUE", "the label ")

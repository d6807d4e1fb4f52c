"""A group of commands that lists when nothing else is asked of it: `kfadapter runs` is `kfadapter runs list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    import typer

_LIST = "list"
_HELP = frozenset({"-h", "--help"})


class ListingGroup(TyperGroup):
    """The group; what stands behind its name and is no command is for `list`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Reads what stands behind the group's name; while a shell completes, only what was typed counts."""
        lists = not args or (args[0].startswith("-") and args[0] not in _HELP)
        words = [_LIST, *args] if lists and not ctx.resilient_parsing else args
        return super().parse_args(ctx, words)

"""Values of parameters as they are typed: `name=value`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_parameters(pairs: Sequence[str]) -> dict[str, str]:
    """Reads `name=value` pairs; a value may hold further `=`.

    Raises:
        BadParameter: Some have no `=` or no name, or a name comes twice; all of them are told.
    """
    values: dict[str, str] = {}
    wrong: list[str] = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            wrong.append(f"'{pair}' is not of the form name=value")
        elif name in values:
            wrong.append(f"'{name}' is given twice")
        values[name] = value
    if wrong:
        raise typer.BadParameter("; ".join(wrong))
    return values

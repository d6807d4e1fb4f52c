from __future__ import annotations

import pytest

from kfadapter_grpc.cli.output import Shrink, try_fit

NATURAL = {"NAME": 30, "ID": 36, "CREATED": 23, "DESCRIPTION": 80}
STEPS = (
    Shrink("DESCRIPTION", 12),
    Shrink("DESCRIPTION", 0),
    Shrink("CREATED", 11),
    Shrink("CREATED", 0),
    Shrink("NAME", 16),
)


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (178, (30, 36, 23, 80)),
        (177, (30, 36, 23, 79)),
        (110, (30, 36, 23, 12)),
        (109, (30, 36, 23, 0)),
        (99, (30, 36, 23, 0)),
        (98, (30, 36, 22, 0)),
        (87, (30, 36, 11, 0)),
        (86, (30, 36, 0, 0)),
        (73, (30, 36, 0, 0)),
        (72, (29, 36, 0, 0)),
        (59, (16, 36, 0, 0)),
    ],
)
def test_columns_give_way_in_their_order(room: int, widths: tuple[int, ...]) -> None:
    """A step is applied only if the ones before it do not suffice, and saves no more than needed."""
    assert try_fit(NATURAL, STEPS, room, mark_width=1) == dict(zip(NATURAL, widths, strict=True))


def test_what_does_not_fit_is_no_table() -> None:
    """If all steps together do not save enough, there are no widths."""
    assert try_fit(NATURAL, STEPS, 58, mark_width=1) is None


def test_a_column_that_is_narrow_already_stays_as_it_is() -> None:
    """A step never widens a column."""
    assert try_fit({"NAME": 5, "TEXT": 4}, (Shrink("TEXT", 12), Shrink("NAME", 3)), 11, mark_width=1) == {
        "NAME": 4,
        "TEXT": 4,
    }

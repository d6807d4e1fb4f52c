from __future__ import annotations

import json
from datetime import timedelta

import pytest
import typer

from kfadapter_grpc.cli.values import duration, pairs
from kfadapter_grpc.contract.parameters import typed_values
from kfadapter_grpc.contract.spec import Parameter, ParameterType
from kfadapter_grpc.times import shown_duration


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("NUMBER_INTEGER", "7", 7),
        ("NUMBER_INTEGER", "-7", -7),
        ("NUMBER_INTEGER", "7.5", "7.5"),
        ("NUMBER_INTEGER", "1_000", "1_000"),
        ("NUMBER_INTEGER", "9" * 5000, "9" * 5000),
        ("NUMBER_DOUBLE", "7", 7.0),
        ("NUMBER_DOUBLE", "1e-3", 0.001),
        ("NUMBER_DOUBLE", "nan", "nan"),
        ("NUMBER_DOUBLE", "abc", "abc"),
        ("BOOLEAN", "true", True),
        ("BOOLEAN", "False", False),
        ("BOOLEAN", "yes", "yes"),
        ("LIST", '[1, "둘", {"a": null}]', [1, "둘", {"a": None}]),
        ("LIST", '{"a": 1}', '{"a": 1}'),
        ("LIST", "[1, 2", "[1, 2"),
        ("STRUCT", '{"a": [1]}', {"a": [1]}),
        ("STRUCT", "[" * 100_000, "[" * 100_000),
        ("STRING", "7", "7"),
        ("STRING", "@file=x", "@file=x"),
        ("", "7", "7"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_values_have_the_declared_type(kind: str, text: str, value: object) -> None:
    """A value that parses as the declared type has that type; any other stays a string for the adapter to reject."""
    made = typed_values({"x": text}, [Parameter("x", ParameterType(kind))])["x"]
    assert json.dumps(made) == json.dumps(value)
    assert type(made) is type(value)


def test_what_is_not_declared_stays_a_text() -> None:
    """An undeclared parameter stays a string, because the adapter has the better error for it."""
    assert typed_values({"x": "7"}, []) == {"x": "7"}


def test_pairs() -> None:
    """A value may be empty and may contain further equals signs."""
    assert pairs(["a=b=c", "도시=서울", "d="]) == {"a": "b=c", "도시": "서울", "d": ""}


def test_all_malformed_pairs_are_reported_at_once() -> None:
    """All malformed pairs are reported at once."""
    with pytest.raises(typer.BadParameter) as caught:
        pairs(["a", "=b", "c=1", "c=2"])
    assert caught.value.message == (
        "'a' is not of the form name=value; '=b' is not of the form name=value; 'c' is set twice"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0, "0s"), (59.9, "59s"), (61, "1m01s"), (3600, "1h00m"), (7260, "2h01m"), (90_000, "1d01h")],
)
def test_lengths_are_written_in_two_units(seconds: float, text: str) -> None:
    """Durations are shown in at most two units."""
    assert shown_duration(timedelta(seconds=seconds)) == text


def test_lengths_are_read() -> None:
    """Durations are parsed: each unit at most once, the largest first."""
    assert duration("1d2h3m4s") == timedelta(days=1, hours=2, minutes=3, seconds=4)
    assert duration("90m") == timedelta(minutes=90)


@pytest.mark.parametrize("text", ["", "0s", "5", "1.5h", "1s1h", "-1s", "1" * 30 + "d"])
def test_what_is_no_length(text: str) -> None:
    """An invalid duration is rejected, and the message shows the format."""
    with pytest.raises(typer.BadParameter, match="write 90s"):
        duration(text)

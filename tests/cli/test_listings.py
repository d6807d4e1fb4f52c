"""What lists have in common: formats, columns, order, and the time of creation."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.cli.conftest import Kfadapter
from tests.cli.fake_runs import FakeRuns, serving_all

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1 import run_pb2
from kfadapter_grpc.cli.values import Period, duration, parse_past_time, parse_time
from kfadapter_grpc.contract.pipelines import Pipeline
from kfadapter_grpc.times import shown_age

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.fake_adapter import FakeAdapter

NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)


@pytest.fixture
def runs() -> FakeRuns:
    """A service without runs."""
    return FakeRuns()


@pytest.fixture
def kfadapter(fake: FakeAdapter, runs: FakeRuns) -> Iterator[Kfadapter]:
    """The command line with an adapter that has pipelines and runs."""
    with serving_all(fake, runs) as target:
        yield Kfadapter(target)


def requested(runs: FakeRuns) -> run_pb2.ListRunsRequest:
    """Returns the last request to list runs."""
    last = runs.requests[-1]
    assert isinstance(last, run_pb2.ListRunsRequest)
    return last


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "just now"), (59, "59s ago"), (7_199, "1h ago"), (200_000, "2d ago"), (-300, "in 5m"), (-90_000, "in 1d")],
)
def test_ages(seconds: int, shown: str) -> None:
    """Tables show times relative to now, in one unit, also those to come."""
    assert shown_age(NOW - timedelta(seconds=seconds), NOW) == shown


def test_tables_show_ages_and_wide_ones_exact_times(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """A table has few columns and relative times, a wide one all columns and exact times."""
    runs.add("훈련", state=run_pb2.RUN_STATE_RUNNING, experiment_id="e" * 8)
    head, row = kfadapter("runs").out.splitlines()
    assert head.split() == ["NAME", "ID", "STATE", "CREATED", "TIME"]
    assert re.search(r" \d+d ago ", row)
    head, row = kfadapter("runs", "-o", "wide").out.splitlines()
    assert {"FINISHED", "PIPELINE", "EXPERIMENT"} < {*head.split()}
    assert "   2025-10-09 08:53:21 UTC   " in row


def test_csv_has_full_values(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """CSV has whole ids, ISO times and texts of any script as they are, quoted; without records it has its head.

    A finished run whose end is unknown has no duration.
    """
    name = '학습, "둘째"\nالعربية 🚦'
    run = runs.add(name, state=run_pb2.RUN_STATE_FAILED, error="why\nbecause", labels={"a": "나"})
    (row,) = csv.DictReader(io.StringIO(kfadapter("runs", "-o", "csv").out))
    assert (row["run_id"], row["display_name"], row["state"]) == (run.run_id, name, "FAILED")
    assert (row["created_at"], row["finished_at"], row["error"]) == ("2025-10-09T08:53:21Z", "", "why\nbecause")
    assert (row["labels"], row["duration"]) == ('{"a": "나"}', "")
    run.state = run_pb2.RUN_STATE_RUNNING
    (row,) = csv.DictReader(io.StringIO(kfadapter("runs", "-o", "csv").out))
    assert float(row["duration"]) > 0
    assert kfadapter("experiments", "-o", "csv").code == 8  # no such service here
    runs.runs.clear()
    assert kfadapter("runs", "-o", "csv", "--columns", "NAME,run_id").out == "display_name,run_id\n"


def test_columns(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """Columns are chosen by title or key, in any order; an unknown one is refused with the most similar."""
    runs.add("a", state=run_pb2.RUN_STATE_SUCCEEDED)
    assert kfadapter("runs", "--columns", "state, Name").out.splitlines() == ["STATE       NAME", "SUCCEEDED   a"]
    assert kfadapter("runs", "--columns", "stat,NAME").err.startswith(
        "error: Invalid value: no column 'stat'. Did you mean 'state'? There are: display_name, run_id, state, "
    )
    assert kfadapter("runs", "--columns", "NAME", "-o", "json").code == 2


def test_the_server_sorts_what_it_can(kfadapter: Kfadapter, runs: FakeRuns, fake: FakeAdapter) -> None:
    """A column that --order-by knows is sorted by the server, any other one among what is printed."""
    for name, error in (("b", "2"), ("a", ""), ("c", "10")):
        runs.add(name, error=error)
    assert kfadapter("runs", "--sort", "created:desc", "-o", "name").code == 0
    assert requested(runs).order_by == "created_at desc"
    names = kfadapter("runs", "--sort", "error", "-o", "csv", "--columns", "name").out.split()
    assert (names, requested(runs).order_by) == (["display_name", "c", "b", "a"], "")
    names = kfadapter("runs", "--sort", "ERROR:desc", "-o", "csv", "--columns", "name").out.split()
    assert names == ["display_name", "b", "c", "a"]
    assert kfadapter("list", "--sort", "name").code == 0
    assert isinstance(fake.requests[-1], pb.ListPipelinesRequest)
    assert fake.requests[-1].order_by == "name"
    assert kfadapter("runs", "--sort", "name", "--order-by", "created_at").code == 2
    assert "Did you mean 'state'?" in kfadapter("runs", "--sort", "stat").err


def test_durations_and_times(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """A bound is a time or a duration before now."""
    for text, seconds in {"90s": 90, "15m": 900, "2h": 7200, "3d": 259_200, "2w": 1_209_600, "1w1d": 691_200}.items():
        assert duration(text) == timedelta(seconds=seconds)
        bound = datetime.now(timezone.utc) - timedelta(seconds=seconds)
        assert abs((parse_past_time(text) or bound) - bound) < timedelta(seconds=9)
    assert parse_past_time("2026-11-01") == parse_time("2026-11-01")
    assert parse_past_time("") is None
    before = Timestamp()
    before.GetCurrentTime()
    kfadapter("runs", "--since", "2d")
    assert 172_790 < before.seconds - requested(runs).filter.created_after.seconds < 172_810
    for wrong in ("yesterday", "999999999w", "2 days"):
        assert "write 2d, 2026-01-31 or" in kfadapter("runs", "--since", wrong).err


def test_created_before(kfadapter: Kfadapter, runs: FakeRuns, fake: FakeAdapter) -> None:
    """Newer ones are read and omitted, and do not count for the limit."""
    for number in range(5):
        runs.add(f"r{number}")
        fake.add(f"p{number}")
    for command, first in ((["runs"], 2), (["list"], 0)):
        ended = kfadapter(
            *command, "--created-before", "2025-10-09T08:53:24Z", "--limit", "1", "-o", "csv", "--columns", "name"
        )
        assert ended.out.split()[1] == f"{command[0][0].replace('l', 'p')}{first}"


def test_a_period_ends_the_reading() -> None:
    """If the newest records come first, none before the period are read."""
    read = []

    def records() -> Iterator[Pipeline]:
        for age in (1, 3, 5, 7):
            read.append(age)
            yield Pipeline(str(age), str(age), created_at=datetime.now(timezone.utc) - timedelta(days=age))

    assert [one.name for one in Period("4d", "2d").select(records(), newest_first=True)] == ["3"]
    assert read == [1, 3, 5]
    assert [one.name for one in Period("", "2d").select(records())] == ["3", "5", "7"]

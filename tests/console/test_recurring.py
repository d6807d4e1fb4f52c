"""Recurring runs and experiments on the page."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.console.visiting import page

from kfadapter_grpc.client import (
    Client,
    CronSchedule,
    IntervalSchedule,
    RecurringRunNotFoundError,
    RunChanged,
    RunFilter,
)

if TYPE_CHECKING:
    from tests.console.conftest import Made
    from tests.console.visiting import Visitor

HOSTILE = "밤마다 <img src=x onerror=alert(1)>"


@pytest.mark.slow
def test_list(client: Client, visitor: Visitor, made: Made) -> None:
    """The list shows schedules, the last run and the next start of each."""
    every = client.recurring_runs.create(
        made.metrics, schedule=IntervalSchedule(timedelta(seconds=1)), display_name=HOSTILE, description="설명 <b>"
    )
    with closing(client.runs.watch(where=RunFilter(recurring_run_id=every.recurring_run_id))) as events:
        run = next(event.run for event in events if isinstance(event, RunChanged))
    client.recurring_runs.disable(every.recurring_run_id)
    client.recurring_runs.create(made.metrics, schedule=CronSchedule("0 3 * * *"), display_name="nightly")
    answer = visitor.get("/recurring")
    assert f"{HOSTILE} 설명 <b> every 1s" in answer.words
    assert "nightly 0 0 3 * * * in" in answer.words
    assert HOSTILE not in answer.text
    assert f'href="/runs?recurring_run={every.recurring_run_id}"' in answer.text
    assert f'href="/runs/{run.run_id}"' in answer.text


def test_changes(client: Client, visitor: Visitor, target: str, made: Made) -> None:
    """Buttons enable, disable and delete a recurring run; a read-only page has none and refuses."""
    which = client.recurring_runs.create(made.metrics, schedule=CronSchedule("@daily"), enabled=False).recurring_run_id
    path = f"/recurring/{which}"
    assert f'action="{path}/enable"' in visitor.get("/recurring").text
    answer = visitor.post(f"{path}/enable")
    assert (answer.path, f'action="{path}/disable"' in answer.text) == ("/recurring", True)
    assert client.recurring_runs.get(which).enabled
    visitor.post(f"{path}/disable")
    assert not client.recurring_runs.get(which).enabled
    with page(target, read_only=True) as reader:
        assert "<form" not in reader.get("/recurring").text
        assert reader.post(f"{path}/delete", csrf="").status == 403
    assert visitor.post(f"{path}/paint").status == 404
    assert visitor.post(f"{path}/delete").path == "/recurring"
    with pytest.raises(RecurringRunNotFoundError):
        client.recurring_runs.get(which)
    assert visitor.post(f"{path}/delete").status == 404


def test_experiments(client: Client, visitor: Visitor) -> None:
    """Each experiment leads to its runs."""
    made = client.experiments.create(HOSTILE, description="설명 <b>")
    answer = visitor.get("/experiments")
    assert f'href="/runs?experiment={made.experiment_id}"' in answer.text
    assert f"{HOSTILE} 설명 <b>" in answer.words
    assert HOSTILE not in answer.text

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
def test_list_and_last_runs(client: Client, visitor: Visitor, made: Made) -> None:
    """The list shows schedules, next starts, and the newest run; the page of one shows its last runs."""
    every = client.recurring_runs.create(
        made.metrics, schedule=IntervalSchedule(timedelta(seconds=1)), display_name=HOSTILE, parameters={"slope": 1.5}
    )
    path = f"/recurring/{every.recurring_run_id}"
    with closing(client.runs.watch(where=RunFilter(recurring_run_id=every.recurring_run_id))) as events:
        run = next(event.run for event in events if isinstance(event, RunChanged))
    client.recurring_runs.disable(every.recurring_run_id)
    client.recurring_runs.create(made.metrics, schedule=CronSchedule("0 3 * * *"), display_name="nightly")
    whole = visitor.get("/recurring")
    assert f"{HOSTILE} disabled every 1s" in whole.words
    assert "nightly enabled 0 0 3 * * * in" in whole.words
    assert HOSTILE not in whole.text
    one = visitor.get(path)
    assert f'href="/runs/{run.run_id}"' in one.text
    assert "slope 1.5" in one.words


def test_changes(client: Client, visitor: Visitor, target: str, made: Made) -> None:
    """Its buttons enable, disable and delete it; a read-only page has none and refuses."""
    which = client.recurring_runs.create(made.metrics, schedule=CronSchedule("@daily"), enabled=False).recurring_run_id
    path = f"/recurring/{which}"
    assert "Enable" in visitor.get(path).words
    answer = visitor.post(f"{path}/enable")
    assert (answer.path, "Disable" in answer.words) == (path, True)
    assert client.recurring_runs.get(which).enabled
    visitor.post(f"{path}/disable")
    assert not client.recurring_runs.get(which).enabled
    with page(target, read_only=True) as reader:
        assert "<form" not in reader.get(path).text
        assert reader.post(f"{path}/delete", csrf="").status == 403
    assert visitor.post(f"{path}/paint").status == 404
    assert visitor.post(f"{path}/delete").path == "/recurring"
    with pytest.raises(RecurringRunNotFoundError):
        client.recurring_runs.get(which)
    assert visitor.get(path).status == 404


def test_experiments(client: Client, visitor: Visitor) -> None:
    """Each experiment leads to its runs."""
    made = client.experiments.create(HOSTILE, description="설명 <b>")
    answer = visitor.get("/experiments")
    assert f'href="/runs?experiment={made.experiment_id}"' in answer.text
    assert f"{HOSTILE} 설명 <b>" in answer.words
    assert HOSTILE not in answer.text

"""Malformed runs in the embedded KFP, created by its REST API and its runner: stored, served, hiding no others."""

from __future__ import annotations

import contextlib
import json
import uuid
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from tests.connecting import connect
from tests.contract.running import WAIT_SECONDS
from tests.embedded.runs import a_pipeline, a_run
from tests.embedded.serving import serving as serving_embedded
from tests.transcripts import PIPELINES

from kfadapter.v1 import common_pb2, recurring_run_pb2, run_pb2
from kfadapter.v1.recurring_run_pb2_grpc import RecurringRunServiceStub
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from kfadapter_embedded.execution import State, TaskReport
from kfadapter_grpc.services.recurring_runs import RecurringRunServicer
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.conftest import Serve
    from tests.embedded.serving import Serving

FILE = PIPELINES / "all_parameter_types.yaml"
SENT = {
    "46 lists": ("xs", "[" * 46 + "]" * 46),
    "50 lists": ("xs", "[" * 50 + "]" * 50),
    "400 lists": ("xs", "[" * 400 + "]" * 400),
    "2^53 + 1": ("f", "9007199254740993"),
    "300 digits": ("f", "9" * 300),
    "a lone surrogate": ("s", '"값\\ud800"'),
    "3.9 MB of text": ("s", json.dumps("ㅎ" * 1_300_000, ensure_ascii=False)),
}
"""What its REST API takes as a parameter: name and JSON."""
REFUSED = ("NaN", "Infinity", "1e999", "9" * 400, "[" * 100_000)
MADE: dict[str, object] = {
    "NaN": float("nan"),
    "infinite": [float("inf"), {"a": float("-inf")}],
    "150 lists": json.loads("[" * 150 + "]" * 150),
    "30 digits": 10**29,
    "a lone surrogate": "값\ud800",
}
"""What a task may report as an output."""


@dataclass(frozen=True)
class Adapter:
    """An adapter in front of an embedded KFP that follows the test's script."""

    kfp: Serving
    runs: RunServiceStub
    recurring: RecurringRunServiceStub

    def post(self, path: str, **fields: str) -> str:
        """Creates something by KFP's REST API from JSON texts; returns the response."""
        version = json.dumps(a_pipeline(self.kfp.caller, FILE.read_bytes()))
        body = {"display_name": '"이름"', "pipeline_version_reference": version, **fields}
        text = "{" + ",".join(f'"{name}":{value}' for name, value in body.items()) + "}"
        url = f"{self.kfp.url}/apis/v2beta1/{path}"
        answer = self.kfp.caller.pool.request("POST", url, body=text.encode())
        assert answer.status == 200, answer.data[:300]
        return answer.data.decode()

    def all_ways(self, run_id: str, known: int) -> list[run_pb2.Run]:
        """A run as returned by Get, List and Watch; each listing must return all `known` runs."""
        got = self.runs.Get(run_pb2.GetRunRequest(run_id=run_id, view=common_pb2.VIEW_FULL))
        listed: list[run_pb2.Run] = []
        request = run_pb2.ListRunsRequest()
        while len(listed) < known:
            page = self.runs.List(request)
            listed += page.runs
            request.page_token = page.next_page_token
        events = self.runs.Watch(run_pb2.WatchRunsRequest(filter=run_pb2.RunFilter(), tasks=True), timeout=WAIT_SECONDS)
        watched = list(islice((event.changed.run for event in events if event.HasField("changed")), known))
        events.cancel()
        return [got, *(one for one in [*listed, *watched] if one.run_id == run_id)]


@pytest.fixture
def adapter(serve: Serve, tmp_path: Path) -> Iterator[Adapter]:
    """The adapter, in front of a KFP with one sound run."""
    with (
        serving_embedded(tmp_path) as kfp,
        contextlib.closing(connect(kfp.url)) as backend,
        contextlib.closing(WatchPoller(backend.runs)) as watches,
    ):
        runs = RunServiceStub(serve(RunServicer(backend.runs, watches=watches, logs=backend.run_logs)).channel)
        recurring = RecurringRunServiceStub(serve(RecurringRunServicer(backend.recurring_runs)).channel)
        a_run(kfp.caller)
        yield Adapter(kfp, runs, recurring)


@pytest.mark.parametrize("kind", SENT)
def test_parameters_sent_to_kfp(adapter: Adapter, kind: str) -> None:
    """A run created by KFP's own API is returned beside the sound one, and its warnings name what was replaced."""
    name, value = SENT[kind]
    parameters = f'{{"parameters":{{"s":"x","{name}":{value}}}}}'
    run_id = json.loads(adapter.post("runs", runtime_config=parameters))["run_id"]
    found = adapter.all_ways(run_id, 2)
    assert [one.display_name for one in found] == ["이름"] * 3
    assert all(name in one.parameters for one in found)
    # KFP itself replaces the surrogate and rounds numbers; the text fits.
    replaced = kind not in {"a lone surrogate", "2^53 + 1", "300 digits", "3.9 MB of text"}
    assert [bool(one.warnings) for one in found] == [replaced] * 3


@pytest.mark.parametrize("value", REFUSED)
def test_parameters_that_kfp_refuses(adapter: Adapter, value: str) -> None:
    """Numbers that JSON does not have are rejected, as by KFP's gateway."""
    with pytest.raises(AssertionError, match="the body is no JSON"):
        adapter.post("runs", runtime_config=f'{{"parameters":{{"s":"x","f":{value}}}}}')


@pytest.mark.parametrize("kind", MADE)
def test_outputs_of_tasks(adapter: Adapter, kind: str) -> None:
    """A run whose task produced malformed outputs is returned by Get, List and Watch; KFP's clients can read it."""
    run_id = a_run(adapter.kfp.caller)
    artifact = {"artifact_id": str(uuid.uuid4()), "name": "x", "type": "Metric", "metadata": {"x": MADE[kind]}}
    origin = {"type": "OUTPUT", "producer": {"task_name": "greet"}}
    outputs = {
        "parameters": [{"value": MADE[kind], "parameter_key": "x", **origin}],
        "artifacts": [{"artifacts": [artifact], "artifact_key": "m", **origin}],
    }
    report = TaskReport("greet", State.SUCCEEDED, attempts=1, details={"outputs": outputs})
    adapter.kfp.executor.start(run_id, "greet")
    adapter.kfp.executor.report(run_id, report)
    adapter.kfp.executor.end(run_id, State.SUCCEEDED)
    served = adapter.kfp.caller.get(f"/runs/{run_id}").text
    json.loads(served, parse_constant=pytest.fail)
    found = adapter.all_ways(run_id, 2)
    assert [one.state for one in found] == [run_pb2.RUN_STATE_SUCCEEDED] * 3
    assert {output.name for output in found[0].tasks[0].outputs} == {"x", "m"}


def test_a_recurring_run_since_the_year_one(adapter: Adapter) -> None:
    """The zero time that Go's clients send for an unset start and end counts as unset; KFP returns it unchanged."""
    at = '"0001-01-01T00:00:00.000Z"'
    trigger = f'{{"cron_schedule":{{"cron":"0 */10 * * * *","start_time":{at},"end_time":{at}}}}}'
    parameters = f'{{"parameters":{{"s":"x","xs":{"[" * 60 + "]" * 60}}}}}'
    answer = adapter.post(
        "recurringruns", trigger=trigger, mode='"ENABLE"', max_concurrency='"1"', runtime_config=parameters
    )
    made = json.loads(answer)
    assert made["trigger"]["cron_schedule"]["start_time"] == "0001-01-01T00:00:00Z"
    (listed,) = adapter.recurring.List(recurring_run_pb2.ListRecurringRunsRequest()).recurring_runs
    got = adapter.recurring.Get(recurring_run_pb2.GetRecurringRunRequest(recurring_run_id=made["recurring_run_id"]))
    for one in (listed, got):
        assert (one.display_name, one.cron.HasField("start_at"), one.cron.HasField("end_at")) == ("이름", False, False)
        assert one.parameters["s"] == "x"

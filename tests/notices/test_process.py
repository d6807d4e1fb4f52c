"""Notifiers as processes, killed at every point, with adapters and receivers that stop and restart."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, NoReturn

import pytest
from tests.contract.running import eventually
from tests.notices.dying import POINTS
from tests.notices.receiving import Receiving, Reply, as_training_manager, receiving
from tests.notices.stage import SECONDS, Stage, asked, listed, notifying, stage

from kfadapter_grpc.contract.errors import KfpUnavailableError
from kfadapter_grpc.kfp.run_reader import RunReader
from kfadapter_grpc.watch import poller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.notices.receiving import Received

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
]


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A KFP and an adapter that polls often."""
    monkeypatch.setattr(poller, "POLL_SECONDS", 0.05)
    with stage(tmp_path) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiving]:
    """A receiver that responds as the training manager does."""
    with receiving() as made:
        yield made


def test_ends_are_reported(on: Stage, receiver: Receiving) -> None:
    """Every finished run of a training job is reported once, with KFP's state; other runs are not reported."""
    with notifying(on, receiver) as notifier:
        notifier.wait_for("watching")
        on.end(on.run(None), "FAILED")
        runs = {state: on.end(on.run("작업-1"), state) for state in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")}
        eventually(lambda: len(notifier.logged("notice delivered")) >= 4)
        for state, run_id in runs.items():
            assert receiver.reported(run_id) == [state]
        assert {one.body["trainingjob_id"] for one in receiver.received} == {"작업-1"}
        assert len(receiver.received) == 4
        assert notifier.stop() == 0


def test_events_of_every_run(on: Stage, receiver: Receiving) -> None:
    """As CloudEvents, the ends of runs without a training job are reported, too, with name, pipeline and reason."""
    receiver.answer = lambda _: Reply(202)
    with notifying(on, receiver, "--format", "cloudevents", "--source", "/lab") as notifier:
        notifier.wait_for("watching")
        runs = {on.end(on.run(None), "FAILED"): "failed", on.end(on.run("작업-1")): "succeeded"}
        eventually(lambda: len(notifier.logged("notice delivered")) >= 2)
        events = {one.body["subject"]: one.body for one in receiver.received}
        assert {run_id: one["type"] for run_id, one in events.items()} == {
            run_id: f"io.kfadapter.run.{state}" for run_id, state in runs.items()
        }
        failed, succeeded = (events[run_id]["data"] for run_id in runs)
        assert failed["error"]
        assert failed["display_name"]
        assert succeeded["trainingjob_id"] == "작업-1"
        assert {failed["pipeline_id"], succeeded["pipeline_id"]} == {failed["pipeline_id"]} != {""}
        assert notifier.stop() == 0


@pytest.mark.parametrize("options", [(), ("--since", "2026-01-01")])
def test_the_first_start(options: tuple[str, ...], on: Stage, receiver: Receiving) -> None:
    """Runs that finished before the first start are reported only with --since; runs then in progress always."""
    on.behind[0] = 7200
    old, going = on.end(on.run(), "FAILED"), on.run()
    on.behind[0] = 0
    with notifying(on, receiver, *options) as notifier:
        assert notifier.wait_for("watching")["open_runs"] == 1
        on.end(going)
        eventually(lambda: receiver.reported(going))
    with notifying(on, receiver, "--since", "2026-01-01") as notifier:
        notifier.wait_for("watching")
    assert receiver.reported(old) == (["FAILED"] if options else [])


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(point: str, on: Stage, receiver: Receiving) -> None:
    """Killed at any point, a notifier loses no notice; it repeats only one that arrived and was not recorded yet."""
    with notifying(on, receiver, point=point) as notifier:
        notifier.wait_for("watching")
        run_id = on.end(on.run(), "FAILED")
        notifier.died()
    told_before = list(receiver.ends)
    meanwhile = on.end(on.run())
    with notifying(on, receiver) as notifier:
        eventually(lambda: receiver.reported(meanwhile) and (run_id, "FAILED") in receiver.ends)
        eventually(lambda: all(one["status"] == "delivered" for one in listed(on)))
        assert notifier.stop() == 0
    arrived = point in {"during the post", "after the post", "while the delivery is noted"}
    noted = point == "after the delivery was noted"
    assert told_before == ([(run_id, "FAILED")] if arrived or noted else [])
    assert receiver.reported(run_id) == ["FAILED"] * (2 if arrived else 1)
    assert receiver.reported(meanwhile) == ["SUCCEEDED"]


def test_killed_over_and_over(on: Stage, receiver: Receiving) -> None:
    """Killed at random moments, a notifier reports every end; it repeats only notices in flight at a kill."""
    runs = []
    for _ in range(4):
        with notifying(on, receiver) as notifier:
            notifier.wait_for("watching")
            runs += [on.end(on.run()) for _ in range(5)]
            await_most(receiver, runs)
            notifier.kill()
    with notifying(on, receiver) as notifier:
        eventually(lambda: {run_id for run_id, _ in receiver.ends} == set(runs), SECONDS)
        eventually(lambda: all(one["status"] == "delivered" for one in listed(on)), SECONDS)
    assert {state for run_id in runs for state in receiver.reported(run_id)} == {"SUCCEEDED"}
    assert len(receiver.received) <= len(runs) + 4 * 4  # the number of concurrent deliveries, for each kill


def await_most(receiver: Receiving, runs: list[str]) -> None:
    """Waits until most notices have arrived, though perhaps not all."""
    eventually(lambda: len(receiver.received) >= len(runs) - 3, SECONDS)


def test_time_that_was_missed_is_caught_up(on: Stage, receiver: Receiving) -> None:
    """Ends while no notifier ran are reported by the next one: also of archived, retried and deleted runs."""
    with notifying(on, receiver) as notifier:
        notifier.wait_for("watching")
        retried = on.end(on.run(), "FAILED")
        going, deleted = on.run(), on.run()
        eventually(lambda: receiver.reported(retried))
        eventually(lambda: notifier.metric("kfadapter_notify_open_runs") == 2)
        notifier.kill()
    on.end(going, "CANCELED")
    archived = on.end(on.run())
    on.kfp.runs.archive(archived)
    on.retry(retried)
    on.end(retried)
    on.kfp.runs.delete(deleted)
    with notifying(on, receiver) as notifier:
        eventually(lambda: len(receiver.received) == 4)
        assert receiver.reported(going) == ["CANCELED"]
        assert receiver.reported(archived) == ["SUCCEEDED"]
        assert receiver.reported(retried) == ["FAILED", "SUCCEEDED"]
        assert receiver.reported(deleted) == []  # it must have been missing for a minute first
        assert notifier.stop() == 0


def test_an_adapter_that_goes_and_comes_back(on: Stage, receiver: Receiving) -> None:
    """While the adapter is unavailable nothing is reported; ends in that time are reported afterwards, each once."""
    with notifying(on, receiver) as notifier:
        notifier.wait_for("watching")
        first, second = on.run(), on.run()
        on.end(first)
        eventually(lambda: receiver.reported(first))
        eventually(lambda: notifier.metric("kfadapter_notify_open_runs") == 1)
        on.adapter_goes()
        on.end(second, "FAILED")
        third = on.end(on.run())
        on.adapter_comes()
        eventually(lambda: receiver.reported(second) and receiver.reported(third), 60)
        assert [receiver.reported(run_id) for run_id in (first, second, third)] == [
            ["SUCCEEDED"],
            ["FAILED"],
            ["SUCCEEDED"],
        ]
        assert notifier.get("/healthz")[0] == 200


def test_a_notifier_that_starts_before_the_adapter(on: Stage, receiver: Receiving) -> None:
    """It waits for the adapter, is healthy meanwhile, and stops immediately on SIGTERM."""
    on.adapter_goes()
    run_id = on.end(on.run())
    with notifying(on, receiver) as notifier:
        notifier.wait_for("compare failed")
        status, health = notifier.get("/healthz")
        assert (status, json.loads(health)["watch_connected"]) == (200, False)
        on.adapter_comes()
        eventually(lambda: receiver.reported(run_id), 60)
        on.adapter_goes()
        assert notifier.stop() == 0


def test_an_unreachable_kfp_reports_nothing(on: Stage, receiver: Receiving, monkeypatch: pytest.MonkeyPatch) -> None:
    """While KFP is unavailable healthy runs are not reported; afterwards they are, as they finished."""
    with notifying(on, receiver) as notifier:
        notifier.wait_for("watching")
        run_id = on.run()
        eventually(lambda: notifier.metric("kfadapter_notify_open_runs") == 1)
        failed = iter(range(1, 10**6))
        failures = [0]

        def fail(*_: object, **__: object) -> NoReturn:
            failures[0] = next(failed)
            raise KfpUnavailableError("away")

        with monkeypatch.context() as away:
            away.setattr(RunReader, "list", fail)
            away.setattr(RunReader, "get", fail)
            eventually(lambda: failures[0] > 3)
            on.end(run_id)
            eventually(lambda: failures[0] > 6)
            assert notifier.metric("kfadapter_notify_open_runs") == 1
            assert (receiver.received, listed(on)) == ([], [])
        eventually(lambda: receiver.reported(run_id) == ["SUCCEEDED"], 60)


def test_a_receiver_that_is_down_for_a_while(on: Stage) -> None:
    """Notices wait for the receiver, in order for each run, across a restart; none is lost or sent twice."""
    with receiving() as gone:
        port = int(gone.url.split(":")[2].split("/")[0])
    with notifying(on, gone.url) as notifier:
        notifier.wait_for("watching")
        run_id = on.end(on.run(), "FAILED")
        line = notifier.wait_for("notice not delivered")
        assert (line["outcome"], line["answer"]) == ("away", "no response: Connection refused")
        on.retry(run_id)
        on.end(run_id)
        eventually(lambda: notifier.metric('kfadapter_notify_notices{status="pending"}') == 2)
        assert notifier.metric("kfadapter_notify_oldest_pending_seconds") > 0
        notifier.kill()
    with receiving(port=port) as back, notifying(on, back) as notifier:
        eventually(lambda: back.reported(run_id) == ["FAILED", "SUCCEEDED"], 60)
        eventually(lambda: notifier.metric('kfadapter_notify_notices{status="delivered"}') == 2)


def test_a_receiver_that_hangs_delays_only_its_own_notices(on: Stage, receiver: Receiving) -> None:
    """While a receiver stalls at one notice, others are delivered, runs are followed, and stopping is quick."""
    held = threading.Event()
    slow = on.run("slow")

    def answer(received: Received) -> Reply:
        reply = as_training_manager(received)
        reply.held = held if received.end[0] == slow else None
        return reply

    receiver.answer = answer
    with notifying(on, receiver) as notifier:
        notifier.wait_for("watching")
        on.end(slow)
        eventually(lambda: receiver.reported(slow))
        other = on.end(on.run("quick"))
        eventually(lambda: receiver.reported(other))
        assert notifier.stop() == 0
    held.set()


def test_parked_notices_are_listed_and_sent_again(on: Stage, receiver: Receiving) -> None:
    """Notices that are rejected too often are parked and listed; a retry works whether the notifier runs or not."""
    receiver.answer = lambda _: Reply(404, b"no such route")
    with notifying(on, receiver, "--max-attempts", "2") as notifier:
        notifier.wait_for("watching")
        run_id, other = on.end(on.run()), on.end(on.run(), "FAILED")
        eventually(lambda: len(notifier.logged("notice parked")) == 2, 60)
        assert notifier.metric('kfadapter_notify_notices{status="parked"}') == 2
        assert json.loads(notifier.get("/healthz")[1])["parked"] == 2
        shown = {one["run_id"]: one for one in listed(on)}
        assert (shown[run_id]["status"], shown[run_id]["answer"]) == ("parked", "404 no such route")
        receiver.answer = as_training_manager
        one = str(shown[run_id]["id"])
        done = asked(on, "--retry", one)
        assert (done.code, done.out) == (0, f"to be sent again: {one}\n")
        eventually(lambda: receiver.reported(run_id)[2:] == ["SUCCEEDED"])
        assert notifier.stop() == 0
    assert asked(on, "--retry", one).code == 8
    assert asked(on, "--retry", "999").code == 5
    done = asked(on, "--retry", "--all", "-o", "name")
    assert (done.code, done.out) == (0, f"{shown[other]['id']}\n")
    with notifying(on, receiver):
        eventually(lambda: receiver.reported(other)[2:] == ["FAILED"])
    assert asked(on, "--retry", "--all").err == "no notice is parked\n"


def test_a_second_notifier_is_refused(on: Stage, receiver: Receiving) -> None:
    """A second notifier with the same outbox ends with an error: two would report everything twice."""
    with notifying(on, receiver) as notifier:
        notifier.wait_for("watching")
        with notifying(on, receiver) as second:
            assert second.process.wait(60) == 8
            assert "error: another notifier works with " in second.log.read_text()
        assert notifier.process.poll() is None


def test_the_names_that_people_deploy_with(on: Stage, receiver: Receiving) -> None:
    """TRAININGMGR_HOST and TRAININGMGR_PORT set the URL, with the training manager's own path."""
    host, port = receiver.url.removeprefix("http://").split("/")[0].split(":")
    with notifying(on, "", TRAININGMGR_HOST=host, TRAININGMGR_PORT=port) as notifier:
        notifier.wait_for("watching")
        on.end(on.run())
        eventually(lambda: receiver.received)
    assert receiver.received[0].path == "/trainingjob/pipelineNotification"


def test_another_receiver(on: Stage, receiver: Receiving, tmp_path: Path) -> None:
    """A receiver can be any URL, with headers and a token from a file, which are not logged."""
    token = tmp_path / "token"
    token.write_text("t0ken-of-the-receiver")
    options = ("--header", "X-Key: k3y-of-the-receiver", "--receiver-token-file", str(token))
    with notifying(on, receiver, *options, KFADAPTER_NOTIFY_HEADERS="X-Team: a\nX-More: b\n") as notifier:
        notifier.wait_for("watching")
        on.end(on.run())
        notifier.wait_for("notice delivered")
    headers = receiver.received[0].headers
    assert (headers["authorization"], headers["x-key"]) == ("Bearer t0ken-of-the-receiver", "k3y-of-the-receiver")
    assert (headers["x-team"], headers["x-more"]) == ("a", "b")
    assert "of-the-receiver" not in notifier.log.read_text()

"""Adapters and KFP are killed while runs start and execute: one run for each request, and every run finishes."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest
from tests.conformance.calling import CALL_SECONDS, RUN_SECONDS, calling, is_over, is_running
from tests.contract.running import failure
from tests.e2e.conftest import serve

from kfadapter.v1 import run_pb2
from kfadapter_embedded.process import start
from kfadapter_grpc.contract.runs import run_id_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.calling import Api
    from tests.e2e.conftest import Adapter

    from kfadapter_embedded.process import EmbeddedKfp

    Call: TypeAlias = grpc._CallFuture[run_pb2.Run]

pytestmark = pytest.mark.slow

HELLO = "tests/data/pipelines/hello_world.yaml"
SLEEPS = "tests/data/pipelines/sleeps.yaml"
COPIES = 10


@pytest.fixture
def name() -> str:
    """A unique name."""
    return f"killed-{uuid.uuid4().hex[:12]}"


def _create(caller: Api, name: str, request_id: str) -> Call:
    request = run_pb2.CreateRunRequest(pipeline_name=name, request_id=request_id)
    return caller.runs.Create.future(request, timeout=CALL_SECONDS)


def _answers(calls: list[Call], instead: Api, name: str, request_id: str) -> list[str]:
    """The ids returned to callers; calls to the killed adapter are repeated on the other one."""
    ids = []
    for made in calls:
        call = made
        if call.exception() is not None:
            assert call.code() is grpc.StatusCode.UNAVAILABLE, call.exception()
            call = _create(instead, name, request_id)
        ids.append(call.result().run_id)
    return ids


@pytest.mark.parametrize("moment", ["as soon as one is answered", "while KFP answers nobody"])
def test_ten_copies_at_once_make_one_run(tmp_path: Path, name: str, moment: str) -> None:
    """Two adapters get the same request five times each, one of them is killed: every caller gets the same run."""
    with (
        start(tmp_path) as kfp,
        serve(kfp.url) as mortal,
        serve(kfp.url) as other,
        calling(mortal.target) as first,
        calling(other.target) as second,
    ):
        second.upload(HELLO, name)
        held = moment != "as soon as one is answered"
        assert first.listed() == second.listed() == set()
        os.kill(kfp.pid, signal.SIGSTOP if held else signal.SIGCONT)
        calls = [_create(first if number % 2 else second, name, name) for number in range(COPIES)]
        if not held:
            _wait_for_one(calls)
        os.kill(mortal.process.pid, signal.SIGKILL)
        mortal.process.wait(CALL_SECONDS)
        os.kill(kfp.pid, signal.SIGCONT)
        ids = _answers(calls, second, name, name)
        assert set(ids) == {run_id_for(name)}
        assert second.listed() == set(ids)
        assert second.follow(ids[0]).state == run_pb2.RUN_STATE_SUCCEEDED


def _wait_for_one(calls: list[Call]) -> None:
    answered = threading.Event()
    for call in calls:
        call.add_done_callback(lambda _: answered.set())
    assert answered.wait(CALL_SECONDS)


def test_kfp_is_killed_in_the_middle_of_a_run(tmp_path: Path, name: str) -> None:
    """After a restart the run has failed and reports that it was interrupted; a retry continues it."""
    with start(tmp_path) as kfp:
        port = int(kfp.url.rpartition(":")[2])
        with serve(kfp.url) as adapter, calling(adapter.target) as caller:
            caller.upload(SLEEPS, name)
            run_id = caller.start(name, {"seconds": 6000}).run_id
            caller.follow(run_id, is_running)
            _kill(kfp)
            with start(tmp_path, port):
                run = caller.get(run_id)
                assert run.state == run_pb2.RUN_STATE_FAILED
                assert "the embedded KFP was stopped in the middle of this run" in run.error
                assert not is_running(run)
                caller.runs.Retry(run_pb2.RetryRunRequest(run_id=run_id), timeout=CALL_SECONDS)
                caller.follow(run_id, is_running)
                request = run_pb2.TerminateRunRequest(run_id=run_id)
                request.wait.FromSeconds(RUN_SECONDS)
                assert is_over(caller.runs.Terminate(request, timeout=RUN_SECONDS + CALL_SECONDS))


def _kill(kfp: EmbeddedKfp) -> None:
    os.kill(kfp.pid, signal.SIGKILL)
    kfp.stop()


def test_retry_of_a_run_whose_cause_is_gone(executing: Adapter, name: str, tmp_path: Path) -> None:
    """A failed run is retried under its id and succeeds; a run that succeeded is not retried."""
    executing.printed(
        "upload", "tests/embedded/runner_pipelines.py", "--function", "imported", "--name", name, "-o", "name"
    )
    file = tmp_path / "자료.txt"
    with calling(executing.target) as caller:
        run_id = caller.start(name, {"uri": str(file)}).run_id
        failed = caller.follow(run_id)
        assert failed.state == run_pb2.RUN_STATE_FAILED, failed
        assert str(file) in failed.error
        file.write_text("이제 있다", encoding="utf-8")
        again = caller.runs.Retry(run_pb2.RetryRunRequest(run_id=run_id), timeout=CALL_SECONDS)
        assert again.run_id == run_id
        run = caller.follow(run_id)
        assert (run.state, run.error) == (run_pb2.RUN_STATE_SUCCEEDED, ""), run
        reported = failure(lambda: caller.runs.Retry(run_pb2.RetryRunRequest(run_id=run_id), timeout=CALL_SECONDS))
        assert reported.reason == "RUN_NOT_RETRYABLE"

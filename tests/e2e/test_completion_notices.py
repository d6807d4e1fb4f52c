"""The whole story: the training manager's calls start jobs, runs execute, and their ends are told, whatever happens."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.running import eventually
from tests.e2e.conftest import ROOT
from tests.notices.receiving import receiving
from tests.notices.stage import listed, notifying

from kfadapter_grpc.client import Client
from kfadapter_grpc.domain.runs import RunState
from kfadapter_grpc.training_manager import PipelineMgr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Adapter

RUN_SECONDS = 90
"""How long a run may take; on a machine with nothing else to do it takes a second or two."""


@dataclass(frozen=True)
class Here:
    """Where notifiers run."""

    target: str
    folder: Path


@pytest.fixture
def manager(executing: Adapter) -> PipelineMgr:
    """What stands in the training manager."""
    return PipelineMgr(executing.target)


@pytest.fixture
def names(manager: PipelineMgr, executing: Adapter) -> Iterator[dict[str, str]]:
    """Pipelines that the training manager has uploaded: one that succeeds, one that fails, one that takes long."""
    files = {"succeeds": "hello_world", "fails": "fails_with_exit_handler", "lasts": "sleeps"}
    made = {kind: f"notices-{uuid.uuid4().hex[:12]}" for kind in files}
    for kind, file in files.items():
        manager.upload_pipeline_file(made[kind], ROOT / "tests" / "data" / "pipelines" / f"{file}.yaml")
    yield made
    for name in made.values():
        executing.printed("delete", name, "--force", "-o", "name")


def start(manager: PipelineMgr, name: str, job: str, **arguments: str) -> str:
    """Starts a job as the training manager does; tells its run."""
    details: dict[str, Any] = {"pipeline_name": name, "pipeline_version": name, "experiment_name": "Default"}
    answer = manager.start_training({**details, "arguments": arguments}, job)
    assert (answer.status_code, answer.json()["run_status"]) == (200, "scheduled"), answer.text
    return str(answer.json()["run_id"])


@pytest.mark.timeout(400)
def test_every_job_is_reported_as_it_ended(
    manager: PipelineMgr, names: dict[str, str], executing: Adapter, tmp_path: Path
) -> None:
    """The notifier is killed twice, the receiver is down and answers failures with 500: each job is told once, truly."""
    here = Here(executing.target, tmp_path)
    with receiving() as gone:
        port = int(gone.url.split(":")[2].partition("/")[0])
    with notifying(here, gone.url) as notifier:
        notifier.wait_for("following")
        lasting = start(manager, names["lasts"], "작업-3", seconds="600")
        failing = start(manager, names["fails"], "작업-2")
        eventually(lambda: failing in {line["run_id"] for line in notifier.said("notice not delivered")}, RUN_SECONDS)
        notifier.kill()
    with Client(executing.target) as client:
        # Nobody is there while these end.
        succeeding = start(manager, names["succeeds"], "작업-1")
        assert client.wait_run(succeeding, timeout=RUN_SECONDS).state is RunState.SUCCEEDED
        with receiving(port=port) as receiver:
            with notifying(here, receiver) as notifier:
                eventually(lambda: receiver.told(failing) and receiver.told(succeeding), RUN_SECONDS)
                notifier.kill()
            assert manager.terminate_training(lasting).ok
            stopped = client.wait_run(lasting, timeout=RUN_SECONDS)
            with notifying(here, receiver) as notifier:
                eventually(lambda: receiver.told(lasting), RUN_SECONDS)
                assert notifier.stop() == 0
            assert receiver.told(succeeding) == ["SUCCEEDED"]
            assert receiver.told(failing) in (
                ["FAILED"],
                ["FAILED"] * 2,
            )  # twice if it was killed right behind the post
            assert receiver.told(lasting) == [stopped.state.value]
            assert stopped.state in {RunState.CANCELED, RunState.FAILED}
            jobs = {one.body["run_id"]: one.body["trainingjob_id"] for one in receiver.received}
            assert [jobs[run] for run in (succeeding, failing, lasting)] == ["작업-1", "작업-2", "작업-3"]
    assert {one["status"] for one in listed(here)} == {"delivered"}

"""The whole story: a training manager starts jobs, the notifier is killed, the receiver is down; nothing is lost.

Its calls alternate between the stubs that replace its own and HTTP, as from an unchanged training manager.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from tests.cli.conftest import Kfadapter
from tests.contract.running import eventually
from tests.e2e.conftest import PROGRAM, ROOT, SECONDS, serve
from tests.legacy_http.calling import Caller, process
from tests.notices.receiving import Receiving, receiving

from kfadapter_grpc.client import Client, DeadlineError
from kfadapter_grpc.training_manager import PipelineMgr
from kfadapter_oran.jobs import JOB_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.slow

PIPELINES = ROOT / "tests" / "data" / "pipelines"
SLEEPS, FAILS = PIPELINES / "sleeps.yaml", PIPELINES / "fails_with_exit_handler.yaml"


class TrainingManager(Protocol):
    """The calls of the training manager that the story needs."""

    def upload(self, name: str, file: Path) -> None:
        """Uploads a pipeline."""

    def start(self, job: str, details: Mapping[str, Any]) -> str:
        """Starts the run of a job; returns its id."""

    def terminate(self, run_id: str) -> None:
        """Terminates a run."""


class Moved:
    """A training manager that has moved over to the stubs."""

    def __init__(self, target: str) -> None:
        self._calls = PipelineMgr(target)

    def upload(self, name: str, file: Path) -> None:
        """Uploads a pipeline."""
        assert self._calls.upload_pipeline_file(name, file, "기지국의 모델")

    def start(self, job: str, details: Mapping[str, Any]) -> str:
        """Starts the run of a job."""
        answer = self._calls.start_training(details, job)
        assert (answer.status_code, answer.json().get("run_status")) == (200, "scheduled"), answer.text
        return str(answer.json()["run_id"])

    def terminate(self, run_id: str) -> None:
        """Terminates a run."""
        assert self._calls.terminate_training(run_id).ok


class Unchanged:
    """A training manager that calls the adapter as if it were the Flask adapter."""

    def __init__(self, address: str) -> None:
        self._caller = Caller(address)

    def upload(self, name: str, file: Path) -> None:
        """Uploads a pipeline."""
        assert self._caller.upload(name, file.read_bytes(), "기지국의 모델").status == 200

    def start(self, job: str, details: Mapping[str, Any]) -> str:
        """Starts the run of a job."""
        answer = self._caller.execute(job, details)
        assert (answer.status, answer.json().get("run_status")) == (200, "scheduled"), answer.body
        return str(answer.json()["run_id"])

    def terminate(self, run_id: str) -> None:
        """Terminates a run."""
        assert self._caller.delete(f"/runs/{run_id}").status == 200


class ByTurns:
    """Several training managers side by side, which make calls in turn."""

    def __init__(self, *managers: TrainingManager) -> None:
        self._next = cycle(managers)

    def upload(self, name: str, file: Path) -> None:
        """Uploads a pipeline."""
        next(self._next).upload(name, file)

    def start(self, job: str, details: Mapping[str, Any]) -> str:
        """Starts the run of a job."""
        return next(self._next).start(job, details)

    def terminate(self, run_id: str) -> None:
        """Terminates a run."""
        next(self._next).terminate(run_id)


@dataclass(frozen=True)
class Scene:
    """An adapter with gRPC and HTTP, a training manager that calls it, an outbox, and a port for the receiver."""

    target: str
    manager: TrainingManager
    pipeline: str
    outbox: Path
    port: int

    def start(self, job: str, pipeline: str = "", **arguments: str) -> str:
        """Starts a job as the training manager does: all arguments are texts, and it adds its own."""
        name = pipeline or self.pipeline
        own = {
            "trainingjob_id": job,
            "featuregroup_name": "기지국",
            "modelName": "qoe",
            "modelVersion": "1",
            "modellocation": "",
        }
        return self.manager.start(
            job,
            {
                "pipeline_name": name,
                "experiment_name": "Default",
                "pipeline_version": name,
                "arguments": {**arguments, **own},
            },
        )

    @contextmanager
    def notifier(self) -> Iterator[subprocess.Popen[str]]:
        """Runs the notifier, ready once it follows; it is killed with -9 at the end of the block."""
        with subprocess.Popen(
            [PROGRAM, "--target", self.target, "notify", "--outbox", str(self.outbox), "--metrics-listen", "off"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TRAININGMGR_HOST": "127.0.0.1", "TRAININGMGR_PORT": str(self.port)},
        ) as process:
            try:
                assert process.stderr is not None
                assert any("watching" in line for line in process.stderr), "it ended"
                yield process
            finally:
                process.kill()

    def notices(self) -> dict[str, str]:
        """The output of `kfadapter notify --list`: the status of each run's notice."""
        listed = Kfadapter(self.target)("notify", "--outbox", str(self.outbox), "--list", "-o", "json")
        return {one["run_id"]: one["status"] for one in json.loads(listed.out)}

    def until_noted(self, *run_ids: str) -> None:
        """Waits until the outbox holds the notices of finished runs, none of them delivered."""
        eventually(lambda: set(run_ids) <= set(self.notices()), SECONDS)
        assert {self.notices()[run_id] for run_id in run_ids} == {"pending"}

    def until_told(self, receiver: Receiving, *run_ids: str) -> None:
        """Waits until the notices of runs are delivered, and checks that each was sent once, with the job's name."""
        eventually(lambda: {self.notices().get(run_id) for run_id in run_ids} == {"delivered"}, SECONDS)
        assert sorted(run_id for run_id, _ in receiver.ends if run_id in run_ids) == sorted(run_ids)


@pytest.fixture
def any_kfp_url(request: pytest.FixtureRequest, embedded_url: str) -> str:
    """The KFP of `--kfp-url`, or an embedded one."""
    return str(request.config.getoption("--kfp-url")) or embedded_url


def ends(target: str, jobs: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The job and final state of each run, by its id, as the adapter reports them."""
    with Client(target) as client:
        found = {run_id: client.runs.get(run_id) for run_id in jobs}
    assert all(run.state.is_over for run in found.values())
    assert {run_id: run.labels[JOB_LABEL] for run_id, run in found.items()} == jobs
    return {run_id: (jobs[run_id], run.state.value) for run_id, run in found.items()}


def reported(receiver: Receiving, jobs: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The job and final state of each run, by its id, as the receiver got them; other tests' runs are left out."""
    bodies = [one.body for one in receiver.received if one.path == "/trainingjob/pipelineNotification"]
    return {one["run_id"]: (one["trainingjob_id"], one["run_status"]) for one in bodies if one["run_id"] in jobs}


@contextmanager
def scene(kfp_url: str, folder: Path) -> Iterator[Scene]:
    """Starts an adapter, and has the training manager upload a pipeline."""
    port = free_port()
    name = f"tm-{uuid.uuid4().hex[:12]}"
    with serve(kfp_url) as adapter, process(adapter.target) as (_, address, _):
        manager = ByTurns(Moved(adapter.target), Unchanged(address))
        manager.upload(name, SLEEPS)
        yield Scene(adapter.target, manager, name, folder / "notices.db", port)
        with Client(adapter.target) as client:
            client.pipelines.delete(name, force=True)


def free_port() -> int:
    """A port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_job_is_reported_as_it_ended(embedded_url: str, tmp_path: Path) -> None:
    """Jobs that succeed, fail, are stopped, or finish while no notifier runs: each is reported once and correctly."""
    with scene(embedded_url, tmp_path) as stage:
        failing = f"{stage.pipeline}-fails"
        stage.manager.upload(failing, FAILS)
        with stage.notifier():
            jobs = {stage.start("작업-1", seconds="0"): "작업-1", stage.start("작업-2", failing): "작업-2"}
            stage.until_noted(*jobs)  # the receiver is down, and the notifier is killed
        alone = stage.start("작업-3", seconds="0")
        with Client(stage.target) as client:
            client.runs.wait(alone, timeout=SECONDS)
        with stage.notifier():
            stopped = stage.start("작업-4", seconds="6000")
            stage.manager.terminate(stopped)
            jobs |= {alone: "작업-3", stopped: "작업-4"}
            stage.until_noted(*jobs)  # the same again
        with receiving(port=stage.port) as receiver, stage.notifier():
            stage.until_told(receiver, *jobs)
            assert reported(receiver, jobs) == ends(stage.target, jobs)
            assert [reported(receiver, jobs)[run_id][1] == "SUCCEEDED" for run_id in jobs] == [True, False, True, False]
        with receiving(port=stage.port) as later, stage.notifier():
            assert reported(later, jobs) == {}
        with Client(stage.target) as client:
            client.pipelines.delete(failing, force=True)


def test_every_stopped_job_is_reported(any_kfp_url: str, tmp_path: Path) -> None:
    """The same with any KFP that finishes stopped runs: each is reported once, with its final state."""
    with scene(any_kfp_url, tmp_path) as stage:
        with stage.notifier():
            jobs = {stage.start(job, seconds="6000"): job for job in ("1", "2")}
            first = next(iter(jobs))
            end(stage, first)
            stage.until_noted(first)
        jobs[stage.start("3", seconds="6000")] = "3"
        for run_id in jobs:
            end(stage, run_id)
        with stage.notifier():
            stage.until_noted(*jobs)
        with receiving(port=stage.port) as receiver, stage.notifier():
            stage.until_told(receiver, *jobs)
            assert reported(receiver, jobs) == ends(stage.target, jobs)
        with receiving(port=stage.port) as later, stage.notifier():
            assert reported(later, jobs) == {}


def end(stage: Scene, run_id: str) -> None:
    """Has the training manager stop a run, and waits until it has finished; skips if this KFP executes nothing."""
    stage.manager.terminate(run_id)
    with Client(stage.target) as client:
        try:
            assert client.runs.wait(run_id, timeout=SECONDS).state.is_over
        except DeadlineError:
            state = client.runs.get(run_id).state.value
            pytest.skip(f"nothing executes workflows in this KFP: a run that is stopped stays {state}")

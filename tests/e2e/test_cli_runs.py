"""The commands for runs, experiments and recurring runs, from end to end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.contract.running import eventually
from tests.e2e.conftest import ROOT, dev
from tests.embedded.corpus.corpus import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Adapter

pytestmark = pytest.mark.slow

PIPELINES = ROOT / "tests" / "data" / "pipelines"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    """An adapter in front of an embedded KFP that executes runs."""
    with dev(tmp_path_factory.mktemp("runs")) as running:
        yield running


@pytest.fixture(scope="module")
def collecting(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pipeline that collects from a loop without items, which fails on KFP 2.17.0 (with the driver's error)."""
    (failed,) = [
        task["errors"]
        for path, task in json.loads(files()["expected/loops_empty.json"])["runs"][0]["tasks"].items()
        if path == "see-list"
    ]
    assert "subTaskName" in json.dumps(failed)
    spec = yaml.safe_load(files()["compiled/loops_empty.yaml"])
    tasks = spec["root"]["dag"]["tasks"]
    spec["root"]["dag"]["tasks"] = {name: tasks[name] for name in ("for-loop-1", "see-list")}
    path = tmp_path_factory.mktemp("pipelines") / "collecting.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return str(path)


def test_a_run_that_succeeds(local: Adapter) -> None:
    """A file is uploaded, run and watched until it has finished; its output is shown, and is in its log."""
    done = local.run("run", str(PIPELINES / "hello_world.yaml"), "-p", "recipient=바다", "--watch")
    assert done.returncode == 0, done.stderr
    assert "SUCCEEDED" in done.stdout.decode()
    assert "hello 바다" in local.printed("runs", "show", "@latest")
    assert local.printed("logs", "@latest").startswith("greet | ")


def test_a_run_that_fails(local: Adapter) -> None:
    """The exit code is 1, the error is the task's own, and `logs --failed` shows it, too."""
    done = local.run("run", str(PIPELINES / "fails_with_exit_handler.yaml"), "--watch")
    assert done.returncode == 1
    assert "RuntimeError: broken on purpose" in done.stderr.decode()
    assert "RuntimeError: broken on purpose" in local.printed("logs", "@latest", "--failed")


def test_a_run_that_is_stopped(local: Adapter) -> None:
    """A stopped run finishes early, and is shown as canceled, although KFP's own state is FAILED."""
    run = local.run("run", str(PIPELINES / "sleeps.yaml"), "-o", "name").stdout.decode().strip()
    eventually(
        lambda: (
            "RUNNING"
            in [task["state"] for task in json.loads(local.printed("runs", "show", run, "-o", "json"))["tasks"]]
        )
    )
    assert local.printed("terminate", run, "--wait", "60") == f"run {run} has finished: CANCELED\n"
    assert local.run("watch", run).returncode == 7
    assert run in local.printed("runs", "--state", "canceled", "-o", "name").splitlines()


def test_a_run_with_warnings(local: Adapter, collecting: str) -> None:
    """What would differ on a cluster is shown with the run, with its task, and in the task's log."""
    done = local.run("run", collecting, "--watch")
    *_, title, warning = done.stdout.decode().splitlines()
    assert (done.returncode, title) == (0, "WARNINGS")
    assert warning.startswith("task 'see-list': KFP 2.5 and KFP 2.17: 'x' collects from 'for-loop-1'")
    started = next(line for line in done.stderr.decode().splitlines() if line.startswith("started run "))
    run_id = started.removeprefix("started run ")
    run = json.loads(local.printed("runs", "show", run_id, "-o", "json"))
    of_tasks = {task["display_name"]: task.get("warnings", []) for task in run["tasks"]}
    assert "see-list" in of_tasks, run
    assert [f"task 'see-list': {text}" for text in of_tasks["see-list"]] == run["warnings"] == [warning]
    assert f"warning: {of_tasks['see-list'][0]}" in local.printed("logs", run_id, "see-list")


def test_a_strict_run(tmp_path: Path, collecting: str) -> None:
    """With --strict, the task fails as on a cluster, with the same message."""
    with dev(tmp_path, "--strict") as strict:
        done = strict.run("run", collecting, "--watch")
    assert done.returncode == 1
    assert "task see-list failed: KFP 2.5 and KFP 2.17: 'x' collects from 'for-loop-1'" in done.stderr.decode()


def test_all_wrong_parameters_at_once(local: Adapter) -> None:
    """Unknown, ill-typed and missing parameters are all reported in one error, before a run is started."""
    done = local.run("run", "examples/train.yaml", "-p", "epochs=viele", "-p", "rwos=3", "-p", "layers=[1")
    assert done.returncode == 8
    for word in ("epochs", "rwos", "layers", "dataset_seed"):
        assert f"parameters.{word}: " in done.stderr.decode()


def test_experiments(local: Adapter) -> None:
    """Experiments are created, found by name, archived, unarchived and deleted."""
    local.printed("experiments", "create", "실험 1", "--description", "처음")
    assert "실험 1" in local.printed("experiments", "-o", "name").splitlines()
    assert local.run("experiments", "create", "실험 1").returncode == 8
    local.printed("experiments", "archive", "실험 1")
    assert json.loads(local.printed("experiments", "show", "실험 1", "-o", "json"))["storage_state"] == "ARCHIVED"
    local.printed("experiments", "unarchive", "실험 1")
    local.printed("experiments", "delete", "실험 1")
    assert local.run("experiments", "show", "실험 1").returncode == 5
    assert local.run("experiments", "delete", "실험 1", "--allow-missing").returncode == 0


def test_recurring_runs(local: Adapter) -> None:
    """Recurring runs are created with a cron schedule or an interval, listed, enabled, disabled and deleted."""
    file = str(PIPELINES / "hello_world.yaml")
    made = local.run("recurring", "create", file, "--every", "1h30m", "--disabled", "-o", "json").stdout
    record = json.loads(made)
    assert (record["interval_seconds"], record["enabled"]) == (5400, False)
    which = record["recurring_run_id"]
    local.printed("recurring", "enable", which)
    assert json.loads(local.printed("recurring", "show", which, "-o", "json"))["enabled"]
    assert "every 1h30m" in local.printed("recurring")
    local.printed("recurring", "disable", which)
    local.printed("recurring", "delete", which)
    assert local.run("recurring", "show", which).returncode == 5
    assert local.run("recurring", "create", file, "--cron", "* * *").returncode == 8
    assert local.run("recurring", "create", file).returncode == 2

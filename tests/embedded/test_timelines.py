"""A run's tasks during its execution: all that the next KFP returned (`native/timelines`), in its order."""

from __future__ import annotations

import contextlib
import json
import time
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from tests.transcripts import DATA, PIPELINES

from kfadapter_embedded.document_kinds import RUNS
from kfadapter_embedded.execution import OVER
from kfadapter_embedded.pipeline_file import read_spec
from kfadapter_embedded.progress import Progress
from kfadapter_embedded.run_folders import RunFolders
from kfadapter_embedded.run_tasks import tasks_of
from kfadapter_embedded.runner_pool import RunnerPool
from kfadapter_embedded.runs import Runs
from kfadapter_embedded.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from kfadapter_embedded.execution import TaskReport

pytestmark = pytest.mark.slow
PLAYS = json.loads((DATA / "transcripts" / "native" / "timelines.json").read_text("utf-8"))["plays"]
TIMELINES = {play["title"]: play["timeline"] for play in PLAYS}
Moment = list[tuple[str, str]]
"""The tasks that there are, with their states."""


def moment(tasks: list[dict[str, Any]]) -> Moment:
    """The compared fields of tasks; a cached task equals an executed one."""
    return sorted((task["name"], task["state"].replace("CACHED", "SUCCEEDED")) for task in tasks)


def timeline(folder: Path, pipeline: str, parameters: dict[str, object]) -> list[Moment]:
    """Executes a pipeline; returns the tasks after each report."""
    seen: list[Moment] = [[]]
    store = Store(folder / "kfp.sqlite")
    folders = RunFolders(folder / "runs")
    progress = Progress(store, folders)

    def report(run_id: str, one: TaskReport) -> None:
        progress.report(run_id, one)
        with store.reading() as documents:
            seen.append(moment([json.loads(str(task)) for task in tasks_of(documents, [run_id]).get(run_id, ())]))

    with contextlib.closing(store), contextlib.closing(RunnerPool(report)) as pool:
        runs = Runs(store, folders, progress, pool, most_file_bytes=1 << 30)
        with (PIPELINES / pipeline).open("rb") as file:
            spec = json.loads(read_spec(file))
        body = {"display_name": "r", "pipeline_spec": spec, "runtime_config": {"parameters": parameters}}
        run_id = json.loads(runs.create(body))["run_id"]
        deadline = time.monotonic() + 120
        while True:
            with store.reading() as documents:
                run = documents.document(RUNS, run_id)
            if run and run["state"] in OVER:
                return seen
            assert time.monotonic() < deadline, run
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("title", "pipeline", "parameters"),
    [
        ("hello_world", "hello_world.yaml", {"recipient": "세계"}),
        ("fails_with_exit_handler", "fails_with_exit_handler.yaml", {}),
        ("train_and_report", "train_and_report.yaml", {}),
    ],
)
def test_timeline(tmp_path: Path, title: str, pipeline: str, parameters: dict[str, object]) -> None:
    """All that a poller of the next KFP got is returned here, in the same order.

    Loops and retries are in test_native.py, which has their pipelines: it compares the histories of tasks.
    """
    seen = iter(timeline(tmp_path, pipeline, parameters))
    for wanted, _ in groupby(moment(entry["tasks"]) for entry in TIMELINES[title]):
        assert wanted in seen  # which continues from there

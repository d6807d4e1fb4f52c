"""`kfadapter artifacts` and `kfadapter runs metrics`: output, saved files and exit codes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from tests.cli.conftest import Kfadapter
from tests.made_runs import DATA, READABLE, FakeRuns, Store, run_of, serving_artifacts

from kfadapter_grpc.contract.errors import ArtifactNotReadableError, KfpError
from kfadapter_grpc.contract.run_outputs import RunOutput
from kfadapter_grpc.contract.runs import RunSource, RunSourceState
from kfadapter_grpc.kfp.run_nodes import artifact
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kfadapter_grpc.kfp.logs import RunLogs
    from kfadapter_grpc.kfp.runs import Runs


@pytest.fixture
def runs() -> FakeRuns:
    """Three runs."""
    return FakeRuns({f"r{index}": run_of(f"r{index}", index / 3) for index in range(3)})


@pytest.fixture
def store() -> Store:
    """The bytes of the runs' artifacts."""
    return Store()


@pytest.fixture
def kfadapter(runs: FakeRuns, store: Store) -> Iterator[Kfadapter]:
    """The command line with an adapter that serves these runs and artifacts."""
    logs, polled = cast("RunLogs", None), cast("Runs", runs)
    servicer = RunServicer(polled, watches=WatchPoller(polled), logs=logs)
    with serving_artifacts(runs, store, servicer) as target:
        yield Kfadapter(target)


def test_list(kfadapter: Kfadapter) -> None:
    """The table has one artifact per row, metrics with values; JSON has whole records; `-o name` prints ids."""
    ended = kfadapter("artifacts", "list", "r1")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0] == ["TASK", "OUTPUT", "TYPE", "ID", "CONTENT"]
    assert lines[1] == ["each[0]/train", "metrics", "Metrics", "r1-train-0-metrics", "accuracy", "=", "0.333333"]
    assert lines[2] == ["each[0]/train", "model", "Model", "r1-train-0-model", "s3://b/model"]
    filters = ("--task", "each[1]/train", "--type", "Model", "--name", "model")
    (found,) = json.loads(kfadapter("artifacts", "list", "r1", *filters, "-o", "json").out)
    assert (found["artifact_id"], found["type"], found["run_id"]) == ("r1-train-1-model", "system.Model", "r1")
    assert kfadapter("artifacts", "list", "r1", "--type", "Model", "-o", "name").out.split() == [
        "r1-train-0-model",
        "r1-train-1-model",
    ]
    assert kfadapter("artifacts", "list", "r1", "--name", "없음").err == "no artifacts\n"
    assert kfadapter("artifacts", "list", "@latest").out == kfadapter("artifacts", "list", "r0").out


def test_get(kfadapter: Kfadapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact is saved to this directory, another directory, a file or stdout, and the command reports the file."""
    monkeypatch.chdir(tmp_path)
    words = ("artifacts", "get", "r0", "each[0]/train", "model")
    ended = kfadapter(*words)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"wrote 모델.bin ({len(DATA)} bytes) of task 'each[0]/train'\n"
    assert kfadapter(*words, "-o", "새/").code == 0
    assert kfadapter(*words, "-o", "m.h5").code == 0
    for path in ("모델.bin", "새/모델.bin", "m.h5"):
        assert (tmp_path / path).read_bytes() == DATA
    assert kfadapter(*words, "-o", "-").out == DATA.decode()


def test_get_never_replaces_a_file(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """An existing file is an error that explains how to replace it."""
    path = tmp_path / "m"
    path.write_bytes(b"mine")
    words = ("artifacts", "get", "r0", "each[0]/train", "model", "-o", str(path))
    ended = kfadapter(*words)
    assert ended.code == 8
    assert f"it exists: {path}" in ended.err
    assert "--force" in ended.err
    assert path.read_bytes() == b"mine"
    assert kfadapter(*words, "--force").code == 0
    assert path.read_bytes() == DATA


def test_get_several(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """An artifact name shared by several tasks requires a directory, or the path of one task."""
    ended = kfadapter("artifacts", "get", "r0", "train", "model", "-o", str(tmp_path / "m"))
    assert ended.code == 2
    assert "each[0]/train, each[1]/train" in ended.err
    assert " artifacts get r0 train model --output DIR/\n" in ended.err
    assert "a path as TASK selects one" in ended.err
    assert "a path as TASK selects one" not in kfadapter("artifacts", "get", "r0", "each", "models", "-o", "-").err
    assert kfadapter("artifacts", "get", "r0", "train", "model", "-o", "-").code == 2
    assert kfadapter("artifacts", "get", "r0", "each", "models", "-o", str(tmp_path)).code == 0
    assert [(tmp_path / str(index) / "모델.bin").read_bytes() for index in range(2)] == [DATA, DATA]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("r9", "train", "model"), 5, "RUN_NOT_FOUND"),
        (("r0", "없음", "model"), 5, "TASK_NOT_FOUND"),
        (("r0", "each[0]/train", "loss"), 5, "its artifacts are: 'metrics', 'model'"),
    ],
)
def test_missing_resources(kfadapter: Kfadapter, words: tuple[str, ...], code: int, text: str) -> None:
    """The error names what was not found, and what exists instead."""
    ended = kfadapter("artifacts", "get", *words)
    assert ended.code == code
    assert text in ended.err


def test_what_cannot_be_read(kfadapter: Kfadapter, store: Store, tmp_path: Path) -> None:
    """The adapter's reason is shown, and no file is left."""
    store.breaks = [(0, ArtifactNotReadableError("it consists of metrics"))]
    ended = kfadapter("artifacts", "get", "r0", "each[0]/train", "metrics", "-o", f"{tmp_path}/")
    assert ended.code == 8
    assert "it consists of metrics" in ended.err
    assert list(tmp_path.iterdir()) == []


# --- metrics --------------------------------------------------------------------------------------------------------


def test_metrics(kfadapter: Kfadapter) -> None:
    """The table has a row for each run, with the requested parameters."""
    ended = kfadapter("runs", "metrics", "-p", "n", "-o", "wide")
    assert (ended.code, ended.err) == (0, "")
    head, first, second, _ = (line.split("   ") for line in ended.out.splitlines())
    assert [cell.strip() for cell in head if cell.strip()] == [
        *("ID", "NAME", "STATE", "CREATED", "n", "each[0]/train/accuracy", "each[1]/train/accuracy")
    ]
    assert [cell.strip() for cell in first if cell.strip()][:4] == [
        "r0",
        "이름 r0",
        "SUCCEEDED",
        "2026-01-02 03:04:05 UTC",
    ]
    assert [cell.strip() for cell in second if cell.strip()][4:] == ["7", "0.333333", "1.33333"]


def test_metrics_for_programs(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """CSV and JSON have full precision and the same columns; a run without metrics has empty values, and a reason."""
    runs.bad = {"r2": KfpError("부서짐")}
    runs.runs["r1"] = replace(runs.runs["r1"], parameters={"n": [1, "가"]})
    ended = kfadapter("runs", "metrics", "-p", "n", "-o", "csv")
    assert ended.err == "run r2: 부서짐\n"
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert rows[1] == {
        "run_id": "r1",
        "display_name": "이름 r1",
        "state": "SUCCEEDED",
        "created_at": "2026-01-02T03:04:05Z",
        "n": '[1, "가"]',
        "each[0]/train/accuracy": str(1 / 3),
        "each[1]/train/accuracy": str(1 / 3 + 1),
    }
    assert rows[2]["each[0]/train/accuracy"] == ""
    found = json.loads(kfadapter("runs", "metrics", "-o", "json").out)
    assert list(found[0]) == [key for key in rows[0] if key != "n"]
    assert (found[1]["each[0]/train/accuracy"], found[2]["each[0]/train/accuracy"]) == (1 / 3, None)


def test_metrics_in_another_order(kfadapter: Kfadapter) -> None:
    """Metrics can be sorted by, and chosen as columns, as everything else in the table."""
    ended = kfadapter(
        "runs", "metrics", "--sort", "each[0]/train/accuracy:desc", "--columns", "name,each[0]/train/accuracy"
    )
    assert [line.split("   ")[0].strip() for line in ended.out.splitlines()] == [
        "NAME",
        "이름 r2",
        "이름 r1",
        "이름 r0",
    ]
    unknown = kfadapter("runs", "metrics", "--sort", "each1/train/accuracy").err
    assert "Did you mean 'each[1]/train/accuracy'?" in unknown


def test_no_more_than_requested(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """`--limit` limits the runs; stderr reports that there may be more."""
    ended = kfadapter("runs", "metrics", "--limit", "2", "-o", "json")
    assert [row["run_id"] for row in json.loads(ended.out)] == ["r0", "r1"]
    assert "--limit 0 shows all" in ended.err
    runs.runs = {}
    assert kfadapter("runs", "metrics").err == "no runs\n"
    assert kfadapter("runs", "metrics", "-o", "json").out == "[]\n"
    assert kfadapter("runs", "metrics", "--version", "v1").code == 2


def test_a_run_shows_what_its_tasks_made(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """Each task lists its values, metrics and artifacts with their URIs; missing data is named with the reason."""
    curve = {"confidenceMetrics": [{"confidenceThreshold": 0.5, "falsePositiveRate": 0.1, "recall": 0.9}]}
    report = artifact("ClassificationMetric", curve, name="report", artifact_id="c", task_id="check")
    *others, check = runs.runs["r1"].tasks
    tasks = (*others, replace(check, outputs=(RunOutput.of("report", report),)))
    sources = replace(READABLE, logs=RunSource(RunSourceState.NOT_SERVED, "set archiveLogs"))
    runs.runs["r1"] = replace(runs.runs["r1"], tasks=tasks, sources=sources)
    shown = kfadapter("runs", "show", "r1").out
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "Missing logs: set archiveLogs" in rows
    for row in (
        "each models s3://b/model",
        "each[0]/train loss 0.1",
        "each[0]/train metrics.accuracy 0.3333333333333333",
        "each[0]/train model s3://b/model",
        "검사 report ROC curve of 1 points",
    ):
        assert row in rows

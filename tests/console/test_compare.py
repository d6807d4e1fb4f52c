"""Runs side by side on the page."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest
from tests.console.visiting import page
from tests.made_runs import AT, FakeRuns, Store, run_of, serving_artifacts

from kfadapter_console import compare
from kfadapter_grpc.comparison import ComparedRow, RowKind
from kfadapter_grpc.contract.run_outputs import RunOutput
from kfadapter_grpc.kfp.run_nodes import artifact, metrics_of
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.console.visiting import Visitor

    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.logs import RunLogs
    from kfadapter_grpc.kfp.runs import Runs

HOSTILE = "<img src=x onerror=alert(1)>"


def _classified(run: Run, recall: float) -> Run:
    """Returns the run with a ROC curve of its last task, of the whole and of a slice."""
    rates = [(0.0, 0.0), (0.5, recall), (1.0, 1.0)]
    curve: Json = [{"confidenceThreshold": 1 - x, "falsePositiveRate": x, "recall": y} for x, y in rates]
    sliced: Json = [{"slice": "바다", "sliceClassificationMetrics": {"confidenceMetrics": curve}}]
    *others, last = run.tasks
    outputs = (
        artifact("ClassificationMetric", {"confidenceMetrics": curve}, name="roc", task_id=last.task_id),
        artifact("SlicedClassificationMetric", {"evaluationSlices": sliced}, name="sliced", task_id=last.task_id),
    )
    last = replace(last, outputs=tuple(RunOutput.of(one.name, one) for one in outputs))
    return replace(run, tasks=(*others, last), metrics=metrics_of(run.tasks))


@pytest.fixture(scope="module")
def visitor() -> Iterator[Visitor]:
    """A visitor of the page in front of twelve runs."""
    runs = {f"r{at}": _classified(run_of(f"r{at}", at / 4), 0.5 + at / 20) for at in range(10)}
    runs["r1"] = replace(runs["r1"], display_name=HOSTILE, created_at=AT - timedelta(1), parameters={"n": HOSTILE})
    runs |= {at: replace(runs["r2"], run_id=at, parameters={"=n": "=1+1"}) for at in ("twin", "other")}
    fake = FakeRuns(runs)
    logs, polled = cast("RunLogs", None), cast("Runs", fake)
    servicer = RunServicer(polled, watches=WatchPoller(polled), logs=logs)
    with serving_artifacts(fake, Store(), servicer) as target, page(target) as made:
        yield made


def test_marks_differences(visitor: Visitor) -> None:
    """Rows that differ are marked, in words, too; the others are counted, and shown on demand; old runs come first."""
    answer = visitor.get("/compare?run=r0&run=r1")
    assert answer.status == 200
    assert answer.text.index('href="/runs/r1"') < answer.text.index('href="/runs/r0"')
    assert answer.text.count('aria-label="differs"') == answer.text.count('<tr class="differs">') == 4
    assert "Facts (5 the same)" in answer.words
    assert HOSTILE not in answer.text
    assert f"≠ n {HOSTILE} 7" in answer.words
    assert "Default" not in answer.words
    whole = visitor.get("/compare?run=r0&run=r1&all")
    assert whole.text.count('<tr class="differs">') == 4
    assert "state SUCCEEDED SUCCEEDED" in whole.words
    assert "≠ state" not in whole.words


def test_plots(visitor: Visitor) -> None:
    """A metric and a ROC curve are drawn over the runs; both can be chosen, and unknown ones fall back."""
    answer = visitor.get("/compare?run=r0&run=r1&metric=no+such&curve=no+such")
    assert "each[0]/train/accuracy over runs" in answer.words
    assert f"{HOSTILE}: AUC 0.5250 ■ 이름 r0: AUC 0.5000" in answer.words
    chosen = visitor.get("/compare?run=r0&run=r1&metric=each[1]/train/accuracy&curve=검사/sliced/바다")
    assert "each[1]/train/accuracy over runs" in chosen.words
    assert '<option value="검사/sliced/바다" selected>' in chosen.text
    same = visitor.get("/compare?run=r2&run=twin").words
    assert "이름 r2 (r2): AUC 0.5500 ■ 이름 r2 (twin): AUC 0.5500" in same


def test_csv(visitor: Visitor) -> None:
    """The file has all rows, exact values, and no text that a spreadsheet would compute."""
    answer = visitor.get("/compare.csv?run=r0&run=r1&run=twin")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''runs.csv"
    rows = list(csv.reader(io.StringIO(answer.body.decode("utf-8-sig"))))
    assert rows[:3] == [
        ["kind", "name", "differs", "r1", "r0", "twin"],
        ["fact", "display_name", "", HOSTILE, "이름 r0", "이름 r2"],
        ["fact", "state", "False", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"],
    ]
    assert ["parameter", "'=n", "True", "", "", "'=1+1"] in rows
    assert ["metric", "each[0]/train/accuracy", "True", "0.25", "0.0", "0.5"] in rows


def test_bounds(visitor: Visitor) -> None:
    """Two to ten runs can be compared; an unknown one is not found."""
    assert "Choose two to ten runs" in visitor.get("/compare").words
    assert "Choose two to ten runs" in visitor.get("/compare?run=r0&run=r0&run=").words
    many = "&".join(f"run=r{at}" for at in range(10))
    assert visitor.get(f"/compare?{many}").text.count('<th scope="col">') == 11
    refused = visitor.get(f"/compare?{many}&run=twin")
    assert (refused.status, "11 runs are too many" in refused.words) == (400, True)
    assert visitor.get("/compare?run=r0&run=gone").status == 404


def test_numbers_that_look_the_same() -> None:
    """Numbers are short unless they differ further behind."""
    row = ComparedRow(RowKind.METRIC, "loss", (0.1, 0.100000001), True)
    assert compare.format_row(row) == ["0.1", "0.100000001"]
    assert compare.format_row(replace(row, values=(0.123456789, 7.0))) == ["0.123457", "7"]

"""The report of a run as a single file, on the command line and on the page."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest
from markupsafe import escape
from tests.cli.conftest import Kfadapter
from tests.console.visiting import page
from tests.made_runs import AT, FakeRuns, Store, run_of, serving_artifacts

from kfadapter_console.run import MAX_DOCUMENT_BYTES, POLICY
from kfadapter_grpc.client import RunState, RunTask, TaskKind
from kfadapter_grpc.contract.run_outputs import RunInput, RunOutput
from kfadapter_grpc.kfp.run_nodes import artifact
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kfadapter_grpc.client import ArtifactContent, Run, RunArtifact
    from kfadapter_grpc.contract.artifacts import ReadArtifactRequest
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.logs import RunLogs
    from kfadapter_grpc.kfp.runs import Runs

HOSTILE = "<img src=x onerror=alert(1)>"
PAGE = (
    f"<meta http-equiv=refresh content='0;url=http://192.0.2.1/'><h1>보고서</h1>{HOSTILE}<script>alert(2)</script>"
    "<img src=http://192.0.2.1/x.png><iframe src=http://192.0.2.1/></iframe>"
)
MARKDOWN = f"# 결과\n\n{HOSTILE}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"


def failed_run() -> Run:
    """A run with a failed task in a loop, classification metrics, Markdown and HTML."""
    run = run_of("r0", 0.25)
    curve: Json = [{"confidenceThreshold": 0.5, "falsePositiveRate": 0.5, "recall": 0.75}]
    matrix: Json = {"annotationSpecs": [{"displayName": HOSTILE}], "rows": [{"row": [7]}]}

    def made(kind: str, name: str, **metadata: Json) -> RunArtifact:
        return artifact(kind, metadata, name=name, artifact_id=name, run_id="r0", task_id="check", uri=f"s3://b/{name}")

    outputs = [
        made("ClassificationMetric", "roc", confidenceMetrics=curve),
        made("ClassificationMetric", "matrix", confusionMatrix=matrix),
        made("Markdown", "notes"),
        made("HTML", "page"),
    ]
    loop, good, bad, check = run.tasks
    bad = replace(bad, state=RunState.FAILED, error=f"ValueError: {HOSTILE} 나쁜 모델", log_tail=f"줄 1\n{HOSTILE}")
    check = replace(check, state=RunState.SUCCEEDED, outputs=tuple(RunOutput.of(one.name, one) for one in outputs))
    return replace(
        run,
        display_name=HOSTILE,
        state=RunState.FAILED,
        error="task each[1]/train failed",
        parameters={"n": HOSTILE, "구조": {"a": [1, None]}},
        finished_at=AT + timedelta(minutes=2),
        tasks=(replace(loop, state=RunState.FAILED), replace(good, state=RunState.SUCCEEDED), bad, check),
    )


def _large(tasks: int) -> Run:
    """A run with a loop over many tasks, with values that are long."""
    long: Json = ["값" * 30] * 3
    inside = [
        RunTask(
            "train",
            f"t{at}",
            RunState.SUCCEEDED,
            started_at=AT,
            finished_at=AT + timedelta(seconds=at),
            parent_task_id="each",
            iteration_index=at,
            inputs=tuple(RunInput(f"in{port}", long) for port in range(5)),
            outputs=tuple(RunOutput(f"out{port}", long) for port in range(5)),
        )
        for at in range(tasks)
    ]
    loop = RunTask("each", "each", RunState.SUCCEEDED, kind=TaskKind.LOOP)
    return replace(run_of("large"), tasks=(loop, *inside), metrics=())


class Documents(Store):
    """The bytes of artifacts; those called `page` are HTML that tries to do more than show itself."""

    @contextmanager
    def read(
        self, artifact: RunArtifact, request: ReadArtifactRequest, call: Call, session: str
    ) -> Iterator[Iterator[ArtifactContent | bytes]]:
        """Reads the page, or else what was set."""
        one = replace(self, data=PAGE.encode()) if artifact.name == "page" and self.data == MARKDOWN.encode() else self
        with Store.read(one, artifact, request, call, session) as parts:
            yield parts


@contextmanager
def served(of: dict[str, Run], store: Store | None = None) -> Iterator[str]:
    """Serves these runs and their artifacts."""
    runs = FakeRuns(of)
    store = store or Documents(data=MARKDOWN.encode())
    logs, polled = cast("RunLogs", None), cast("Runs", runs)
    servicer = RunServicer(polled, watches=WatchPoller(polled), logs=logs)
    with serving_artifacts(runs, store, servicer) as address:
        yield address


@pytest.fixture(scope="module")
def store() -> Store:
    """The bytes of all artifacts."""
    return Documents(data=MARKDOWN.encode())


@pytest.fixture(scope="module")
def target(store: Store) -> Iterator[str]:
    """An adapter with these runs."""
    with served({"r0": failed_run(), "large": _large(2000)}, store) as address:
        yield address


@pytest.fixture
def kfadapter(target: str) -> Kfadapter:
    """The command line before that adapter."""
    return Kfadapter(target)


def test_holds_everything(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """The file has the graph, the failure with its log, parameters, metrics, plots, documents and tasks, no links."""
    ended = kfadapter("runs", "report", "r0", "-o", str(tmp_path / "r.html"))
    assert (ended.code, ended.out, ended.err) == (0, "", f"wrote {tmp_path / 'r.html'}\n")
    text = (tmp_path / "r.html").read_text("utf-8")
    for part in (
        "Task each[1]/train failed: ValueError: &lt;img",
        "<pre>줄 1\n&lt;img",
        'class="graph"',
        "[2/2, 1 failed]",
        '<td>구조</td><td class="text">{&#34;a&#34;: [1, null]}</td>',
        "<td>accuracy</td><td>0.25</td><td>each[0]/train</td>",
        "AUC 0.6250",
        "predicted &lt;img src=x onerror=alert(1)&gt;: 100.0% of the row",
        "s3://b/notes",
        "2m00s",
    ):
        assert part in text, part


def test_needs_no_network_and_no_script(kfadapter: Kfadapter) -> None:
    """Nothing is loaded or executed: texts are escaped, documents are in sandboxes, a policy forbids the rest."""
    ended = kfadapter("runs", "report", "r0", "-o", "-")
    assert ended.code == 0
    assert f'content="{escape(POLICY)}"' in ended.out
    assert HOSTILE not in ended.out
    assert not re.findall(r"<a |<button", ended.out)
    frames = re.findall(r"<iframe [^>]*>", ended.out)
    around = re.sub(r"<iframe [^>]*>", "", ended.out)
    assert not re.findall(r"<(?:script|link|object|embed|base|img|form)\b", around)
    assert not re.findall(r"""(?:src|href|action|url)\s*[=(]\s*["']?(?!data:)\w+:""", around)
    assert len(frames) == 2
    assert all(one.startswith("<iframe sandbox class=") for one in frames)
    assert "&lt;h1&gt;결과&lt;/h1&gt;" in frames[0]
    assert "&amp;lt;img src=x" in frames[0]  # Markdown keeps its HTML as text
    assert "&lt;table&gt;" in frames[0]


def test_documents_have_a_maximum_size(kfadapter: Kfadapter, store: Store) -> None:
    """A document that is too large, or that cannot be read, is named instead."""
    before, store.data = store.data, b"x" * (MAX_DOCUMENT_BYTES + 1)
    text = kfadapter("runs", "report", "r0", "-o", "-").out
    store.data = before
    assert "<iframe" not in text
    assert text.count("It has more than 256 KiB: download it instead.") == 2


def test_files(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """An existing file is replaced at once, and kept if the report fails; a folder is refused."""
    file = tmp_path / "보고서.html"
    file.write_text("before")
    assert kfadapter("runs", "report", "gone", "-o", str(file)).code == 5
    assert file.read_text() == "before"
    assert kfadapter("runs", "report", "r0", "-o", str(file)).code == 0
    assert file.read_text("utf-8").startswith("<!doctype html>")
    assert [*tmp_path.iterdir()] == [file]
    assert kfadapter("runs", "report", "r0", "-o", str(tmp_path)).code == 8


def test_in_the_help(kfadapter: Kfadapter) -> None:
    """The group `runs` lists the command of its sibling package."""
    assert "report" in kfadapter("runs", "--help").out.partition("Commands:")[2]
    assert "Write a run as a single HTML file" in kfadapter("runs", "report", "--help").out


@pytest.mark.slow
def test_a_large_run(kfadapter: Kfadapter) -> None:
    """The report of 2,000 tasks with five long outputs each stays below 5 MB, and takes less than 10 s."""
    start = time.perf_counter()
    text = kfadapter("runs", "report", "large", "-o", "-").out
    assert time.perf_counter() - start < 10
    assert "each[1999]/train" in text
    assert len(text.encode()) < 5_000_000


def test_download(target: str) -> None:
    """The page offers the same file as a download."""
    with page(target) as visitor:
        answer = visitor.get("/runs/r0/report.html")
        assert answer.headers["content-disposition"] == 'attachment; filename="run-r0.html"'
        assert answer.headers["content-security-policy"] == f"sandbox; {POLICY}"
        assert "each[1]/train" in answer.text
        assert visitor.get("/runs/gone/report.html").status == 404

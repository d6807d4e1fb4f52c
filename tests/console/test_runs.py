"""The list of runs, and the page of one run."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from tests import made_runs
from tests.cli.fake_runs import FakeRuns, serving_all
from tests.client.fake_adapter import FakeAdapter
from tests.console.run_pipelines import HOSTILE, compile_to
from tests.console.visiting import page

from kfadapter.v1 import run_pb2 as pb
from kfadapter.v1.pipeline_pb2 import TASK_KIND_LOOP
from kfadapter_console import page as page_module
from kfadapter_grpc.contract.artifacts import ArtifactContent
from kfadapter_grpc.contract.runs import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.console.conftest import Made
    from tests.console.visiting import Visitor

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.runs import Run

WAIT_SECONDS = 120


@pytest.fixture(scope="module")
def story(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with hostile names, a loop, reports, metrics and a failure."""
    for path in compile_to(tmp_path_factory.mktemp("pipelines")):
        client.pipelines.upload(path, name=path.stem)
    run = client.runs.create("story", display_name=HOSTILE, description=HOSTILE, labels={HOSTILE: HOSTILE})
    client.runs.wait(run.run_id, timeout=WAIT_SECONDS)
    return client.runs.get(run.run_id)


@pytest.fixture
def many() -> Iterator[tuple[FakeRuns, Visitor]]:
    """A page in front of an adapter whose runs the test makes up."""
    runs = FakeRuns()
    with serving_all(FakeAdapter(), runs) as target, page(target) as visitor:
        yield runs, visitor


def task_id(run: Run, name: str) -> str:
    """The id of a task."""
    return next(task.task_id for task in run.tasks if task.name == name)


# --- the list --------------------------------------------------------------------------------------------------------


def test_list_and_filters(visitor: Visitor, made: Made) -> None:
    """Runs are listed with state, pipeline and error; each filter narrows the list, and its value stays in the form."""
    words = visitor.get("/runs").words
    assert all(run.display_name in words for run in (made.good, made.worse, made.failed, made.korean))
    assert "✗ FAILED failing fails" in words
    for query, shown, hidden in [
        ("name=good", "good", "worse"),
        ("state=FAILED", "failing", "good"),
        ("pipeline=metrics", "worse", "failing"),
        (f"pipeline={made.good.pipeline_id}", "worse", "failing"),
        ("experiment=Default&name=" + quote("안녕"), "안녕", "good"),
        ("order=display_name", "failing", "no such run"),
    ]:
        answer = visitor.get(f"/runs?{query}")
        table = answer.text.partition('<div id="runs"')[2]
        assert f">{shown}</a>" in table, query
        assert f">{hidden}</a>" not in table, query
    assert 'value="안녕"' in visitor.get(f"/runs?name={quote('안녕')}").text
    assert "No runs match" in visitor.get("/runs?archived=1&name=nothing").words


def test_wrong_filters_are_explained(visitor: Visitor, made: Made) -> None:
    """An unknown pipeline or experiment, or a page of another list, is explained in the server's words."""
    assert made
    for query, why in [
        ("pipeline=nowhere", "'nowhere'"),
        (f"experiment={quote(HOSTILE)}", HOSTILE),
        ("page=wrong", "token"),
        ("order=color", "'color' is not an order"),
    ]:
        answer = visitor.get(f"/runs?{query}")
        assert answer.status == 200
        assert why in answer.words, query
        assert HOSTILE not in answer.text


def test_pages(visitor: Visitor, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list has pages that link to each other; only the first one is live."""
    assert made
    monkeypatch.setattr(page_module, "PAGE_SIZE", 2)
    first = visitor.get("/runs?order=created_at+desc")
    assert "data-live=" in first.text
    found = re.search(r'href="([^"]*)" rel="next"', first.text)
    assert found
    second = visitor.get(found[1].replace("&amp;", "&"))
    assert "data-live=" not in second.text
    names = [set(re.findall(r'name="run" value="([^"]+)"', one.text)) for one in (first, second)]
    assert [len(some) for some in names] == [2, 2]
    assert not names[0] & names[1]


def test_new_runs_appear(visitor: Visitor, client: Client, made: Made) -> None:
    """The list's stream sends the list again when a run was created."""
    assert made
    events = visitor.events("/runs")
    created: Run | None = None
    for name, data in events:
        if created is None:  # the first fragment comes when the watch has begun
            created = client.runs.create("hello", display_name="new <b>one</b>")
        elif name == "fragment" and created.run_id in data:
            assert '<div id="runs">' in data
            assert "new &lt;b&gt;one&lt;/b&gt;" in data
            break


# --- what can be done ------------------------------------------------------------------------------------------------


def test_actions(visitor: Visitor, client: Client, made: Made) -> None:
    """Runs are archived, unarchived, retried and deleted from the page; deleting asks first."""
    assert made
    run = client.runs.create("hello", display_name="to be deleted")
    client.runs.wait(run.run_id, timeout=WAIT_SECONDS)
    here = f"/runs/{run.run_id}"
    answer = visitor.post(f"/runs/archive?back={here}", {"run": run.run_id})
    assert (answer.path, "archived" in answer.words) == (here, True)
    assert run.display_name in visitor.get("/runs?archived=1").words
    assert visitor.post("/runs/unarchive?back=//evil", {"run": run.run_id}).path == "/runs"
    refused = visitor.post("/runs/retry", {"run": run.run_id})
    assert (refused.status, "RUN_NOT_RETRYABLE" in refused.words) == (409, True)
    assert "Records, metrics and logs are lost" in visitor.get(here).words
    assert visitor.post("/runs/delete", {"run": run.run_id}).path == "/runs"
    assert visitor.get(here).status == 404
    assert visitor.post("/runs/explode", {"run": run.run_id}).status == 404


def test_compare_with_others(visitor: Visitor, made: Made) -> None:
    """The page of a run leads to the list of its pipeline's runs, where it is ticked."""
    (address,) = [one for one in visitor.get(f"/runs/{made.good.run_id}").html.links if "chosen=" in one]
    ticked = re.findall(r'<input type="checkbox" id="run-([^"]*)"[^>]*checked>', visitor.get(unescape(address)).text)
    assert ticked == [made.good.run_id]


def test_several_runs_at_once(visitor: Visitor, client: Client, made: Made) -> None:
    """What failed for one of several runs is reported, and the others are done."""
    assert made
    run = client.runs.create("hello", display_name="one of several")
    client.runs.wait(run.run_id, timeout=WAIT_SECONDS)
    answer = visitor.post("/runs/archive", [("run", "no-such-run"), ("run", run.run_id)])
    assert answer.status == 409
    assert "archive failed for 1 of 2 runs" in answer.words
    assert "RUN_NOT_FOUND" in answer.words
    assert client.runs.get(run.run_id).storage_state.name == "ARCHIVED"


def test_read_only(target: str, story: Run) -> None:
    """A read-only page has no buttons that change something, and refuses to do so."""
    with page(target, read_only=True) as visitor:
        for path in ("/runs", f"/runs/{story.run_id}"):
            assert not re.search(r"formaction|method=.post|/start|/delete", visitor.get(path).text)
        assert visitor.post("/runs/delete", {"run": story.run_id}).status == 403


# --- one run ---------------------------------------------------------------------------------------------------------


def test_why_it_failed_is_at_the_top(visitor: Visitor, story: Run) -> None:
    """The failed task is named with its error and the end of its log, before the graph; the run can be retried."""
    answer = visitor.get(f"/runs/{story.run_id}")
    top = answer.text.partition("<h2")[0]
    assert f'task?of={task_id(story, "fail")}">fail</a> failed: ValueError: 발산했다' in top
    assert "Traceback" in top
    assert "Retry from where it failed" in top
    assert "Terminate" not in top


def test_graph_and_tasks(visitor: Visitor, story: Run) -> None:
    """Boxes have the class and the words of their state and lead to their tasks; a loop is folded until asked for."""
    here = f"/runs/{story.run_id}"
    answer = visitor.get(here)
    assert 'class="task failed"' in answer.text
    assert "✓ [3/3]" in answer.words
    assert f'<a id="box-report" href="{here}/task?of={task_id(story, "report")}"><title>&lt;img' in answer.text
    assert "말하기[0]" not in answer.words
    (more,) = re.findall(r'id="more-words" href="([^"#]*)#tasks"', answer.text)
    for path in (more, f"{here}?of=for-loop-2"):
        unfolded = visitor.get(path)
        assert unfolded.text.partition('id="tasks"')[2].count('id="to-words[') == 3
        assert 'class="group loop succeeded"' in unfolded.text
    inside = visitor.get(f"{here}?of=for-loop-2/say").text.partition('id="tasks"')[2]
    assert inside.count('id="to-') == 3
    failed = visitor.get(f"{here}?state=FAILED").text.partition('id="tasks"')[2]
    assert failed.count('id="to-') == 1


def test_results(visitor: Visitor, story: Run) -> None:
    """Metrics, outputs, artifacts and pictures of metrics are on the page of the run."""
    words = visitor.get(f"/runs/{story.run_id}").words
    assert f"{HOSTILE} 0.93" in words
    assert "AUC 0.7" in words
    assert "고양이" in words
    assert "Markdown Download" in words


def test_names_are_escaped(visitor: Visitor, story: Run) -> None:
    """No name, label, parameter, metric, error or log becomes markup, on any page or in any fragment of a run."""
    here, report = f"/runs/{story.run_id}", task_id(story, "report")
    curve = next(one.artifact for task in story.tasks for one in task.outputs if one.name == "curve")
    assert curve
    for path in (
        "/runs",
        here,
        f"{here}?state=SUCCEEDED",
        f"{here}/task?of={report}",
        f"{here}/task?of={task_id(story, 'fail')}",
        f"{here}/artifact?id={curve.artifact_id}",
        f"{here}/task?of={quote(HOSTILE)}x",
    ):
        answer = visitor.get(path)
        assert HOSTILE in answer.words, path
        assert "<img" not in answer.text, path
        assert "<script>" not in answer.text, path
        assert " style=" not in answer.text, path


def test_a_run_is_followed_to_its_end(visitor: Visitor, client: Client, story: Run) -> None:
    """The stream sends the content of the page when it changed, and ends with the run."""
    assert story
    run = client.runs.create("slow", display_name="followed", parameters={"seconds": 1}, caching=False)
    assert f'data-live="/runs/{run.run_id}"' in visitor.get(f"/runs/{run.run_id}").text
    sent = list(visitor.events(f"/runs/{run.run_id}"))
    assert sent[-1][0] == "end"
    contents = [data for name, data in sent if name == "fragment"]
    assert all('<div id="run-head">' in data and "<html" not in data for data in contents)
    assert "SUCCEEDED" in contents[-1]
    assert len(set(contents)) == len(contents)
    assert "data-live" not in visitor.get(f"/runs/{run.run_id}").text


def test_hanging_tasks_are_at_the_top(many: tuple[FakeRuns, Visitor]) -> None:
    """A task whose pod does not start is named with the reason; what could not be read is said."""
    runs, visitor = many
    run = runs.add("hanging", state=pb.RUN_STATE_RUNNING)
    run.tasks.add(name="train", task_id="1", state=pb.RUN_STATE_PENDING, warnings=["0/3 nodes have a GPU"])
    run.sources.outputs.state = pb.RUN_SOURCE_STATE_UNREACHABLE
    run.sources.outputs.message = "ML Metadata is unreachable"
    answer = visitor.get(f"/runs/{run.run_id}")
    assert "Task train does not start: 0/3 nodes have a GPU" in answer.words.partition("Graph")[0]
    assert "Outputs are missing: ML Metadata is unreachable" in answer.words


def test_many_tasks_are_bounded(many: tuple[FakeRuns, Visitor]) -> None:
    """Of 2000 tasks at most 300 are shown; the others are counted and can be reached, page by page and by state."""
    runs, visitor = many
    run = runs.add("wide", state=pb.RUN_STATE_RUNNING)
    run.tasks.add(name="each", task_id="loop", kind=TASK_KIND_LOOP, state=pb.RUN_STATE_RUNNING)
    for number in range(2000):
        state = pb.RUN_STATE_FAILED if number == 1999 else pb.RUN_STATE_SUCCEEDED
        run.tasks.add(name="fit", task_id=f"t{number}", parent_task_id="loop", iteration_index=number, state=state)
    here = f"/runs/{run.run_id}"
    folded, unfolded = visitor.get(here), visitor.get(f"{here}?of=each")
    assert "each [2000/2000, 1 failed] 1999 more" in folded.words
    assert "fit[1999]" in folded.words
    assert "fit[7]" not in folded.words
    assert unfolded.text.count("fit[") < 3 * 300
    assert "1 to 300 of 2000" in unfolded.words
    assert max(len(folded.body), len(unfolded.body)) < 300_000
    last = visitor.get(f"{here}?of=each&from=1800")
    assert "1801 to 2000 of 2000" in last.words
    failed = visitor.get(f"{here}?of=each/fit&state=FAILED").text.partition('id="tasks"')[2]
    assert failed.count('id="to-') == 1


# --- tasks, logs, artifacts ------------------------------------------------------------------------------------------


def test_a_task(visitor: Visitor, story: Run) -> None:
    """A task's page has its inputs, outputs, image, times, states and the end of its log."""
    words = visitor.get(f"/runs/{story.run_id}/task?of={quote('words[1]/말하기')}").words
    for part in ("words[1]/말하기", "python:3.11-slim", "text b", "Output b", "Attempts 1", "RUNNING", "말하기: b"):
        assert part in words
    missing = visitor.get(f"/runs/{story.run_id}/task?of=nobody")
    assert (missing.status, "TASK_NOT_FOUND" in missing.words) == (404, True)


def test_logs(visitor: Visitor, story: Run) -> None:
    """A log is shown as text, without the colours of a terminal, and downloaded as it is."""
    of = task_id(story, "report")
    assert "쓰는 중 &lt;b&gt;x&lt;/b&gt;" in visitor.get(f"/runs/{story.run_id}/task?of={of}").text
    whole = visitor.get(f"/runs/{story.run_id}/task/log?of={of}")
    assert "\x1b[31m쓰는 중" in whole.text
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["content-disposition"].startswith("attachment; filename*=UTF-8''%3Cimg")
    loop = visitor.get(f"/runs/{story.run_id}/task/log?of=words")
    assert "group of tasks" in loop.words


def test_a_cached_task_has_no_log(visitor: Visitor, client: Client, made: Made) -> None:
    """A task whose result came from the cache has no log to download."""
    again = client.runs.create(made.metrics, parameters={"slope": 2.0})
    client.runs.wait(again.run_id, timeout=WAIT_SECONDS)
    cached = next(task for task in client.runs.get(again.run_id).tasks if task.cached)
    shown = visitor.get(f"/runs/{again.run_id}/task?of={cached.task_id}")
    assert "came from the cache" in shown.words
    assert "Download the whole log" not in shown.words


def test_logs_are_followed(visitor: Visitor, client: Client, story: Run) -> None:
    """The stream of a task sends its log as it grows, then its end."""
    assert story
    run = client.runs.create("slow", parameters={"seconds": 6}, caching=False)
    sent = [data for name, data in visitor.events(f"/runs/{run.run_id}/task?of=count") if name == "fragment"]
    logs = [data.count("line ") for data in sent]
    assert logs == sorted(logs)
    assert len(set(logs)) > 1
    assert logs[-1] == 6
    assert "SUCCEEDED" in sent[-1]


def test_artifacts(visitor: Visitor, story: Run) -> None:
    """Reports are shown in a frame that is kept apart; bytes are downloaded as they are, never as a page."""
    found = {one.name: one.artifact for task in story.tasks for one in task.outputs if one.artifact}
    page_id, text_id = (quote(found[name].artifact_id) for name in ("page", "text"))
    here = f"/runs/{story.run_id}/artifact"
    frame = re.search(r"<iframe[^>]*>", visitor.get(f"{here}?id={page_id}").text)
    assert frame
    assert 'sandbox="allow-scripts"' in frame[0]
    view = visitor.get(f"{here}/view?id={page_id}")
    assert "<script>document.title = 1</script>" in view.text
    policy = view.headers["content-security-policy"]
    assert "sandbox allow-scripts;" in policy
    assert "default-src 'none'" in policy
    assert "allow-same-origin" not in policy
    markdown = visitor.get(f"{here}/view?id={text_id}").text
    assert "<h1>제목</h1>" in markdown
    assert "<script" not in markdown
    assert 'href="javascript' not in markdown
    bytes_ = visitor.get(f"{here}/download?id={page_id}")
    assert bytes_.text.startswith("<h1>보고서</h1>")
    assert bytes_.headers["content-type"] == "application/octet-stream"
    assert bytes_.headers["x-content-type-options"] == "nosniff"
    assert bytes_.headers["content-disposition"].startswith("attachment")
    scores = quote(found["scores"].artifact_id)
    assert visitor.get(f"{here}/view?id={scores}").status == 404
    assert visitor.get(f"{here}/download?id=nothing").status == 404


def test_folders_and_hostile_file_names() -> None:
    """A folder is downloaded as a tar archive; a file name of the store does not leave the header."""
    folder = ArtifactContent("a/모델\r\nx: y", "application/x-tar", is_directory=True, entry_count=1)
    runs, store = made_runs.FakeRuns({"r0": made_runs.run_of("r0")}), made_runs.Store(folder, b"tar" * 1000)
    with made_runs.serving_artifacts(runs, store) as target, page(target) as visitor:
        found = visitor.get(f"/runs/r0/artifact/download?id={made_runs.ID}")
    assert found.body == b"tar" * 1000
    name = quote("모델\r\nx: y.tar")
    assert found.headers["content-disposition"] == f"attachment; filename*=UTF-8''{name}"
    assert "x" not in found.headers


def test_states_have_icons() -> None:
    """Each state of a run has an icon, so that colour alone never shows it."""
    assert set(RunState) - {RunState.UNKNOWN} == set(page_module.ICONS)

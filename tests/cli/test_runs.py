from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from google.protobuf import json_format
from tests.cli.conftest import Kfadapter
from tests.cli.fake_runs import FakeRuns, serving_all

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client.fake_adapter import FakeAdapter

FAILED = (run_pb2.RUN_STATE_FAILED, "task fit failed: RuntimeError: 부서짐")


@pytest.fixture
def runs() -> FakeRuns:
    """A service without runs."""
    return FakeRuns()


@pytest.fixture
def kfadapter(fake: FakeAdapter, runs: FakeRuns) -> Iterator[Kfadapter]:
    """The command line with an adapter that has one pipeline, `train`."""
    fake.add(
        "train", pb.PipelineSpecSummary(parameters=[pb.Parameter(name="n", type=pb.PARAMETER_TYPE_NUMBER_INTEGER)])
    )
    with serving_all(fake, runs) as target:
        yield Kfadapter(target)


def created(runs: FakeRuns) -> run_pb2.CreateRunRequest:
    """Returns the only request to start a run."""
    (request,) = [one for one in runs.requests if isinstance(one, run_pb2.CreateRunRequest)]
    return request


def test_run_sends_what_was_typed(kfadapter: Kfadapter, fake: FakeAdapter, runs: FakeRuns) -> None:
    """Parameters have the declared types, the version is the one that was read, and the output has a watch command."""
    ended = kfadapter(
        "run", "train", "-p", "n=7", "-p", "도시=서울=x", "--experiment", "lab", "--create-experiment", "--no-cache",
        "--label", "a=b", "--display-name", "첫 실행",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    request = created(runs)
    assert json_format.MessageToDict(request.parameters) == {"n": 7.0, "도시": "서울=x"}
    assert request.pipeline_version_id == fake.versions["train"][0].pipeline_version_id
    assert (request.experiment_name, request.create_experiment, dict(request.labels)) == ("lab", True, {"a": "b"})
    assert request.HasField("caching_enabled")
    assert "첫 실행" in ended.out
    assert f"watch {next(iter(runs.runs))}\n" in ended.out


def test_a_file_is_uploaded_once(kfadapter: Kfadapter, fake: FakeAdapter, runs: FakeRuns, tmp_path: Path) -> None:
    """A file is uploaded under its name unless it already exists, and that version is run."""
    file = tmp_path / "other.yaml"
    file.write_text("x: 1\n")
    ended = kfadapter("run", str(file), "-o", "name")
    assert (ended.code, ended.out) == (0, f"{next(iter(runs.runs))}\n")
    assert ended.err == "uploaded other, version other (new)\n"
    (metadata,) = [one for one in fake.requests if isinstance(one, pb.UploadPipelineMetadata)]
    assert metadata.if_exists == pb.IF_EXISTS_SKIP_IF_SAME
    assert created(runs).pipeline_id == fake.pipelines["other"].pipeline_id
    again = kfadapter("run", str(file), "-o", "name")
    assert (again.code, again.err) == (0, "nothing was stored: version other of other has the same bytes\n")


@pytest.mark.parametrize("words", [["-"], ["x.yaml", "--version", "2"], ["absent.yaml"]], ids=lambda words: words[0])
def test_a_file_that_cannot_be_run(kfadapter: Kfadapter, runs: FakeRuns, words: list[str]) -> None:
    """A file that cannot be run is a usage error, and nothing is started."""
    ended = kfadapter("run", *words)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert runs.requests == []


def test_a_dry_run_starts_nothing(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """With `--dry-run` the adapter only validates, and the command reports it."""
    ended = kfadapter("run", "train", "-p", "n=7", "--dry-run")
    assert (ended.code, runs.runs) == (0, {})
    assert created(runs).validate_only
    assert "nothing was started" in ended.err


def test_a_watched_run_that_succeeds(kfadapter: Kfadapter) -> None:
    """The exit code is 0, and each change is a line."""
    ended = kfadapter("run", "train", "-p", "n=7", "--watch", "--display-name", "r")
    assert ended.code == 0
    assert ended.out == "08:53:21  r  SUCCEEDED\n"


def test_a_watched_run_that_fails(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """The exit code is 1; the error has the reason and where to look: the logs if a task failed, else the run."""
    runs.endings = [FAILED]
    ended = kfadapter("run", "train", "-p", "n=7", "--watch", "--display-name", "r")
    assert ended.code == 1
    _, what, why, step, *_ = ended.err.splitlines()
    assert (what, why) == ("error: run 'r' failed", f"why:   {FAILED[1]}")
    assert step.endswith(f"runs show {next(iter(runs.runs))}")
    failed = run_pb2.RunTask(name="나쁜 것", task_id="1", state=run_pb2.RUN_STATE_FAILED)
    run = runs.add("with a task", tasks=[failed])
    assert f"logs {run.run_id} --failed\n" in kfadapter("watch", run.run_id).err


def test_warnings_of_a_watched_run(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """Warnings are complete at the end and in `runs show`, and not repeated on the lines of tasks."""
    text = f"KFP 2.17은 달리 한다: {'가' * 200}"
    task = run_pb2.RunTask(name="a", task_id="1", state=run_pb2.RUN_STATE_SUCCEEDED, warnings=[text])
    run = runs.add("r", state=run_pb2.RUN_STATE_SUCCEEDED, tasks=[task], warnings=[f"task 'a': {text}"])
    ended = kfadapter("watch", run.run_id)
    assert ended.code == 0
    assert ended.out.splitlines()[-2:] == ["WARNINGS", f"task 'a': {text}"]
    assert "KFP 2.17은" not in ended.out.splitlines()[0]
    assert f"task 'a': {text}" in kfadapter("runs", "show", run.run_id).out


def test_a_watched_run_that_is_cancelled(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """The exit code is 7."""
    runs.endings = [(run_pb2.RUN_STATE_CANCELING, ""), (run_pb2.RUN_STATE_CANCELED, "")]
    run = runs.add("r")
    ended = kfadapter("watch", run.run_id)
    assert ended.code == 7
    assert "error: run 'r' was cancelled\nwhy:   it was terminated\n" in ended.err


def test_watch_as_json_is_one_document(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """With `-o json` the output is one document, printed when the run has finished."""
    run = runs.add("r")
    assert json.loads(kfadapter("watch", run.run_id, "-o", "json").out)["state"] == "SUCCEEDED"


def test_several_runs_end_with_the_worst(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """If one of several runs fails the exit code is 1, and every line names its run."""
    runs.endings = [FAILED]
    first, second = runs.add("a"), runs.add("b")
    ended = kfadapter("watch", first.run_id, second.run_id, first.run_id)
    assert ended.code == 1
    assert [line.split()[1:] for line in ended.out.splitlines()] == [["a", "FAILED"], ["b", "FAILED"]]


def test_a_missing_run(kfadapter: Kfadapter) -> None:
    """Every command reports an unknown run immediately, with exit code 5."""
    for words in (["watch"], ["logs"], ["terminate"], ["retry"], ["runs", "show"], ["runs", "archive"]):
        ended = kfadapter(*words, "absent")
        assert ended.code == 5, words
        assert "RUN_NOT_FOUND" in ended.err
    assert kfadapter("watch", "@latest").code == 5


def test_runs_is_a_list(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """`runs` lists the newest runs first, with filters; stderr reports that there are more than the limit."""
    old, new = (
        runs.add("old", state=run_pb2.RUN_STATE_FAILED),
        runs.add("새 것", state=run_pb2.RUN_STATE_FAILED, error="why\nbecause"),
    )
    ended = kfadapter("runs", "--state", "failed", "--limit", "1")
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()] == ["NAME", "새"]
    assert ended.out.splitlines()[1].endswith("because")
    assert "--limit 0" in ended.err
    request = runs.requests[-1]
    assert isinstance(request, run_pb2.ListRunsRequest)
    assert list(request.filter.states) == [run_pb2.RUN_STATE_FAILED]
    assert kfadapter("runs", "list", "-o", "name").out == f"{new.run_id}\n{old.run_id}\n"
    assert json.loads(kfadapter("runs", "-o", "json").out)[1]["tasks"] is None
    assert kfadapter("runs", "nonsense").code == 2


def test_show_reports_tasks_and_metrics(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """`runs show` prints the tasks as a tree, and a row for each metric."""
    run = runs.add("r", state=run_pb2.RUN_STATE_SUCCEEDED)
    task = run.tasks.add(name="fit", task_id="t", state=run_pb2.RUN_STATE_SUCCEEDED)
    metrics = task.outputs.add(name="metrics").artifact
    metrics.type = "system.Metrics"
    metrics.metadata.update({"loss": 0.5})
    task.outputs.add(name="text").value.string_value = "결과"
    shown = kfadapter("runs", "show", "@latest").out
    assert "\nTASKS\n✓ fit  SUCCEEDED\n" in shown
    rows = [line.split() for line in shown.splitlines() if line.startswith("fit")]
    assert rows == [["fit", "metrics.loss", "0.5"], ["fit", "metrics", "system.Metrics"], ["fit", "text", "결과"]]
    record = json.loads(kfadapter("runs", "show", run.run_id, "-o", "json").out)
    assert record["tasks"][0]["outputs"][1] == {"name": "text", "value": "결과"}


def test_terminate_waits_if_requested(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """`terminate` reports that the run is stopping, with `--wait` that it has finished."""
    run = runs.add("r", state=run_pb2.RUN_STATE_RUNNING)
    assert kfadapter("terminate", run.run_id).out == f"run {run.run_id} is stopping: CANCELING\n"
    assert kfadapter("terminate", run.run_id, "--wait", "5").out == f"run {run.run_id} has finished: CANCELED\n"


def test_archiving_and_deleting(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """Archive, unarchive, retry and delete report what they did; deleting a missing run can be allowed."""
    run = runs.add("r")
    assert kfadapter("runs", "archive", run.run_id).out == f"archived run {run.run_id}\n"
    assert kfadapter("runs", "unarchive", run.run_id).out == f"unarchived run {run.run_id}\n"
    assert json.loads(kfadapter("runs", "unarchive", run.run_id, "-o", "json").out)["storage_state"] == "AVAILABLE"
    assert kfadapter("retry", run.run_id, "--watch").code == 0
    assert kfadapter("runs", "delete", run.run_id).out == f"deleted run {run.run_id}\n"
    assert kfadapter("runs", "delete", run.run_id).code == 5
    assert "not found: run" in kfadapter("runs", "delete", run.run_id, "--allow-missing").err


def test_retry_shows_names(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """`retry` shows the names of the run's resources and the watch command."""
    run = runs.add("r", state=run_pb2.RUN_STATE_FAILED)
    shown = kfadapter("retry", run.run_id).out
    assert "Experiment   Default\n" in shown
    assert f"watch {run.run_id}\n" in shown


@pytest.fixture
def logged(runs: FakeRuns) -> run_pb2.Run:
    """A run with three tasks: one succeeded, one failed, one never started."""
    run = runs.add("r", state=run_pb2.RUN_STATE_FAILED)
    for name, state in (("one", "SUCCEEDED"), ("둘", "FAILED"), ("three", "SKIPPED")):
        run.tasks.add(name=name, task_id=name, state=run_pb2.RunState.Value(f"RUN_STATE_{state}"))
    runs.logs = {"one": "first line\n둘째 줄\n".encode(), "둘": b"Error: broken"}
    return run


@pytest.mark.parametrize("follow", [[], ["-f"]])
def test_logs(kfadapter: Kfadapter, runs: FakeRuns, logged: run_pb2.Run, follow: list[str]) -> None:
    """Combined logs have the task's name on each line; chunks that split a character are joined correctly."""
    runs.endings = [FAILED]
    everything = "one | first line\none | 둘째 줄\n둘 | Error: broken\n"
    assert kfadapter("logs", logged.run_id, *follow).out == everything
    assert kfadapter("logs", logged.run_id, "--failed", *follow).out == "둘 | Error: broken\n"
    assert kfadapter("logs", logged.run_id, "one", *follow).out == "first line\n둘째 줄\n"


def test_logs_of_a_loop(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """Tasks with the same name are distinguished by their paths; the group around them has no log."""
    run = runs.add("r", state=run_pb2.RUN_STATE_SUCCEEDED)
    succeeded = run_pb2.RUN_STATE_SUCCEEDED
    run.tasks.add(name="each", task_id="g", state=succeeded, kind=pb.TASK_KIND_LOOP)
    for index in (0, 1):
        run.tasks.add(name="학습", task_id=f"t{index}", state=succeeded, parent_task_id="g", iteration_index=index)
        runs.logs[f"t{index}"] = f"line of {index}\n".encode()
    assert kfadapter("logs", run.run_id).out == "each[0]/학습 | line of 0\neach[1]/학습 | line of 1\n"


def test_log_of_an_attempt(kfadapter: Kfadapter, runs: FakeRuns, logged: run_pb2.Run) -> None:
    """`--attempt` and `--iteration` select a log; without a task they are a usage error."""
    assert kfadapter("logs", logged.run_id, "one", "--attempt", "2", "--iteration", "0").code == 0
    request = runs.requests[-1]
    assert isinstance(request, run_pb2.ReadLogsRequest)
    assert (request.attempt, request.HasField("iteration_index"), request.iteration_index) == (2, True, 0)
    kfadapter("logs", logged.run_id, "one")
    assert runs.requests[-1] == run_pb2.ReadLogsRequest(run_id=logged.run_id, task="one")
    assert kfadapter("logs", logged.run_id, "--attempt", "2").code == 2


def test_log_that_is_not_complete(kfadapter: Kfadapter, runs: FakeRuns, logged: run_pb2.Run) -> None:
    """The note that a log is incomplete goes to stderr; stdout has the log only."""
    runs.log_note = "the log ends here"
    one = kfadapter("logs", logged.run_id, "one")
    assert (one.out, one.err) == ("first line\n둘째 줄\n", "the log ends here\n")
    assert "둘: the log ends here\n" in kfadapter("logs", logged.run_id).err


def test_logs_of_nothing(kfadapter: Kfadapter, runs: FakeRuns) -> None:
    """If no task failed, or none has started, stderr says that there is no log; why, if the run has failed."""
    run = runs.add("r")
    assert kfadapter("logs", run.run_id, "--failed").err == "no task failed yet\n"
    assert kfadapter("logs", run.run_id).err == "no task has begun yet\n"
    run.state, run.error = run_pb2.RUN_STATE_FAILED, "the driver of the pipeline failed: Error (exit code 1)"
    assert kfadapter("logs", run.run_id).err == f"no task has begun; the run is FAILED: {run.error}\n"
    run.state, run.error = run_pb2.RUN_STATE_SUCCEEDED, ""
    assert kfadapter("logs", run.run_id, "--failed").err == "no task failed\n"


# --- run --like and --params ----------------------------------------------------------------------------------------


@pytest.fixture
def old(fake: FakeAdapter, runs: FakeRuns) -> run_pb2.Run:
    """A run of `train` with everything that can be repeated."""
    version = fake.versions["train"][0]
    run = runs.add(
        "처음",
        pipeline_id=version.pipeline_id,
        pipeline_version_id=version.pipeline_version_id,
        experiment_id="33333333-0000-4000-8000-000000000001",
        labels={"team": "vision", "try": "1"},
        description="baseline",
        service_account="trainer",
        caching_disabled=True,
    )
    run.parameters.update({"n": 7, "도시": "서울"})
    return run


def test_like_repeats_a_run(kfadapter: Kfadapter, runs: FakeRuns, old: run_pb2.Run) -> None:
    """`--like` takes everything from a run except its name, and options override."""
    ended = kfadapter("run", "--like", old.run_id[:24], "-p", "n=8", "--label", "try=2")
    assert (ended.code, ended.err) == (0, "")
    request = created(runs)
    assert json_format.MessageToDict(request.parameters) == {"n": 8.0, "도시": "서울"}
    assert (request.pipeline_id, request.pipeline_version_id) == (old.pipeline_id, old.pipeline_version_id)
    assert (request.experiment_id, request.description, request.service_account) == (
        old.experiment_id,
        "baseline",
        "trainer",
    )
    assert dict(request.labels) == {"team": "vision", "try": "2"}
    assert (request.HasField("caching_enabled"), request.caching_enabled, request.display_name) == (True, False, "")


def test_like_with_another_version_and_experiment(
    kfadapter: Kfadapter, fake: FakeAdapter, runs: FakeRuns, old: run_pb2.Run
) -> None:
    """A version, by name or id, and an experiment replace those of the run."""
    second = fake.add_version("train", "2")
    assert kfadapter("run", "--like", old.run_id, "--version", "2", "--experiment", "lab").code == 0
    request = created(runs)
    assert request.pipeline_version_id == second.pipeline_version_id
    assert (request.experiment_name, request.experiment_id) == ("lab", "")


def test_like_what_cannot_be_repeated(
    kfadapter: Kfadapter, fake: FakeAdapter, runs: FakeRuns, old: run_pb2.Run
) -> None:
    """A deleted version or pipeline, and a run of a file, are named; the error explains how to continue."""
    old.pipeline_version_id = "11111111-0000-4000-8000-000000000099"
    ended = kfadapter("run", "--like", old.run_id)
    assert (ended.code, "its version 11111111-" in ended.err, "was deleted" in ended.err) == (5, True, True)
    assert "--version NAME" in ended.err
    fake.pipelines.clear()
    ended = kfadapter("run", "--like", old.run_id)
    assert (ended.code, f"its pipeline {old.pipeline_id} was deleted" in ended.err) == (5, True)
    ended = kfadapter("run", "--like", runs.add("inline").run_id)
    assert (ended.code, "it was started from a file" in ended.err) == (8, True)


def test_like_needs_the_true_parameters(kfadapter: Kfadapter, runs: FakeRuns, old: run_pb2.Run) -> None:
    """A parameter that the adapter could not return as it is has to be set; nothing is started with its replacement."""
    old.warnings.append("parameters.deep.id: integer beyond 2^53; shown as text")
    ended = kfadapter("run", "--like", old.run_id, "-p", "dee=1")
    assert (ended.code, "why:   parameters.deep.id: integer beyond 2^53; shown as text\n" in ended.err) == (8, True)
    assert kfadapter("run", "--like", old.run_id, "-p", "deep={}").code == 0
    assert len(runs.runs) == 2


@pytest.mark.parametrize("words", [[], ["train", "--like", "@latest"]])
def test_run_needs_a_pipeline_or_a_run(kfadapter: Kfadapter, runs: FakeRuns, words: list[str]) -> None:
    """Neither and both are usage errors."""
    ended = kfadapter("run", *words)
    assert (ended.code, "set either a PIPELINE or FILE, or --like RUN" in ended.err) == (2, True)
    assert runs.requests == []


@pytest.mark.parametrize(
    "text",
    ["n: 7\n도시: 서울\nrates: [1e-3, {a: no}]\nday: 2026-01-31\n",
     '{\n\t"n": 7, "도시": "서울", "rates": [1e-3, {"a": "no"}], "day": "2026-01-31"\n}'],
    ids=["yaml", "json"],
)  # fmt: skip
def test_parameters_from_a_file(kfadapter: Kfadapter, runs: FakeRuns, tmp_path: Path, text: str) -> None:
    """A file of YAML or JSON has parameters that keep their types; `-p` precedes them."""
    file = tmp_path / "p.txt"
    file.write_text(text, "utf-8")
    assert kfadapter("run", "train", "--params", str(file), "-p", "n=8").code == 0
    assert json_format.MessageToDict(created(runs).parameters) == {
        "n": 8.0,
        "도시": "서울",
        "rates": [0.001, {"a": "no"}],
        "day": "2026-01-31",
    }


def test_like_with_a_file(kfadapter: Kfadapter, runs: FakeRuns, old: run_pb2.Run, tmp_path: Path) -> None:
    """A file precedes the parameters of the run, and `-p` both."""
    file = tmp_path / "p.json"
    file.write_text('{"n": 8, "m": 1}', "utf-8")
    assert kfadapter("run", "--like", old.run_id, "--params", str(file), "-p", "m=2").code == 0
    assert json_format.MessageToDict(created(runs).parameters) == {"n": 8.0, "m": "2", "도시": "서울"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a: 1\nb: 9007199254740993", "line 2, column 4: 9007199254740993 is a number that JSON does not"),
        ('{"a": 1,\n "b": 9007199254740993}', "line 2, column 7: 9007199254740993 is a number that"),
        ("a: " + "9" * 5_000, "line 1, column 4: 9999"),
        ("a: .nan", "line 1, column 4: .nan is a number that JSON does not"),
        ('{"a": [NaN]}', "line 1, column 8: NaN is a number that JSON does not"),
        ('{"a": 1,\n "a": 2}', "line 2, column 2: 'a' is set twice"),
        ("a: 1\nb: {c: 1, c: 2}", "line 2, column 11: 'c' is set twice"),
        ("a: {1: x}", 'line 1, column 5: the name "1" is no text'),
        ("a: &x [1]\nb: *x", "line 2, column 4: aliases are not allowed"),
        ('{"a": 1\n', "line 2, column 1: Expecting ',' delimiter"),
        ("a: [1,\nb: 2", "line 2, column"),
        ("a: !!python/name:os.system", "line 1, column 4: could not determine a constructor"),
        ("a: 1\n---\nb: 2", "line 2, column 1: but found another document"),
        ("- a", "it is a list, not a mapping"),
        ("", "it is empty, not a mapping"),
        ("[" * 100_000, "it is nested too deeply"),
        (b"a: 1\nb: \xff", "line 2: it is not UTF-8"),
        (b"a: " + b"x" * 5_000_000, "it has more than 4194304 bytes"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_bad_files_of_parameters(
    kfadapter: Kfadapter, runs: FakeRuns, tmp_path: Path, content: str | bytes, why: str
) -> None:
    """A file that cannot be read as parameters is a usage error with the line, and nothing is sent."""
    data = content.encode() if isinstance(content, str) else content
    file = tmp_path / ("p.json" if data[:1] in (b"{", b"[") else "p.yaml")
    file.write_bytes(data)
    ended = kfadapter("run", "train", "--params", str(file))
    assert ended.code == 2
    assert ended.err.startswith(f"error: {file} has no parameters that can be read\nwhy:   {why}")
    assert runs.requests == []


def test_parameters_that_cannot_be_sent(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """What only the client library refuses is named by its path."""
    file = tmp_path / "p.yaml"
    for content, path in (("a: [1e999]", "parameters.a[0]"), ("a: !!binary aGk=", "parameters.a"), (
        f"a: {'[' * 60}{']' * 60}", "nested too deeply"
    )):  # fmt: skip
        file.write_text(content)
        ended = kfadapter("run", "train", "--params", str(file))
        assert (ended.code, path in ended.err) == (8, True)

"""Real pipelines, compiled by the kfp SDK and executed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from tests.embedded.run_file import Watcher, artifacts_of, parameters_of, run, served_spec

from kfadapter_embedded.execution import Job, State, TaskReport, log_path
from kfadapter_embedded.runner.log import LOG_BYTES, TAIL_BYTES
from kfadapter_embedded.runner_pool import RunnerPool

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = Path(__file__).parents[1] / "data" / "pipelines"
TERMINATED = "terminated on request"
SOURCE = Path(__file__).with_name("runner_pipelines.py")


@dataclass
class Tried:
    """A run that has finished."""

    watcher: Watcher
    folder: Path

    @property
    def end(self) -> tuple[State, str]:
        """Its state and error."""
        return self.watcher.ends["run"]

    def output(self, task: str, name: str = "Output") -> object:
        """An output parameter of a task."""
        return parameters_of(self.watcher.last(task))[name]

    def state(self, task: str) -> State:
        """The last state of a task."""
        return self.watcher.last(task).state

    def log(self, task: str) -> str:
        """The log of a task."""
        first = log_path(self.folder, task)
        return "".join(
            first.with_name(f"executor-logs-{n}").read_text("utf-8") for n in range(len(list(first.parent.iterdir())))
        )


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled pipelines of `runner_pipelines.py`."""
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run([sys.executable, SOURCE, folder], check=True, capture_output=True)
    return folder


@pytest.fixture
def try_out(compiled: Path, tmp_path: Path) -> Callable[..., Tried]:
    """Runs a pipeline to its end."""

    def tried(name: str, **parameters: object) -> Tried:
        path = compiled / f"{name}.yaml" if "-" in name or (compiled / f"{name}.yaml").exists() else SHARED / name
        return Tried(run(served_spec(path.read_text("utf-8")), tmp_path, parameters), tmp_path)

    return tried


def succeeded(tried: Tried) -> Tried:
    """The run, which must have succeeded."""
    assert tried.end == (State.SUCCEEDED, "")
    return tried


def test_hello_world(try_out: Callable[..., Tried]) -> None:
    """One task with defaults and Korean text runs, and its states are reported in order."""
    tried = succeeded(try_out("hello_world.yaml"))
    assert [report.state for report in tried.watcher.reports] == [State.RUNNING, State.SUCCEEDED]
    assert tried.output("greet") == "hello 세계, hello 세계"
    assert tried.watcher.started == ["run"]


def test_folder_with_any_name(tmp_path: Path) -> None:
    """The folder of a run may have spaces, quotes and Korean in its name."""
    folder = tmp_path / "내 '실행' 1"
    folder.mkdir()
    spec = served_spec((SHARED / "hello_world.yaml").read_text("utf-8"))
    assert run(spec, folder).ends["run"] == (State.SUCCEEDED, "")


def test_run_again_in_its_folder(tmp_path: Path) -> None:
    """A run that is executed again leaves nothing of its first execution behind."""
    spec = served_spec((SHARED / "train_and_report.yaml").read_text("utf-8"))
    for threshold in (100.0, 0.0):
        assert run(spec, tmp_path, {"threshold": threshold}).ends["run"] == (State.SUCCEEDED, "")
        assert log_path(tmp_path, "condition-1/report").exists() is (threshold > 0)
    assert len(list((tmp_path / "outputs").iterdir())) == 2


def test_all_parameter_types(try_out: Callable[..., Tried]) -> None:
    """Parameters of every type arrive unchanged, and an optional one without a default may be missing."""
    tried = succeeded(try_out("all_parameter_types.yaml", s="글", i=3))
    assert tried.output("all-types") == 3.5


def test_parallel_squares(try_out: Callable[..., Tried]) -> None:
    """A loop over a parameter runs each item, and its outputs are collected in order."""
    tried = succeeded(try_out("parallel_squares.yaml", numbers=[2, 3, 4]))
    assert [tried.output(f"for-loop-1[{index}]/square") for index in range(3)] == [4, 9, 16]
    assert tried.output("total") == 29


def test_train_and_report(try_out: Callable[..., Tried]) -> None:
    """A file is passed on, a metric and a model are produced, and a request for a GPU is reported but not served."""
    tried = succeeded(try_out("train_and_report.yaml"))
    artifacts = artifacts_of(tried.watcher.last("train"))
    (metric,), (model,) = artifacts["metrics"], artifacts["model"]
    loss = tried.output("train")
    assert (metric["name"], metric["type"], metric["number_value"], metric["metadata"]) == (
        "loss",
        "Metric",
        loss,
        {"loss": loss},
    )
    path = Path(unquote(urlsplit(model["uri"]).path))
    assert path.is_relative_to(tried.folder)
    assert len(path.read_text("utf-8").split()) == 2
    assert "requests nvidia.com/gpu; nothing is reserved" in tried.log("train")
    assert str(tried.output("condition-1/report")).startswith("loss=")


def test_fails_with_exit_handler(try_out: Callable[..., Tried]) -> None:
    """A failed task fails the run with its reason, and the exit handler still runs."""
    tried = try_out("fails_with_exit_handler.yaml", message="지금 망가짐")
    why = "RuntimeError: 지금 망가짐 (exit status 1)"
    assert tried.watcher.last("exit-handler-1/boom").error == why
    assert tried.end == (State.FAILED, f"task exit-handler-1/boom failed: {why}")
    assert tried.state("cleanup") is State.SUCCEEDED


def test_final_status(try_out: Callable[..., Tried]) -> None:
    """An exit handler gets the state and, as in KFP 2.17.0, no error; what depends on the failed task is skipped."""
    tried = try_out("exit-handler")
    assert tried.end == (State.FAILED, "task exit-handler-1/fails failed: ValueError: 지금 망가짐 (exit status 1)")
    assert tried.output("tell-final-status") == "FAILED: None"
    assert tried.state("exit-handler-1/echo") is State.SKIPPED


REFUSED = {
    "container_step.yaml": "task say is a container component (image alpine:3.20)",
    "kubernetes_platform.yaml": "task createpvc makes a volume (PersistentVolumeClaim)",
    "argo_v1_workflow.yaml": "this is a KFP v1 pipeline",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_at_once(try_out: Callable[..., Tried], name: str) -> None:
    """Unsupported pipelines fail before anything is started, with the reason and what to use instead."""
    tried = try_out(name)
    state, error = tried.end
    assert state is State.FAILED
    assert error.startswith(REFUSED[name])
    assert "KFADAPTER_KFP_URL" in error
    assert tried.watcher.reports == []


def test_component_used_twice(try_out: Callable[..., Tried]) -> None:
    """Two tasks of one component do not overwrite each other's files; Korean text in them is unchanged."""
    assert succeeded(try_out("same-component-twice")).output("read-two") == "가|나"


def test_branches(try_out: Callable[..., Tried]) -> None:
    """One branch runs, the others are SKIPPED, and its output is used."""
    tried = succeeded(try_out("branches"))
    states = [tried.state(f"condition-branches-1/condition-{number}") for number in (2, 3, 4)]
    assert states == [State.SKIPPED, State.SUCCEEDED, State.SKIPPED]
    assert tried.output("echo-4") == "five"


def test_nested_loops(try_out: Callable[..., Tried]) -> None:
    """Nested loops run every pair; outputs collected twice are lists of lists, as the SDK's types say."""
    tried = succeeded(try_out("nested-loops"))
    assert tried.output("total-nested") == 102
    assert tried.output("for-loop-2[2]/for-loop-4[1]/add") == 23


def test_loop_over_structs(try_out: Callable[..., Tried]) -> None:
    """Fields of a loop's items reach the tasks, integers as integers, one iteration at a time if requested."""
    tried = succeeded(try_out("struct-loop"))
    assert tried.output("total") == 210
    names = [report.name for report in tried.watcher.reports if report.name.startswith("for-loop-1[")]
    assert names == sorted(names)


def test_condition_in_loop(try_out: Callable[..., Tried]) -> None:
    """A condition on a loop's item is evaluated for each item."""
    tried = succeeded(try_out("condition-in-loop"))
    assert tried.state("for-loop-1[0]/condition-2") is State.SKIPPED
    assert tried.output("for-loop-1[1]/condition-2/add") == 5


def test_collected_artifacts(try_out: Callable[..., Tried]) -> None:
    """Artifacts of a loop are collected in the order of its items."""
    assert succeeded(try_out("artifact-loop")).output("read-all") == "a,b,c"


def test_nested_pipeline(try_out: Callable[..., Tried]) -> None:
    """A nested pipeline runs, including its default."""
    tried = succeeded(try_out("nested-pipeline"))
    assert (tried.output("inner/add"), tried.output("add")) == (6, 12)


def test_condition_on_a_named_output(try_out: Callable[..., Tried]) -> None:
    """Outputs of all types, with custom names, reach conditions and tasks."""
    tried = succeeded(try_out("named-output-condition"))
    given = tried.watcher.last("many-outputs")
    assert parameters_of(given) == {"loss": 1.0, "name": "이름", "flag": True, "d": {"a": 3}, "xs": [1, 2]}
    made = artifacts_of(given)
    assert {name: one[0].get("metadata") for name, one in made.items()} == {
        "model": {"이름": "모델"},
        "metrics": {"accuracy": 0.5},
        "executor-logs": None,
    }
    assert tried.output("condition-1/echo") == "이름"


def test_optional_and_types(try_out: Callable[..., Tried]) -> None:
    """Integers stay integers inside lists and structs, and a whole float becomes one, as in KFP's JSON."""
    tried = succeeded(try_out("optional-and-types", d={"ㄱ": [1, 2.5]}))
    assert tried.output("show-types") == "(7, 2, True, [1, 2.5], {'ㄱ': [1, 2.5]}, None)"


def test_texts_with_values(try_out: Callable[..., Tried]) -> None:
    """Values inside texts are inserted unchanged; placeholders of the run and the task stay, as in KFP's driver."""
    text = "안녕 세계 3 {{$.pipeline_job_name}} {{$.pipeline_task_name}}"
    assert succeeded(try_out("texts-with-values")).output("echo") == text


def test_quotes(try_out: Callable[..., Tried]) -> None:
    """A value with quotes is compared unchanged, and is never evaluated as code."""
    tried = succeeded(try_out("quotes"))
    assert tried.state("condition-branches-1/condition-2") is State.SKIPPED
    assert tried.output("condition-branches-1/condition-3/echo-3") == "no"


def test_ignored_failure(try_out: Callable[..., Tried]) -> None:
    """A task that ignores a failure runs; the run has still failed."""
    tried = try_out("ignored-failure")
    assert tried.state("echo") is State.SUCCEEDED
    assert tried.end == (State.FAILED, "task fails failed: ValueError: x (exit status 1)")


def test_retries(try_out: Callable[..., Tried], tmp_path: Path) -> None:
    """A task is retried by its policy; its log contains all attempts, which have KFP's numbers."""
    tried = succeeded(try_out("retried", marker=str(tmp_path / "attempts")))
    assert tried.output("count-attempts") == 3
    assert [line for line in tried.log("count-attempts").splitlines() if line.startswith("retry")] == [
        "retry 0",
        "retry 1",
        "retry 2",
    ]
    assert "[kfadapter: attempt 2 of 4 failed: AssertionError (exit status 1)]" in tried.log("count-attempts")
    states = [report.state for report in tried.watcher.reports]
    assert states == [State.RUNNING, State.FAILED, State.FAILED, State.SUCCEEDED]


def test_imported_file(try_out: Callable[..., Tried], tmp_path: Path) -> None:
    """A local file can be imported; nothing is copied."""
    data = tmp_path / "자료.txt"
    data.write_text("내용", "utf-8")
    tried = succeeded(try_out("imported", uri=f"file://{data}"))
    assert tried.output("read-one") == "내용"
    (artifact,) = artifacts_of(tried.watcher.last("importer"))["artifact"]
    assert (artifact["name"], artifact["uri"]) == (data.name, data.as_uri())
    assert artifact["metadata"] == {"언어": "한국어"}


def test_imported_file_that_is_not_there(try_out: Callable[..., Tried]) -> None:
    """An import of a missing file fails with a message."""
    tried = try_out("imported", uri="/no/such/file")
    assert tried.end[1] == ("task importer failed: it imports /no/such/file, and there is no such file on this machine")


def test_no_artifacts_collected(try_out: Callable[..., Tried]) -> None:
    """The collected outputs of an empty loop are an empty list, with a warning, as a cluster's driver fails."""
    tried = succeeded(try_out("loop-over-nothing"))
    assert tried.output("read-all") == ""
    assert "(collected-empty-loop)" in "".join(tried.watcher.last("read-all").warnings)


def test_output_path(try_out: Callable[..., Tried]) -> None:
    """A parameter that a component writes into a file itself has its declared type."""
    assert succeeded(try_out("path-output")).output("add") == 42


def test_loud_task(try_out: Callable[..., Tried]) -> None:
    """100 MB of output are logged as the beginning, the end, and how much is omitted."""
    tried = succeeded(try_out("loud"))
    log = log_path(tried.folder, "flood").read_bytes()
    assert log.startswith(b"[KFP Executor")
    assert b"the log is full here" in log
    assert b"bytes were left out]" in log
    assert b"the last line" in log[-1000:]
    assert LOG_BYTES < len(log) < LOG_BYTES + TAIL_BYTES + 1000


@pytest.mark.parametrize("session", [False, True])
def test_children_left_behind(try_out: Callable[..., Tried], session: bool) -> None:
    """A process that a task leaves behind blocks nothing and is ended, in any session."""
    tried = succeeded(try_out("leaves-a-child", session=session))
    pid = tried.output("leave-a-child")
    _until(lambda: _gone(str(pid)))


def test_stdin(try_out: Callable[..., Tried]) -> None:
    """A task's standard input is empty."""
    assert succeeded(try_out("reads-stdin")).output("read-stdin") == "read ''"


def test_large_values(try_out: Callable[..., Tried]) -> None:
    """A value within the limit of KFP's executor is passed on."""
    assert succeeded(try_out("large-values", characters=40_000)).output("measure") == 40_000


def test_too_large_values(try_out: Callable[..., Tried]) -> None:
    """A value above that limit fails the task that takes it, with what to do."""
    tried = try_out("large-values", characters=50_000)
    assert str(tried.output("make-text")).startswith("(left out: ")
    assert "pass large data as an artifact" in tried.watcher.last("measure").error


def test_environment(try_out: Callable[..., Tried], monkeypatch: pytest.MonkeyPatch) -> None:
    """A task has this process's variables and its own, never the server's settings, and an environment of its own."""
    monkeypatch.setenv("KFADAPTER_KFP_TOKEN", "secret")
    monkeypatch.setenv("OF_THE_USER", "보임")
    names = ["KFADAPTER_KFP_TOKEN", "OF_THE_USER", "OF_THE_TASK", "TMPDIR"]
    tried = succeeded(try_out("shows-environment", names=names))
    seen = tried.output("environment")
    assert isinstance(seen, dict)
    assert (seen["KFADAPTER_KFP_TOKEN"], seen["OF_THE_USER"], seen["OF_THE_TASK"]) == ("", "보임", "값")
    assert Path(seen["TMPDIR"]).is_relative_to(tried.folder)
    assert Path(seen["prefix"]).is_relative_to(tried.folder)
    assert not (tried.folder / "scratch").exists()


def test_killed_task(try_out: Callable[..., Tried]) -> None:
    """A killed task reports the signal, and its usual cause."""
    assert try_out("killed").end[1] == (
        "task die failed: killed, perhaps because the memory was used up (signal 9, SIGKILL)"
    )


def _wheel(folder: Path, package: str, number: str) -> Path:
    """A wheel with a name and version only."""
    path = folder / f"{package}-{number}-py3-none-any.whl"
    info = f"{package}-{number}.dist-info"
    files = {
        f"{package}.py": f"__version__ = {number!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {number}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    assert list(csv.reader(record.splitlines()))
    return path


@pytest.mark.slow
def test_installed_packages_stay_in_the_task(compiled: Path, tmp_path: Path) -> None:
    """A task that installs another version of one of this server's packages uses it; the server keeps its own."""
    packages = Path(sysconfig.get_path("purelib"))
    before = (version("tabulate"), sorted(one.name for one in packages.iterdir()))
    wheel = _wheel(tmp_path, "tabulate", "99.0")
    folder = tmp_path / "run"
    folder.mkdir()
    spec = (compiled / "installs.yaml").read_text("utf-8").replace("WHEEL", str(wheel))
    tried = Tried(run(served_spec(spec), folder, {"package": "tabulate"}), folder)
    assert succeeded(tried).output("version-of") == "99.0"
    assert (version("tabulate"), sorted(one.name for one in packages.iterdir())) == before
    assert before[0] != "99.0"


def test_package_that_cannot_be_had(try_out: Callable[..., Tried], monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that pip does not find fails the task with pip's message."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    error = try_out("installs-unknown").end[1]
    assert error.startswith("task needs-an-index failed: No matching distribution found for no-such-package-anywhere")


def test_other_kfp_version_needs_no_download(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline compiled with another kfp runs without a package index: the server's kfp executes it."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    text = (compiled / "inner.yaml").read_text("utf-8")
    spec = text.replace(f"kfp=={version('kfp')}", "kfp==2.5.0")
    assert spec != text
    assert run(served_spec(spec), tmp_path, {"a": 1}).ends["run"] == (State.SUCCEEDED, "")


def _submitted(spec: bytes, folder: Path, parameters: dict[str, object]) -> tuple[RunnerPool, Watcher]:
    watcher = Watcher()
    pool = RunnerPool(watcher.report)
    pool.submit(Job("run", spec, parameters, folder))
    return pool, watcher


def _until(holds: Callable[[], bool]) -> None:
    """Waits until a condition is true; the test's own timeout ends it otherwise."""
    pause = threading.Event()
    while not holds():
        pause.wait(0.01)


def _wait_for(path: Path) -> str:
    """Waits until a file has content; returns it."""
    _until(lambda: path.exists() and bool(path.read_text("utf-8")))
    return path.read_text("utf-8")


def _gone(pid: str) -> bool:
    """Whether a process has ended, or is a zombie."""
    try:
        return "State:\tZ" in Path("/proc", pid, "status").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_terminate(tmp_path: Path) -> None:
    """A terminated run is CANCELED, and so is the task that was running."""
    spec = served_spec((SHARED / "sleeps.yaml").read_text("utf-8"))
    pool, watcher = _submitted(spec, tmp_path, {"seconds": 600})
    watcher.wait_task("nap", State.RUNNING)
    pool.terminate("run")
    assert watcher.wait_end("run") == (State.CANCELED, TERMINATED)
    assert watcher.reports[-1] == TaskReport("nap", State.CANCELED, TERMINATED)
    pool.close()


def test_terminate_a_task_that_ignores_it(compiled: Path, tmp_path: Path) -> None:
    """A task that ignores SIGTERM is killed."""
    started = tmp_path / "started"
    spec = served_spec((compiled / "refuses-to-end.yaml").read_text("utf-8"))
    pool, watcher = _submitted(spec, tmp_path, {"started": str(started)})
    pid = _wait_for(started)
    pool.terminate("run")
    assert watcher.wait_end("run") == (State.CANCELED, TERMINATED)
    _until(lambda: _gone(pid))
    pool.close()


def test_signal_to_the_runner_alone(compiled: Path, tmp_path: Path) -> None:
    """A runner that is ended from outside ends its tasks."""
    started = tmp_path / "started"
    spec = served_spec((compiled / "refuses-to-end.yaml").read_text("utf-8"))
    pool, watcher = _submitted(spec, tmp_path, {"started": str(started)})
    pid = _wait_for(started)
    os.kill(os.getpgid(int(pid)), signal.SIGTERM)
    assert watcher.wait_end("run")[0] is State.FAILED
    _until(lambda: _gone(pid))
    pool.close()


def test_close(compiled: Path, tmp_path: Path) -> None:
    """If the server stops, a run is FAILED, cut off, and none of its processes survives."""
    started = tmp_path / "started"
    spec = served_spec((compiled / "refuses-to-end.yaml").read_text("utf-8"))
    pool, watcher = _submitted(spec, tmp_path, {"started": str(started)})
    pid = _wait_for(started)
    pool.close()
    why = "cut off: the embedded KFP was stopped while it ran"
    assert watcher.ends["run"] == (State.FAILED, why)
    assert watcher.last("refuse-to-end") == TaskReport("refuse-to-end", State.FAILED, why)
    _until(lambda: _gone(pid))


PARENT = """
import sys, pathlib
from kfadapter_embedded.execution import Job
from kfadapter_embedded.runner_pool import RunnerPool
from tests.embedded.run_file import Watcher
pool = RunnerPool(Watcher().report)
pool.submit(Job("run", pathlib.Path(sys.argv[1]).read_bytes(), {"started": sys.argv[2]}, pathlib.Path(sys.argv[3])))
sys.stdin.read()
"""


def test_killed_server(compiled: Path, tmp_path: Path) -> None:
    """If the server is killed, the processes of its runs are ended, even if they ignore SIGTERM."""
    spec, started, folder = tmp_path / "spec.json", tmp_path / "started", tmp_path / "run"
    folder.mkdir()
    spec.write_bytes(served_spec((compiled / "refuses-to-end.yaml").read_text("utf-8")))
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, spec, started, folder],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"},
    ) as parent:
        pid = _wait_for(started)
        assert not _gone(pid)
        parent.kill()
    _until(lambda: _gone(pid))


NO_PIPELINES = [
    ({}, "this is no compiled KFP pipeline: it has no root"),
    ({"root": {"executorLabel": "x"}}, "component 'root' is neither a container nor an importer"),
    ({"root": {"dag": {"tasks": {"a": {}}}}}, "the pipeline names a component '' that it does not have"),
    ([], "this is no compiled KFP pipeline: it has no root"),
]


@pytest.mark.parametrize(
    ("kind", "number"), [("nan metric", "NaN"), ("infinite", "-Infinity"), ("huge", "1" + "0" * 39)]
)
def test_numbers_that_json_does_not_have(try_out: Callable[..., Tried], kind: str, number: str) -> None:
    """A task that returns one fails, as with KFP's launcher, and the message names it."""
    tried = try_out("odd-numbers", kind=kind)
    assert tried.state("odd-number") is State.FAILED
    assert f"invalid value {number} (JSON has no such number)" in tried.end[1]


@pytest.mark.parametrize("spec", [b"{", b"[" * 100_000])
def test_spec_that_is_no_json(tmp_path: Path, spec: bytes) -> None:
    """A spec that is not JSON, or nested too deep, fails the run with a message."""
    state, error = run(spec, tmp_path).ends["run"]
    assert (state, error.partition(":")[0]) == (State.FAILED, "the pipeline's spec cannot be read")


@pytest.mark.parametrize(("document", "error"), NO_PIPELINES)
def test_spec_that_is_none(tmp_path: Path, document: object, error: str) -> None:
    """A spec that is not a pipeline fails the run with a message."""
    watcher = run(json.dumps(document).encode(), tmp_path)
    assert watcher.ends["run"] == (State.FAILED, error)

"""The parts of the runner that decide and convert, each on its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfadapter_embedded.execution import State, Steps, log_path
from kfadapter_embedded.runner.component import without_kfp
from kfadapter_embedded.runner.condition import holds
from kfadapter_embedded.runner.dag import run_pipeline
from kfadapter_embedded.runner.environment import VARIABLE, end_family
from kfadapter_embedded.runner.log import TaskLog, why
from kfadapter_embedded.runner.outcome import Outcome
from kfadapter_embedded.runner.placeholders import filled, task_names
from kfadapter_embedded.runner.refusals import refusal
from kfadapter_embedded.runner.spec import Component, Task, read_pipeline
from kfadapter_embedded.runner.values import ValueFaultError, Values, as_text
from kfadapter_embedded.runner.warned import TaskWarnings

if TYPE_CHECKING:
    from kfadapter_embedded.execution import TaskReport
    from kfadapter_embedded.json_text import JsonValue

VALUES: dict[str, JsonValue] = {"n": 5, "f": 2.5, "s": "it's", "t": True, "xs": [1], "dotted.name-x": "가"}


def _value(name: str) -> str:
    return f"inputs.parameter_values['{name}']"


TRUE = [
    f"int({_value('n')}) == 5",
    f"{_value('n')} != 6",
    f"double({_value('n')}) >= 5.0",
    f"{_value('f')} < 3",
    f'{_value("s")} == "it\'s"',
    f"{_value('s')} == 'it\\'s'",
    f"{_value('dotted.name-x')} == '가'",
    f"{_value('t')} == true",
    f"{_value('t')}",
    f"!({_value('n')} == 1) && {_value('n')} == 5",
    f"{_value('n')} == 1 || !({_value('f')} > 3)",
    "-1.5e3 < 0.0",
    "string(5) == '5'",
    "int('7') == 7",
    "bool('true')",
]


@pytest.mark.parametrize("condition", TRUE)
def test_condition_that_holds(condition: str) -> None:
    """Conditions that KFP's compiler writes are evaluated as in CEL, and their negation is the opposite."""
    assert holds(condition, VALUES)
    assert not holds(f"!({condition})", VALUES)


UNDECIDED = [
    "",
    "1",
    f"{_value('n')} ==",
    f"{_value('unknown')} == 1",
    f"{_value('s')} < 1",
    f"{_value('n')} && true",
    "int('x') == 1",
    "int(inputs.parameter_values['xs']) == 1",
    "'it's' == 'x'",
    "__import__('os').system('false') == 0",
    "true true",
    "(" * 500 + "true" + ")" * 500,
]


@pytest.mark.parametrize("condition", UNDECIDED)
def test_condition_that_cannot_be_decided(condition: str) -> None:
    """An invalid or mismatched condition is an error and never false."""
    with pytest.raises(ValueFaultError):
        holds(condition, VALUES)


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_any_condition(condition: str, parameters: dict[str, str]) -> None:
    """Any condition is true, false, or an error of its own kind."""
    with suppress(ValueFaultError):
        assert holds(condition, dict(parameters)) in {True, False}


NAMES = {"pipeline_job_name": "run of today", "pipeline_job_uuid": "u", "workspace_path": "/w"}
ONE = "{{$.inputs.parameters['a']}}"


@pytest.mark.parametrize(
    ("constant", "right"),
    [
        ("{{$.pipeline_job_name}}", "run of today"),
        ("at {{$.pipeline_job_name}}", "at {{$.pipeline_job_name}}"),
        (["{{$.pipeline_job_name}}"], ["{{$.pipeline_job_name}}"]),
        ("{{$.pipeline_root}}", "{{$.pipeline_root}}"),
        ("{{$.workspace_path}}/{{$.workspace_path}}", "/w//w"),
        ("{{$.pipeline_task_name}}", "train"),
        ({"x": [ONE, f"<{ONE}>"], ONE: 1}, {"x": ["1", "<1>"], "1": 1}),
        ("<{{$.inputs.parameters['b']}}>", f"<{ONE}>"),
        ("<{{$.inputs.parameters['none']}}> {{$}}", "<{{$.inputs.parameters['none']}}> {{$}}"),
        (["{{$.inputs.parameters['yes']}}"], ["true"]),
    ],
)
def test_placeholders(constant: JsonValue, right: JsonValue) -> None:
    """A name is replaced only as a whole text, as in KFP's driver; inputs also inside texts, as in its launcher."""
    parameters: dict[str, JsonValue] = {"a": 1, "b": ONE, "yes": True}
    warnings = TaskWarnings()
    assert filled(constant, parameters, task_names(NAMES, "train", ""), warnings) == right
    assert not warnings.texts


def test_number_of_the_parent() -> None:
    """`pipeline_task_uuid` is a number, the same for all tasks of a DAG (`driver/resolve.go`: its execution's)."""
    one, two, inner = (task_names(NAMES, *at)["pipeline_task_uuid"] for at in (("a", ""), ("b", ""), ("a", "loop[0]")))
    assert one.isdecimal()
    assert one == two != inner


@pytest.mark.parametrize("value", ['say "x"', "back\\slash", "two\nlines", {"k": "v"}, ["a"]])
def test_values_that_break_json(value: JsonValue) -> None:
    """KFP's launcher inserts values into JSON unescaped: where that breaks, the result here is right, and warns."""
    parameters: dict[str, JsonValue] = {"a": value}
    warnings = TaskWarnings()
    assert filled([ONE], parameters, {}, warnings) == [value]
    assert filled(f"<{ONE}>", parameters, {}, warnings) == f"<{as_text(value)}>"
    (text,) = warnings.texts
    assert "the value of 'a'" in text
    with pytest.raises(ValueFaultError, match="the value of 'a'"):
        filled(f"<{ONE}>", parameters, {}, TaskWarnings(strict=True))


PIP = "python3 -m pip install --quiet --no-warn-script-location"
START = '"$0" "$@"'
KFP = """'kfp==2.9.0' '--no-deps' 'typing-extensions>=3.7.4,<5; python_version<"3.9"'"""
INDEX = "--index-url http://localhost/x --trusted-host http://localhost/x"
HAS_PIP = (
    'if ! [ -x "$(command -v pip)" ]; then\n    python3 -m ensurepip || python3 -m ensurepip --user || '
    "apt-get install python3-pip\nfi"
)
COMMANDS = [
    (f"\n{HAS_PIP}\n\nPIP_DISABLE_PIP_VERSION_CHECK=1 {PIP} {KFP} && {START}\n", ""),
    (f"\n{HAS_PIP}\n\n{PIP} 'numpy'  &&  {PIP} {KFP} && {START}\n", f"\n{HAS_PIP}\n\n{PIP} 'numpy'  &&  {START}\n"),
    (f"fi\n\nPIP_DISABLE_PIP_VERSION_CHECK=1 {PIP} {KFP} && {START}\n", f"fi\n\n{START}\n"),
    (f"{PIP}     'kfp==2.0.1' && {START}", ""),
    (f"{PIP} 'numpy'  &&  {PIP} {KFP} && {START}", f"{PIP} 'numpy'  &&  {START}"),
    (
        f"{PIP} {INDEX} 'numpy' 'kfp==2.5.0'  &&  {PIP} {INDEX} {KFP} && {START}",
        f"{PIP} {INDEX} 'numpy' 'kfp==2.5.0'  &&  {START}",
    ),
    (f"{PIP} 'kfp==2.5.0'  &&  {PIP} {KFP} && {START}", f"{PIP} 'kfp==2.5.0'  &&  {START}"),
    (f'python3 -m venv "$tmp/venv" && {PIP} {KFP} && {START}', f'python3 -m venv "$tmp/venv" && {START}'),
]


@pytest.mark.parametrize(("part", "executed"), COMMANDS)
def test_only_the_compilers_own_kfp_is_not_installed(part: str, executed: str) -> None:
    """A command's own installs are kept; the kfp that it was compiled with is replaced by this server's."""
    code = ("sh", "-ec", "python3 -m kfp.dsl.executor_main")
    assert without_kfp(("sh", "-c", part, *code)) == (*(("sh", "-c", executed) if executed else ()), *code)


EXECUTOR = "[KFP Executor 2026-11-30 07:03:46,676 INFO]:"
FAILURES = [
    (1, "Traceback (most recent call last):\n  File x\nValueError: 한글\n", "ValueError: 한글 (exit status 1)"),
    (1, "log\nTraceback (most recent call last):\n  File x\nE: a\nb\n", "E: a\nb (exit status 1)"),
    (2, "one\nthe last line\n\n", "the last line (exit status 2)"),
    (2, "no such file\n[notice] A new release of pip is available\n", "no such file (exit status 2)"),
    (3, "", "exit status 3"),
    (3, f"{EXECUTOR} Looking for component `a`\n{EXECUTOR} Got executor_input:\n{{\n  {{\n  }}\n}}\n", "exit status 3"),
    (3, "  }\n}\n", "exit status 3"),
    (4, f"{EXECUTOR} Got executor_input:\n{{\n}}\nworking on it\n", "exit status 4"),
    (1, f"{EXECUTOR} Got executor_input:\n{{\n}}\nits own words\n", "its own words (exit status 1)"),
    (137, "", "killed, perhaps because the memory was used up (signal 9, SIGKILL)"),
    (-9, "Killed", "killed, perhaps because the memory was used up (signal 9, SIGKILL)"),
    (-11, "", "signal 11, SIGSEGV"),
    (1, "ERROR: No matching distribution found for x\nnote", "No matching distribution found for x (exit status 1)"),
    (
        1,
        "Traceback (most recent call last):\n  x\nModuleNotFoundError: No module named 'torch'\n",
        (
            "ModuleNotFoundError: No module named 'torch' (exit status 1; "
            "it ran with this server's Python packages, not in the image img)"
        ),
    ),
]


@pytest.mark.parametrize(("code", "output", "words"), FAILURES)
def test_why_a_command_failed(code: int, output: str, words: str) -> None:
    """The reason of a failure is its last exception, or the last line, and how the command ended."""
    assert why(code, output, "img") == words


def test_log_keeps_beginning_and_end(tmp_path: Path) -> None:
    """A truncated log says so, and how much is omitted before its end."""
    with TaskLog(tmp_path / "logs" / "a.log", limit=10) as log:
        log.write(b"0123456789")
        log.write(b"x" * 100_000)
        log.write("끝".encode())
        assert log.tail.endswith("x끝")
    text = (tmp_path / "logs" / "a.log").read_bytes()
    assert text.startswith(b"0123456789\n[kfadapter: the log is full here;")
    left_out = 100_000 + len("끝".encode()) - (64 << 10)
    assert f"[kfadapter: {left_out} bytes were left out]\nxxx".encode() in text
    assert text.endswith("x끝".encode())


def test_log_that_is_exactly_full(tmp_path: Path) -> None:
    """A log of exactly the maximum size is complete."""
    with TaskLog(tmp_path / "a.log", limit=10) as log:
        log.write(b"0123456789")
    assert (tmp_path / "a.log").read_bytes() == b"0123456789"


def test_log_on_a_full_disk() -> None:
    """A full disk loses the log and nothing else."""
    with TaskLog(Path("/dev/full")) as log:
        log.write(b"lost")
        log.note("lost")
        assert log.tail == "lost"


def test_log_paths_differ() -> None:
    """Tasks with long names have separate logs."""
    names = [f"{'반복-' * 30}[{number}]/a" for number in range(10)]
    paths = {log_path(Path("/x"), name) for name in names}
    assert len(paths) == 10
    assert all(len(path.name.encode()) <= 255 for path in paths)


def test_family() -> None:
    """Processes with a mark are ended in any session, and others are not."""
    code = "import subprocess, sys; subprocess.run(['sleep', '600'], start_new_session=True)"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env={VARIABLE: mark}) for mark in ("family/1/", "family-2/1/")
    ]
    end_family("family/")
    assert processes[0].wait() == -9
    assert processes[1].poll() is None
    end_family("family-2/")
    assert processes[1].wait() == -9


def _container(command: list[str] | None = None, image: str = "python:3.11") -> dict[str, object]:
    return {"container": {"image": image, "command": command or ["sh", "-c", "python3 -m kfp.dsl.executor_main"]}}


def _pipeline(executor: dict[str, object], kubernetes: dict[str, object] | None = None) -> dict[str, object]:
    spec = {
        "components": {"comp-a": {"executorLabel": "exec-a"}},
        "deploymentSpec": {"executors": {"exec-a": executor}},
        "root": {"dag": {"tasks": {"a": {"componentRef": {"name": "comp-a"}}}}},
    }
    executors = {"executors": {"exec-a": kubernetes or {}}}
    platform = {"platforms": {"kubernetes": {"deploymentSpec": executors}}}
    return {"pipeline_spec": spec, "platform_spec": platform}


REFUSALS = [
    (_container(["echo"], "alpine"), {}, "task a is a container component (image alpine)"),
    (_container(["python3", "-m", "kfp.dsl.executor_main"], "me/img"), {}, "whose code is in its image (me/img)"),
    (_container(), {"pvcMount": [{}]}, "task a needs a volume (PersistentVolumeClaim)"),
    (_container(), {"secretAsEnv": [{"secretName": "s"}]}, "task a needs a Kubernetes secret"),
    (_container(), {"somethingNew": {"x": 1}}, "task a needs somethingNew of its pod"),
]


@pytest.mark.parametrize(("executor", "kubernetes", "words"), REFUSALS)
def test_refusals(executor: dict[str, object], kubernetes: dict[str, object], words: str) -> None:
    """What requires containers or Kubernetes is rejected with the task's name, and with what to use instead."""
    text = refusal(read_pipeline(_pipeline(executor, kubernetes)), Steps.AUTO, "none was found")  # type: ignore[arg-type]
    assert words in text
    assert "KFADAPTER_KFP_URL" in text


def test_refusal_of_an_artifact_that_no_run_can_be_given() -> None:
    """A required artifact is rejected by name; an optional one is left to the tasks that take it."""
    document: Any = _pipeline(_container(), {})
    spec = document.get("pipeline_spec", document)
    spec["root"]["inputDefinitions"] = {"artifacts": {"data": {}}}
    assert "has the artifact 'data' as an input, which no run can set" in refusal(
        read_pipeline(document), Steps.AUTO, ""
    )
    spec["root"]["inputDefinitions"]["artifacts"]["data"]["isOptional"] = True
    assert refusal(read_pipeline(document), Steps.AUTO, "") == ""


def test_model_in_an_image() -> None:
    """A model in an image is rejected if a step takes it; otherwise KFP only records it."""
    artifact: JsonValue = {"artifactType": {"schemaTitle": "system.Model"}}
    taken: JsonValue = {
        "artifacts": {"model": {"taskOutputArtifact": {"producerTask": "get", "outputArtifactKey": "artifact"}}}
    }
    tasks: dict[str, JsonValue] = {"get": {"componentRef": {"name": "get"}}}
    document: JsonValue = {
        "root": {"dag": {"tasks": tasks}},
        "components": {
            "get": {"executorLabel": "get", "outputDefinitions": {"artifacts": {"artifact": artifact}}},
            "take": {"executorLabel": "take"},
        },
        "deploymentSpec": {
            "executors": {
                "get": {"importer": {"artifactUri": {"constant": "oci://registry/model:1"}}},
                "take": {"container": {"command": ["kfp.dsl.executor_main"]}},
            }
        },
    }
    assert refusal(read_pipeline(document), Steps.AUTO, "") == ""
    tasks["take"] = {"componentRef": {"name": "take"}, "inputs": taken}
    words = "task get imports oci://registry/model:1, a model in an image"
    assert refusal(read_pipeline(document), Steps.AUTO, "").startswith(words)


@pytest.mark.parametrize(
    "kubernetes", [{}, {"nodeSelector": {"labels": {}}, "tolerations": [{}]}, {"secretAsEnv": [{"optional": True}]}]
)
def test_no_refusal(kubernetes: dict[str, object]) -> None:
    """Where a pod is scheduled makes no difference here, and optional secrets may be missing."""
    assert refusal(read_pipeline(_pipeline(_container(), kubernetes)), Steps.AUTO, "") == ""  # type: ignore[arg-type]


class Leaves:
    """Executes nothing: a task whose name ends with `failing` fails, the others succeed."""

    def __init__(self, failing: str = "-") -> None:
        self.seen: list[str] = []
        self._failing = failing
        self._lock = threading.Lock()

    def __call__(
        self, begun: TaskReport, task: Task, component: Component, values: Values, _warnings: TaskWarnings
    ) -> Outcome:
        """Records the task."""
        name = begun.name
        assert (task.component_ref, component.dag) == ({"name": "comp-a"}, None)
        with self._lock:
            self.seen.append(name)
        failed = name.endswith(self._failing)
        return Outcome(State.FAILED, "broken") if failed else Outcome(State.SUCCEEDED, values=Values(values.parameters))


def _dag(tasks: dict[str, dict[str, object]]) -> dict[str, object]:
    full = {name: {"componentRef": {"name": "comp-a"}, **task} for name, task in tasks.items()}
    document = _pipeline(_container())
    spec = document["pipeline_spec"]
    assert isinstance(spec, dict)
    return {**document, "pipeline_spec": {**spec, "root": {"dag": {"tasks": full}}}}


def _walked(
    tasks: dict[str, dict[str, object]], leaves: Leaves, stopped: threading.Event | None = None
) -> tuple[Outcome, dict[str, State]]:
    states: dict[str, State] = {}
    outcome = run_pipeline(
        read_pipeline(_dag(tasks)),  # type: ignore[arg-type]
        {},
        leaves,
        report=lambda report: states.update({report.name: report.state} if report.name else {}),
        stopped=stopped or threading.Event(),
        names={},
    )
    return outcome, states


@pytest.mark.parametrize(("given", "state"), [("red", State.SUCCEEDED), ("blue", State.FAILED)])
def test_literals_of_a_component(given: str, state: State) -> None:
    """A task fails on a value that its component's literals lack, as its driver does in KFP; defaults may be others."""
    document = _dag({"a": {"inputs": {"parameters": {"color": {"runtimeValue": {"constant": given}}}}}})
    spec = document["pipeline_spec"]
    assert isinstance(spec, dict)
    color = {"parameterType": "STRING", "literals": ["red", "green"]}
    default = {**color, "isOptional": True, "defaultValue": "none"}
    spec["components"]["comp-a"]["inputDefinitions"] = {"parameters": {"color": color, "other": default}}
    ended = run_pipeline(
        read_pipeline(document),  # type: ignore[arg-type]
        {},
        Leaves(),
        report=lambda _: None,
        stopped=threading.Event(),
        names={},
    )
    assert ended.state is state
    assert ('"color" value "blue" does not match any' in ended.error) is (state is State.FAILED), ended.error


def test_order() -> None:
    """A task runs after all its dependencies."""
    leaves = Leaves()
    tasks: dict[str, dict[str, object]] = {"c": {"dependentTasks": ["a", "b"]}, "b": {"dependentTasks": ["a"]}, "a": {}}
    outcome, _ = _walked(tasks, leaves)
    assert (outcome.state, leaves.seen) == (State.SUCCEEDED, ["a", "b", "c"])


def test_failure_skips_what_depends_on_it() -> None:
    """What depends on a failed task is skipped recursively; what does not, runs."""
    tasks: dict[str, dict[str, object]] = {
        "bad": {},
        "next": {"dependentTasks": ["bad"]},
        "last": {"dependentTasks": ["next"]},
        "other": {},
    }
    outcome, states = _walked(tasks, Leaves("bad"))
    assert outcome.told() == "task bad failed: broken"
    assert states == {
        "bad": State.FAILED,
        "next": State.SKIPPED,
        "last": State.SKIPPED,
        "other": State.SUCCEEDED,
    }


def test_what_comes_after_a_false_condition() -> None:
    """A task after one whose condition is false is not run (`compiler/argocompiler/dag.go:depends`)."""
    tasks: dict[str, dict[str, object]] = {
        "maybe": {"triggerPolicy": {"condition": "1 == 2"}},
        "after": {"dependentTasks": ["maybe"]},
    }
    outcome, states = _walked(tasks, leaves := Leaves())
    assert (outcome.state, leaves.seen) == (State.SUCCEEDED, [])
    assert states == {"maybe": State.SKIPPED, "after": State.SKIPPED}


def test_failure_by_its_authors_name() -> None:
    """A failed task is named as by its author, unless siblings share that name or it looks like a path."""
    for name, shown in {
        "train model": "train model",
        "글 정리": "글 정리",
        "other": "bad",
        "a/b": "bad",
        "": "bad",
    }.items():
        info: dict[str, object] = {"taskInfo": {"name": name}} if name else {}
        outcome, _ = _walked({"bad": info, "x": {"taskInfo": {"name": "other"}}}, Leaves("bad"))
        assert outcome.told() == f"task {shown} failed: broken"


def test_circle() -> None:
    """Tasks that wait for each other, or for an unknown one, fail the run instead of waiting forever."""
    outcome, _ = _walked({"a": {"dependentTasks": ["b"]}, "b": {"dependentTasks": ["a"]}}, Leaves())
    assert outcome.told() == "a, b: waits for a task that there is not"
    outcome, _ = _walked({"a": {"dependentTasks": ["x"]}}, Leaves())
    assert outcome.state is State.FAILED


def test_loop_over_nothing() -> None:
    """A loop over an empty list runs nothing and succeeds."""
    leaves = Leaves()
    outcome, _ = _walked({"a": {"parameterIterator": {"itemInput": "x", "items": {"raw": "[]"}}}}, leaves)
    assert (outcome.state, leaves.seen) == (State.SUCCEEDED, [])


def test_loop_over_artifacts() -> None:
    """It runs, with a warning: KFP rejects the run ("artifact iterator not implemented yet")."""
    warned: list[str] = []
    loop: dict[str, object] = {"artifactIterator": {"itemInput": "x", "items": {"inputArtifact": "all"}}}
    outcome = run_pipeline(
        read_pipeline(_dag({"a": loop})),  # type: ignore[arg-type]
        {},
        Leaves(),
        report=lambda report: warned.extend(report.warnings),
        stopped=threading.Event(),
        names={},
    )
    assert outcome.state is State.SUCCEEDED
    assert [text.partition(": ")[2].partition(";")[0] for text in warned] == ["'a' iterates over artifacts"]


def test_loop_over_no_list() -> None:
    """A loop over something else fails with a message."""
    outcome, _ = _walked({"a": {"parameterIterator": {"itemInput": "x", "items": {"raw": "{}"}}}}, Leaves())
    assert outcome.told() == "task a failed: the loop iterates over {}, which is not a list"


@pytest.mark.parametrize(("raw", "count"), [('"[1, 2]"', 2), ('"{}"', 0), ('"null"', 0)])
def test_loop_over_text(raw: str, count: int) -> None:
    """The text of a list has items, the text of another value has none (`driver/util.go:getItems`)."""
    leaves = Leaves()
    outcome, _ = _walked({"a": {"parameterIterator": {"itemInput": "x", "items": {"raw": raw}}}}, leaves)
    assert (outcome.told(), len(leaves.seen)) == ("", count)


def test_many_iterations() -> None:
    """A loop of 2000 iterations runs each of them once."""
    leaves = Leaves()
    raw = str(list(range(2000)))
    outcome, _ = _walked({"a": {"parameterIterator": {"itemInput": "x", "items": {"raw": raw}}}}, leaves)
    assert outcome.state is State.SUCCEEDED
    assert sorted(leaves.seen) == sorted(f"a[{index}]" for index in range(2000))


def test_stopped() -> None:
    """Once the run is stopped no further task is started, and none is reported."""
    stopped = threading.Event()
    stopped.set()
    leaves = Leaves()
    outcome, states = _walked({"a": {}, "b": {"dependentTasks": ["a"]}}, leaves, stopped)
    assert (outcome.state, leaves.seen, states) == (State.CANCELED, [], {})


def test_light_runner() -> None:
    """Each run is a separate process, which must not import what only some need."""
    heavy = "{'grpc', 'asyncio', 'yaml', 'celpy', 'docker', 'obstore', 'starlette'}"
    code = f"import sys, kfadapter_embedded.runner.run; print({heavy} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "set()"

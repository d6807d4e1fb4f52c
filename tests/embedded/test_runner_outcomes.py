"""How tasks and groups end, as in KFP's driver, launcher and ML Metadata."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kfadapter_embedded.execution import State
from kfadapter_embedded.runner.inputs import given_inputs
from kfadapter_embedded.runner.outcome import IMPORTED, Outcome, dag_outcome, loop_outcome
from kfadapter_embedded.runner.outputs import Outputs
from kfadapter_embedded.runner.places import Store, Tree
from kfadapter_embedded.runner.spec import (
    Artifact,
    Component,
    Dag,
    DagOutputs,
    Definitions,
    Executor,
    Importer,
    Loop,
    Output,
    Parameter,
    Pipeline,
    Selectors,
    Source,
    Task,
    TaskInputs,
)
from kfadapter_embedded.runner.values import RuntimeArtifact, ValueFaultError, Values
from kfadapter_embedded.runner.warned import TaskWarnings, warn_of_upstream
from kfadapter_grpc.check import rules

if TYPE_CHECKING:
    from pathlib import Path

    from kfadapter_embedded.json_text import JsonValue
    from kfadapter_grpc.check.rule import Rule

DONE, FAILED = Outcome(State.SUCCEEDED, known="COMPLETE"), Outcome(State.FAILED, "x", known="FAILED")
NOT_TAKEN, OMITTED = Outcome(State.SKIPPED, known="CANCELED"), Outcome(State.SKIPPED)
RUNNING, CACHED = Outcome(State.SUCCEEDED, known="RUNNING"), Outcome(State.SUCCEEDED, known="CACHED")
DRIVER_FAILED, IMPORT = Outcome(State.FAILED, "x"), Outcome(State.SUCCEEDED, known=IMPORTED)
# `metadata/client.go:UpdateDAGExecutionsState`; the launcher of each task that ends calls it.
KNOWN = [
    ([DONE], "COMPLETE"),
    ([DONE, DONE], "COMPLETE"),
    ([FAILED, OMITTED, DONE], "FAILED"),
    ([NOT_TAKEN], "RUNNING"),
    ([NOT_TAKEN, DONE], "COMPLETE"),
    ([DONE, NOT_TAKEN], "RUNNING"),
    ([CACHED, DONE], "COMPLETE"),
    ([DONE, CACHED], "RUNNING"),
    ([RUNNING, FAILED], "FAILED"),
    ([RUNNING, DONE], "RUNNING"),
    ([DONE, DRIVER_FAILED], "RUNNING"),
    ([IMPORT], "RUNNING"),
    ([IMPORT, DONE], "COMPLETE"),
    ([], "RUNNING"),
]


@pytest.mark.parametrize(("outcomes", "known"), KNOWN)
def test_state_of_a_group(outcomes: list[Outcome], known: str) -> None:
    """An exit handler gets the state of its group from ML Metadata, which only finished tasks update."""
    done = {str(at): one for at, one in enumerate(outcomes)}
    assert dag_outcome(Dag(dict.fromkeys(done, Task())), done, is_branch=False).known == known


def test_first_cause() -> None:
    """Of several failures in a group the first in time is the reason, even if a task before it failed later."""
    first, second = Outcome(State.FAILED, "first", "group/inner", at=1.0), Outcome(State.FAILED, "second", "b", at=2.0)
    done = {"b": second, "group": first, "c": DONE}
    outcome = dag_outcome(Dag(dict.fromkeys(done, Task())), done, is_branch=False)
    assert (outcome.told(), outcome.at) == ("task group/inner failed: first", 1.0)


DECLARED = Definitions(
    {"Output": Parameter("STRING"), "n": Parameter("NUMBER_INTEGER")},
    {"data": Artifact({"schemaTitle": "system.Dataset"})},
)
READ = 'failed to read output parameter name="Output" type="STRING" path="{0}/Output": '
ARTIFACT = 'unable to produce MLMD artifact for output "data": failed to convert RuntimeArtifact to MLMD artifact: '
ROOT = "minio://mlpipeline/v2/artifacts/p/r"
UPLOAD = 'failed to upload output artifact "data": URI "gs://elsewhere/data" does not have expected bucket prefix "{1}"'
# `component/launcher_v2.go`: getExecutorOutputFile, collectOutputParameters, uploadOutputArtifacts.
FAULTS = [
    ({}, "it gave no output 'Output'", f"{READ}open {{0}}/Output: no such file or directory"),
    (
        {"Output": "x", "n": float("nan")},
        "its outputs cannot be read: invalid value NaN",
        'failed to unmarshall ExecutorOutput in file "{2}": proto: invalid value NaN',
    ),
    (
        {"Output": "x", "n": 1, "data": {"metadata": {"x": [float("-inf")]}}},
        "its outputs cannot be read: invalid value -Infinity",
        'failed to unmarshall ExecutorOutput in file "{2}": proto: invalid value -Infinity',
    ),
    (
        {"Output": "x", "n": 1, "data": {"metadata": {"x": None}}},
        "the metadata of its output 'data' hold None under 'x', which KFP cannot store",
        f"{ARTIFACT}unknown/unsupported value type *structpb.Value_NullValue",
    ),
    (
        {"Output": "half \ud83d", "n": 1, "data": {}},
        "its outputs cannot be read: a text has half of a surrogate pair",
        'failed to unmarshall ExecutorOutput in file "',
    ),
    (
        {"Output": "x", "n": 1, "data": {"uri": "gs://elsewhere/data"}},
        "the URI of its output 'data', gs://elsewhere/data, is outside the run's files ({1})",
        UPLOAD,
    ),
]


def _written(folder: Path, given: dict[str, object]) -> Outputs:
    store = Store(folder / "outputs", ROOT)
    outputs = Outputs(Tree(folder / "tree", ""), store, f"{ROOT}/a/1", DECLARED)
    outputs.make_folders()
    artifacts = {key: {"artifacts": [one]} for key, one in given.items() if key in DECLARED.artifacts}
    values = {key: one for key, one in given.items() if key in DECLARED.parameters}
    text = json.dumps({"parameterValues": values, "artifacts": artifacts})
    outputs.file.write_text(text, "utf-8")
    return outputs


@pytest.mark.parametrize(("given", "words", "reason"), FAULTS)
def test_outputs_that_fail_a_task(tmp_path: Path, given: dict[str, object], words: str, reason: str) -> None:
    """A task whose outputs KFP's launcher rejects fails, with our message and the launcher's."""
    outputs = _written(tmp_path, given)
    with pytest.raises(ValueFaultError) as caught:
        outputs.read()
    found = [str(one) for one in caught.value.args]
    places = ("/tmp/kfp/outputs", ROOT, "/minio/mlpipeline/v2/artifacts/p/r/a/1/output_metadata.json")  # noqa: S108
    assert found[0].startswith(words.format(*places))
    assert found[1].startswith(reason.format(*places))


GOOD = [
    ({"Output": "x", "n": 1, "data": {"metadata": {"list": [None, 1]}}}, ["x", 1]),
    ({"Output": "returned", "n": True}, ["returned", True]),
    ({"Output": "\U0001f600 \\ud83d", "n": 1}, ["\U0001f600 \\ud83d", 1]),
    ({"Output": "x", "n": 1, "data": {"uri": "https://elsewhere/data"}}, ["x", 1]),
]


@pytest.mark.parametrize(("given", "values"), GOOD)
def test_outputs_that_a_task_may_give(tmp_path: Path, given: dict[str, object], values: list[object]) -> None:
    """The return value of a function overrides its file and is not converted; None inside a list may be stored."""
    outputs = _written(tmp_path, given)
    outputs.tree.parameter("Output").write_text("from its file", "utf-8")
    assert list(outputs.read().parameters.values()) == values


def test_output_file_that_cannot_be_read(tmp_path: Path) -> None:
    """An output that was written by path must be a file, and is parsed as its type; KFP cannot publish odd bytes."""
    outputs = _written(tmp_path, {"Output": "x"})
    outputs.tree.parameter("n").mkdir()
    with pytest.raises(ValueFaultError, match="it gave no output 'n'"):
        outputs.read()
    outputs.tree.parameter("n").rmdir()
    outputs.tree.parameter("n").write_text("7\n", "utf-8")
    assert outputs.read().parameters["n"] == 7
    outputs = _written(tmp_path, {"n": 7})
    outputs.tree.parameter("Output").write_bytes("한글".encode("euc-kr"))
    with pytest.raises(ValueFaultError, match="its output 'Output' is no UTF-8"):
        outputs.read()


def _loop(*iterations: dict[str, JsonValue], rule: Rule | None = None, nested: bool = False) -> Rule | None:
    component = Component(output_definitions=Definitions({"x": Parameter("LIST")}))
    collected = {"x": rule} if nested else {}
    outcomes = [Outcome(State.SUCCEEDED, values=Values(one, collected=collected)) for one in iterations]
    return loop_outcome(outcomes, component, "loop").values.collected["x"]


def test_what_is_collected() -> None:
    """What a cluster cannot collect is recorded for the tasks that use it."""
    assert _loop({"x": 1}, {"x": 2}) is None
    assert _loop() is rules.COLLECTED_EMPTY
    assert _loop({"x": 1}, {}) is rules.COLLECTED_SKIPPED
    assert _loop({"x": [1]}, {"x": []}, nested=True) is rules.COLLECTED_TWICE
    assert _loop({"x": []}, rule=rules.COLLECTED_EMPTY, nested=True) is rules.COLLECTED_TWICE
    assert _loop({"x": [1]}, rule=rules.COLLECTED_SKIPPED, nested=True) is rules.COLLECTED_SKIPPED


def test_what_a_cluster_cannot_collect_or_choose() -> None:
    """Outputs of different branches, of imports, and of a branch that counts as running are recorded, too."""
    ways = [Values({"x": 1}, ways={"x": ("branches", one)}) for one in ("a", "a", "b")]
    component = Component(output_definitions=Definitions({"x": Parameter("LIST")}, {"d": Artifact()}))

    def collected(*values: Values) -> dict[str, Rule | None]:
        made = loop_outcome([Outcome(State.SUCCEEDED, values=one) for one in values], component, "loop")
        return dict(made.values.collected)

    assert collected(*ways[:2])["x"] is None
    assert collected(*ways)["x"] is rules.COLLECTED_ONE_OF
    imported = Values({"x": 1}, {"d": (RuntimeArtifact("d", {}, "gs://a/b"),)})
    assert collected(imported)["d"] is rules.COLLECTED_IMPORTS

    selectors = Selectors(value_from_oneof={"parameterSelectors": (Output(producer_subtask="a"),)})
    dag = Dag({"a": Task()}, DagOutputs({"x": selectors}))
    for known, rule in {"RUNNING": rules.ONE_OF_RUNNING, "COMPLETE": None, "CACHED": None}.items():
        branch = Outcome(State.SUCCEEDED, values=Values({"": 1}), known=known)
        values = dag_outcome(dag, {"a": branch}, is_branch=False).values
        assert values.collected.get("x") is rule
        assert collected(values)["x"] is rule


def _warnings(task: str, tasks: dict[str, Task], **ended: Outcome) -> list[str]:
    """The rules that a task breaks, after the finished tasks."""
    components = {"c": Component(), "importer": Component(executor=Executor(importer=Importer()))}
    warnings = TaskWarnings()
    dag = Dag({"a": Task(component_ref={"name": "c"}), "b": Task(component_ref={"name": "c"}), **tasks})
    warn_of_upstream(Pipeline(components=components), dag, task, {"a": FAILED, "b": DONE, **ended}, warnings)
    return [text.rpartition("(")[2].rstrip(")") for text in warnings.texts]


def _ignoring(*before: str) -> Task:
    return Task(component_ref={"name": "c"}, dependent_tasks=before, trigger_policy={"strategy": ALWAYS})


ALWAYS = "ALL_UPSTREAM_TASKS_COMPLETED"
LOOP = Task(component_ref={"name": "c"}, parameter_iterator=Loop({"raw": "[]"}, "x"))
IMPORTER = Task(component_ref={"name": "importer"})


def test_exit_hooks() -> None:
    """A task that ignores failures is an exit hook on a cluster (`compiler/argocompiler/dag.go:DAG`), and warns."""
    assert _warnings("x", {"x": _ignoring("a")}) == []
    assert _warnings("x", {"x": _ignoring("a", "b")}) == ["ignored-failure-twice"]
    assert _warnings("x", {"x": _ignoring("a"), "y": _ignoring("a")}) == ["ignored-failure-shared"]
    assert _warnings("y", {"x": _ignoring("a"), "y": _ignoring("a")}) == []
    assert _warnings("x", {"x": _ignoring("a")}, a=OMITTED) == ["ignored-failure-skipped"]
    assert _warnings("x", {"x": _ignoring("a")}, a=DRIVER_FAILED) == ["ignored-failure-skipped"]
    assert _warnings("x", {"x": _ignoring("l"), "l": LOOP}, l=DONE) == ["ignored-failure-without-hook"]
    assert _warnings("x", {"x": _ignoring("i"), "i": IMPORTER}, i=DONE) == ["ignored-failure-without-hook"]
    after = Task(component_ref={"name": "c"}, dependent_tasks=("x",))
    assert _warnings("after", {"x": _ignoring("a"), "after": after}, x=DONE) == ["ignored-failure-dependents"]


def test_renamed_importer() -> None:
    """What takes the artifact of an importer with a display name warns: KFP looks for another name."""
    taken = Source(task_output_artifact=Output(producer_task="i", output_artifact_key="artifact"))
    task = Task(component_ref={"name": "c"}, inputs=TaskInputs(artifacts={"x": taken}))
    for name, found in {"i": [], "My data": ["importer-display-name"]}.items():
        importer = Task(task_info={"name": name}, component_ref={"name": "importer"})
        assert _warnings("t", {"t": task, "i": importer}, i=IMPORT) == found


def test_taking_what_was_collected() -> None:
    """A task with inputs that a cluster cannot collect warns, once for each input."""
    taken = Source(task_output_parameter=Output(producer_task="l", output_parameter_key="x"))
    task = Task(component_ref={"name": "c"}, inputs=TaskInputs({"xs": taken, "again": taken, "b": Source()}))
    done = Outcome(State.SUCCEEDED, values=Values({"x": []}, collected={"x": rules.COLLECTED_EMPTY}))
    assert _warnings("t", {"t": task, "l": LOOP}, l=done) == ["collected-empty-loop", "collected-empty-loop"]


@pytest.mark.parametrize(("state", "is_optional"), [("failed", True), ("failed", False), ("done", True)])
def test_artifact_of_a_failed_task(state: str, is_optional: bool) -> None:
    """A task that ignores failures runs without an optional artifact of a failed one, and warns; others fail."""
    data = Source(task_output_artifact=Output(producer_task="a", output_artifact_key="data"))
    task = Task(inputs=TaskInputs(artifacts={"x": data}), trigger_policy={"strategy": ALWAYS})
    component = Component(input_definitions=Definitions(artifacts={"x": Artifact(is_optional=is_optional)}))
    warnings, done = TaskWarnings(), {"a": FAILED if state == "failed" else DONE}

    def given() -> Values:
        return given_inputs("t", task, component, Values(), done=done, path="", names={}, warnings=warnings)

    if state == "failed" and is_optional:
        assert given().artifacts == {}
        assert "(ignored-failure-artifact)" in warnings.texts[0]
    else:
        with pytest.raises(ValueFaultError, match="task a gave no output 'data'"):
            given()

"""The examples: each is what its source compiles to, is accepted, and does what it demonstrates."""

from __future__ import annotations

import base64
import importlib.util
import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.conformance.calling import calling, metrics, outputs, values
from tests.e2e.conftest import ROOT

from kfadapter.v1 import run_pb2
from kfadapter_grpc.cli.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.calling import Api
    from tests.e2e.conftest import Adapter

FOLDER = ROOT / "examples"
SOURCES = sorted(path.stem for path in FOLDER.glob("*.py"))
NEEDS_MORE = "secret_and_volume"
"""Is compiled with kfp-kubernetes, which this project does not need otherwise."""
HAS_IT = importlib.util.find_spec("kfp.kubernetes") is not None


@dataclass(frozen=True)
class Ran:
    """A run of an example, and its expected results.

    Attributes:
        example: The file.
        parameters: The parameters of the run.
        task: The task whose result is checked.
        output: The expected output of that task.
        metrics: The expected metrics of that task.
        skipped: The tasks that are skipped.
    """

    example: str
    parameters: dict[str, object]
    task: str
    output: object
    metrics: dict[str, object] = field(default_factory=dict)
    skipped: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.example}-{'-'.join(self.parameters) or 'defaults'}"


BRANCHES = [f"condition-{number}" for number in (2, 3, 4)]
RUNS = [
    Ran("passing_files", {}, "add-up", 30),
    Ran("passing_files", {"count": 100}, "add-up", 2550),
    Ran("metrics", {}, "evaluate", 0.15, {"mean_error": 0.15, "worst_error": 0.2, "points": 4}),
    Ran("conditions", {}, "release", "released with accuracy 0.93", skipped=frozenset(BRANCHES[1:])),
    Ran(
        "conditions",
        {"correct": 8, "total": 16},
        "reject",
        "accuracy 0.50 is too low",
        skipped=frozenset(BRANCHES[:2]),
    ),
    Ran("parallel_loops", {}, "choose-best-2", {"rate": 0.1, "seed": 1, "loss": 0.001}),
    Ran(
        "parallel_loops",
        {"rates": [0.3, 0.2], "seeds": [5]},
        "choose-best-2",
        {"rate": 0.2, "seed": 5, "loss": 0.015},
    ),
    Ran("resources", {"rows": 4}, "prepare", 6),
    Ran("exit_handler", {"rows": 7}, "tidy-up", "the work ended as COMPLETE"),
    Ran("korean_text", {}, "greet", "낱말 세기: '산' 이(가) 가장 많다"),
    Ran("korean_text", {"lines": ["물 물 불"], "title": "둘째"}, "greet", "둘째: '물' 이(가) 가장 많다"),
    Ran("korean_text", {"lines": ["물 물 불"]}, "count-words", {"물": 2, "불": 1}, {"낱말 수": 3}),
    Ran("train", {"dataset_seed": 1, "verbose": False, "title": "모델"}, "report", "모델: loss 0.0103"),
    Ran("train_v2", {"dataset_seed": 1, "verbose": False}, "report", "첫 번째 모델: loss 0.0103"),
]


@pytest.fixture(scope="module")
def caller(executing: Adapter) -> Iterator[Api]:
    """Calls an adapter whose KFP executes runs."""
    with calling(executing.target) as made:
        yield made


def uploaded(caller: Api, example: str) -> str:
    """Uploads an example under a unique name; returns the name."""
    name = f"{example}-{uuid.uuid4().hex[:12]}"
    caller.upload(f"examples/{example}.yaml", name)
    return name


def test_sources_and_compiled_files_come_in_pairs() -> None:
    """Every example has its YAML, and every YAML its source."""
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == SOURCES
    assert {run.example for run in RUNS} | {NEEDS_MORE} == set(SOURCES)


@pytest.mark.slow
@pytest.mark.parametrize("example", [one for one in SOURCES if one != NEEDS_MORE or HAS_IT])
def test_the_yaml_is_what_the_source_compiles_to(adapter: Adapter, example: str) -> None:
    """The shipped YAML is up to date, to the last line of each component."""
    stream = adapter.printed("payload", f"examples/{example}.py").splitlines()[1:]
    made = b"".join(base64.b64decode(json.loads(line)["chunk"]) for line in stream)
    shipped = (FOLDER / f"{example}.yaml").read_bytes()
    assert documents(made) == documents(shipped)


def documents(data: bytes) -> list[object]:
    """The parsed documents of a file."""
    return list(yaml.load_all(data, yaml.CSafeLoader))


@pytest.mark.slow
@pytest.mark.skipif(HAS_IT, reason="kfp-kubernetes is installed")
def test_without_kfp_kubernetes_the_error_names_the_package(adapter: Adapter) -> None:
    """Without kfp-kubernetes, the one example that needs it fails with the command to install it."""
    refused = adapter.run("payload", f"examples/{NEEDS_MORE}.py")
    assert refused.returncode != ExitCode.OK
    assert b"kfp-kubernetes is missing: pip install kfp-kubernetes" in refused.stderr


@pytest.mark.parametrize("wanted", RUNS, ids=str)
def test_an_example_runs(caller: Api, wanted: Ran) -> None:
    """It succeeds, and returns and logs what the tutorial shows."""
    started = caller.start(uploaded(caller, wanted.example), wanted.parameters)
    run = caller.follow(started.run_id)
    assert (run.state, run.error) == (run_pb2.RUN_STATE_SUCCEEDED, ""), run
    assert outputs(run, wanted.task).get("Output") == wanted.output
    assert metrics(run, wanted.task).items() >= wanted.metrics.items()
    assert {task.name for task in run.tasks if task.state == run_pb2.RUN_STATE_SKIPPED} == wanted.skipped


def test_the_exit_handler_runs_after_a_failure(caller: Api) -> None:
    """The run fails with the error of the failed step; the handler has run, and received the state."""
    run = caller.follow(caller.start(uploaded(caller, "exit_handler")).run_id)
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert "ValueError: 0 rows are too few to train with" in run.error
    states = {task.name: task.state for task in run.tasks}
    assert states["train"] == run_pb2.RUN_STATE_OMITTED
    assert states["tidy-up"] == run_pb2.RUN_STATE_SUCCEEDED
    assert outputs(run, "tidy-up")["Output"] == "the work ended as FAILED"


def test_all_trials_of_the_loops_are_there(caller: Api) -> None:
    """Every item of both loops has its own task, with what it returned."""
    started = caller.start(uploaded(caller, "parallel_loops"), {"rates": [0.1, 0.2], "seeds": [1, 2, 3]})
    run = caller.follow(started.run_id)
    trials = [values(task)["Output"] for task in run.tasks if task.name == "train-once"]
    returned = {(one["rate"], one["seed"]) for one in trials}  # type: ignore[index]
    assert returned == {(rate, seed) for rate in (0.1, 0.2) for seed in (1, 2, 3)}


def test_what_needs_kubernetes_is_refused_in_words(caller: Api) -> None:
    """The example with a secret and a volume is accepted, and its run reports what is missing and where to run it."""
    run = caller.follow(caller.start(uploaded(caller, NEEDS_MORE)).run_id)
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert "task count needs a volume (PersistentVolumeClaim), and there is no Kubernetes here" in run.error
    assert "set KFADAPTER_KFP_URL" in run.error

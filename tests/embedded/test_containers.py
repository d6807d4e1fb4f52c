"""Steps in containers: with a stand-in engine that speaks Docker's API, and with a real one if available."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.embedded.run_file import Watcher, artifacts_of, parameters_of
from tests.embedded.stand_in_engine import StandInEngine

from kfadapter_embedded.execution import Job, State, Steps, log_path
from kfadapter_embedded.process import start
from kfadapter_embedded.runner.command import Command, Exit
from kfadapter_embedded.runner.containers import Containers, NoEngineError, find_engine
from kfadapter_embedded.runner.limits import Limits
from kfadapter_embedded.runner.log import TaskLog
from kfadapter_embedded.runner.places import Tree
from kfadapter_embedded.runner_pool import RunnerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGE = "tools:1"
WRITE = 'printf \'%s\' "$1" > "$0"'
OUT = "{{$.outputs.parameters['out'].output_file}}"
FOREVER = ["sh", "-c", "trap '' TERM; echo here; while :; do sleep 0.1; done"]


def pipeline(**containers: dict[str, Any]) -> bytes:
    """Container components that run in sequence; each may have an output parameter `out` and an artifact `data`."""
    outputs = {"parameters": {"out": {"parameterType": "STRING"}}}
    inputs = {"parameters": {"text": {"parameterType": "STRING"}}}
    tasks: dict[str, Any] = {}
    components: dict[str, Any] = {}
    for name, container in containers.items():
        text = json.dumps(container)
        component: dict[str, Any] = {"executorLabel": f"exec-{name}"}
        task: dict[str, Any] = {"componentRef": {"name": f"comp-{name}"}, "taskInfo": {"name": name}}
        if "$.outputs" in text:
            component["outputDefinitions"] = outputs
        if "$.inputs" in text:
            component["inputDefinitions"] = inputs
            task["inputs"] = {"parameters": {"text": {"componentInputParameter": "text"}}}
        tasks[name], components[f"comp-{name}"] = {**task, "dependentTasks": list(tasks)[-1:]}, component
    executors = {f"exec-{name}": {"container": {"image": IMAGE, **one}} for name, one in containers.items()}
    spec = {
        "pipelineInfo": {"name": "containers"},
        "components": components,
        "deploymentSpec": {"executors": executors},
        "root": {"dag": {"tasks": tasks}, "inputDefinitions": inputs},
    }
    return json.dumps(spec).encode()


@dataclass
class Stage:
    """An engine, and a pool that executes one run."""

    engine: StandInEngine
    folder: Path
    pool: RunnerPool
    watcher: Watcher

    def submit(self, **containers: dict[str, Any]) -> None:
        """Starts the run of a pipeline; its parameter `text` has quotes and Korean text."""
        self.pool.submit(Job("run", pipeline(**containers), {"text": 'it\'s "x" 한 $HOME'}, self.folder))

    def run(self, **containers: dict[str, Any]) -> tuple[State, str]:
        """Runs a pipeline to its end; returns its state and error."""
        self.submit(**containers)
        return self.watcher.wait_end("run")

    def log(self, task: str) -> str:
        """The log of a task's first attempt."""
        return log_path(self.folder, task).read_text("utf-8")


@contextmanager
def dropped_sockets() -> Iterator[None]:
    """Ignores that the package `docker` does not close a socket that could not be connected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture
def make_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    """Creates a stage."""
    with StandInEngine() as engine:
        engine.images.add(IMAGE)
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        pools = []

        def make(steps: Steps = Steps.AUTO) -> Stage:
            watcher = Watcher()
            pools.append(RunnerPool(watcher.report, steps=steps))
            return Stage(engine, tmp_path, pools[-1], watcher)

        yield make
        for one in pools:
            one.close()


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """A stage that runs container components in containers."""
    return make_stage()


def test_outputs_and_arguments(stage: Stage) -> None:
    """A step in a container gets its arguments unchanged, and its outputs are read; the container is removed."""
    state, error = stage.run(say={"command": ["sh", "-ec", WRITE], "args": [OUT, "{{$.inputs.parameters['text']}}"]})
    assert (state, error) == (State.SUCCEEDED, "")
    assert parameters_of(stage.watcher.last("say"))["out"] == 'it\'s "x" 한 $HOME'
    (made,) = stage.engine.made
    assert (made.request["Image"], made.request["Entrypoint"]) == (IMAGE, ["sh"])
    assert stage.engine.containers == {}
    assert not (stage.folder / "scratch").exists()


def test_output_is_followed(stage: Stage) -> None:
    """A step's output, including standard error, is in its log while it runs."""
    go = stage.folder / "workspace" / "go"
    stage.submit(talk={"command": ["sh", "-c", f"echo 하나; echo two >&2; until [ -e {go} ]; do sleep 0.05; done"]})
    stage.engine.wait_for(1)
    _until(lambda: stage.log("talk") == "하나\ntwo\n")
    go.touch()
    assert stage.watcher.wait_end("run") == (State.SUCCEEDED, "")


def test_variables_and_limits(stage: Stage) -> None:
    """A container has the step's variables, none of the server's, and the step's limits, up to the number of cores."""
    container = {
        "command": ["sh", "-c", "env | sort"],
        "env": [{"name": "COLOUR", "value": "파랑"}],
        "resources": {
            "resourceCpuLimit": "64",
            "resourceMemoryLimit": "1.5Gi",
            "accelerator": {"resourceType": "gpu/x"},
        },
    }
    assert stage.run(show=container)[0] is State.SUCCEEDED
    host = stage.engine.made[0].host
    assert (host["NanoCpus"], host["Memory"]) == (2_000_000_000, 3 << 29)
    assert "COLOUR=파랑" in stage.log("show")
    assert "DOCKER_HOST" not in stage.log("show")
    assert "requests gpu/x; nothing is reserved" in stage.log("show")


def test_mounts(stage: Stage) -> None:
    """KFP's own paths exist, and a step cannot write its inputs."""
    stage.run(say={"command": ["sh", "-ec", WRITE], "args": [OUT, "x"]})
    mounts = {one["Target"]: (Path(one["Source"]), one.get("ReadOnly")) for one in stage.engine.made[0].host["Mounts"]}
    assert mounts["/kfp-workspace"] == (stage.folder / "workspace", False)
    tree = mounts["/tmp"][0].parent  # noqa: S108
    assert tree.parent.parent == stage.folder / "scratch"
    assert mounts[str(tree)] == (tree, False)
    assert mounts["/minio"] == (tree / "minio", False)


def test_exit_status(stage: Stage) -> None:
    """A failed command fails its task with its exit status and last output; the next one is not started."""
    state, error = stage.run(a={"command": ["sh", "-c", "echo no luck; exit 4"]}, b={"command": ["true"]})
    assert (state, error) == (State.FAILED, "task a failed: no luck (exit status 4)")
    assert stage.watcher.last("a").message == "failed to execute component: exit status 4"
    assert len(stage.engine.made) == 1


def test_memory_used_up(stage: Stage) -> None:
    """A container that was ended by its memory limit is reported as such."""
    stage.engine.out_of_memory = True
    container = {"command": ["sh", "-c", "kill -9 $$"], "resources": {"resourceMemoryLimit": "64Mi"}}
    _, error = stage.run(eat=container)
    assert error == "task eat failed: killed: its memory limit of 67108864 bytes was reached (exit status 137)"


def test_killed_from_outside(stage: Stage) -> None:
    """A container that is killed from outside fails its task."""
    stage.submit(nap={"command": ["sleep", "600"]})
    (container,) = stage.engine.wait_for(1)
    assert container.process is not None
    container.process.kill()
    _, error = stage.watcher.wait_end("run")
    assert "signal 9, SIGKILL" in error


def test_program_that_is_missing(stage: Stage) -> None:
    """A program that is missing in the image fails the task with the engine's message."""
    _, error = stage.run(a={"command": ["no-such-program"]})
    assert error.endswith(f'run image {IMAGE}: exec: "no-such-program": executable file not found in $PATH')
    assert stage.engine.containers == {}


PULLS = [
    ("tools:1", "", []),
    ("tools:2", "", ["tools:2"]),
    ("tools", "", ["tools:latest"]),
    ("tools:latest", "", ["tools:latest"]),
    ("tools:latest", "IfNotPresent", []),
    ("tools:1", "Always", ["tools:1"]),
]


@pytest.mark.parametrize(("image", "policy", "pulls"), PULLS)
def test_pull_policy(stage: Stage, image: str, policy: str, pulls: list[str]) -> None:
    """Images are pulled as by Kubernetes: if missing, `latest` always, or by the step's policy; once in a run."""
    stage.engine.images.add("tools:latest")
    spec = json.loads(pipeline(a={"command": ["true"], "image": image}, b={"command": ["true"], "image": image}))
    executors = {f"exec-{name}": {"imagePullPolicy": policy} for name in "ab"}
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
    document = json.dumps({"pipeline_spec": spec, "platform_spec": platform}).encode()
    stage.pool.submit(Job("run", document, {"text": ""}, stage.folder))
    assert stage.watcher.wait_end("run") == (State.SUCCEEDED, "")
    assert stage.engine.pulls == pulls
    assert (f"pulls {image}" in stage.log("a")) is bool(pulls)


def _limited(executor: dict[str, Any], config: dict[str, Any]) -> bytes:
    """A pipeline whose only step never ends, with settings of kfp-kubernetes and of `dsl.PipelineConfig`."""
    kubernetes = {"deploymentSpec": {"executors": {"exec-a": executor}}, "pipelineConfig": config}
    spec = json.loads(pipeline(a={"command": FOREVER}))
    return json.dumps({"pipeline_spec": spec, "platform_spec": {"platforms": {"kubernetes": kubernetes}}}).encode()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [Steps.AUTO, Steps.PROCESS])
@pytest.mark.parametrize(
    ("executor", "config", "error"),
    [
        ({"activeDeadlineSeconds": "1"}, {}, "task a failed: killed: it ran for longer than its timeout of 1 s"),
        ({}, {"activeDeadlineSeconds": 1}, "it ran for longer than its deadline of 1 s"),
    ],
)
def test_deadlines(
    make_stage: Callable[..., Stage], steps: Steps, executor: dict[str, Any], config: dict[str, Any], error: str
) -> None:
    """A step is killed after its timeout, and a run is stopped after its deadline; both have failed."""
    stage = make_stage(steps)
    stage.pool.submit(Job("run", _limited(executor, config), {"text": ""}, stage.folder))
    assert stage.watcher.wait_end("run") == (State.FAILED, error)
    assert stage.watcher.last("a").state is State.FAILED
    assert "here" in stage.log("a")


REGISTRY = [
    (404, "pull access denied for tools, repository does not exist"),
    (401, "unauthorized: authentication required"),
    (0, "manifest unknown"),
]


@pytest.mark.parametrize("answer", REGISTRY)
def test_image_that_cannot_be_pulled(stage: Stage, answer: tuple[int, str]) -> None:
    """An image that cannot be pulled fails the task with the registry's message and what to do."""
    stage.engine.registry["tools:2"] = answer
    _, error = stage.run(a={"command": ["true"], "image": "tools:2"})
    assert error.startswith(f"task a failed: image tools:2 cannot be pulled: {answer[1]}")
    assert "`docker login`" in error
    assert stage.engine.made == []


def test_image_that_is_only_here(stage: Stage) -> None:
    """An image `latest` that was built locally and is in no registry is used, and its log says so."""
    stage.engine.images.add("mine:latest")
    stage.engine.registry["mine:latest"] = (404, "no such repository")
    assert stage.run(a={"command": ["true"], "image": "mine"}) == (State.SUCCEEDED, "")
    assert "mine cannot be pulled (no such repository)" in stage.log("a")


def test_engine_that_goes_away(stage: Stage) -> None:
    """If the engine stops in the middle of a step, its task fails, and the run does not hang."""
    stage.submit(nap={"command": ["sleep", "600"]})
    stage.engine.wait_for(1)
    with dropped_sockets():
        stage.engine.go_away()
        state, error = stage.watcher.wait_end("run")
    assert state is State.FAILED
    assert error.startswith(f"task nap failed: Docker 28.0 could not run image {IMAGE}: ")


def test_terminate(stage: Stage) -> None:
    """A terminated run sends its containers SIGTERM, and they end."""
    stage.submit(nap={"command": ["sh", "-c", "trap 'exit 3' TERM; echo here; while :; do sleep 0.1; done"]})
    (container,) = stage.engine.wait_for(1)
    _until(lambda: stage.log("nap") == "here\n")
    stage.pool.terminate("run")
    assert stage.watcher.wait_end("run") == (State.CANCELED, "terminated on request")
    assert container.signals == ["SIGTERM"]
    assert stage.engine.containers == {}


def test_terminate_a_step_that_ignores_it(stage: Stage) -> None:
    """A container that ignores SIGTERM is killed and removed."""
    stage.submit(nap={"command": FOREVER})
    (container,) = stage.engine.wait_for(1)
    _until(lambda: stage.log("nap") == "here\n")
    stage.pool.terminate("run")
    assert stage.watcher.wait_end("run") == (State.CANCELED, "terminated on request")
    assert container.signals == ["SIGTERM"]
    assert stage.engine.containers == {}


def test_killed_runner(stage: Stage) -> None:
    """If the process of a run is killed, its containers are removed."""
    stage.submit(nap={"command": FOREVER})
    stage.engine.wait_for(1)
    (run,) = stage.pool._running.values()
    assert run._child is not None
    run._child.kill()
    assert stage.watcher.wait_end("run")[0] is State.FAILED
    assert stage.engine.containers == {}


PARENT = """
import pathlib, sys
from kfadapter_embedded.execution import Job
from kfadapter_embedded.runner_pool import RunnerPool
pool = RunnerPool(lambda *_: None)
pool.submit(Job("run", pathlib.Path(sys.argv[1]).read_bytes(), {"text": ""}, pathlib.Path(sys.argv[2])))
sys.stdin.read()
"""


def test_killed_server(stage: Stage, tmp_path: Path) -> None:
    """If the server is killed, the containers of its runs are removed."""
    spec = tmp_path / "spec.json"
    spec.write_bytes(pipeline(nap={"command": FOREVER}))
    with subprocess.Popen([sys.executable, "-c", PARENT, spec, tmp_path], stdin=subprocess.PIPE) as parent:
        stage.engine.wait_for(1)
        parent.kill()
    _until(lambda: not stage.engine.containers)


def test_all_killed(stage: Stage, tmp_path: Path) -> None:
    """If server and runner were both killed, their containers are removed by the next start."""
    spec, data = tmp_path / "spec.json", tmp_path / "data"
    folder = data / "runs" / "run"
    folder.mkdir(parents=True)
    spec.write_bytes(pipeline(nap={"command": FOREVER}))
    with subprocess.Popen([sys.executable, "-c", PARENT, spec, folder], stdin=subprocess.PIPE) as parent:
        stage.engine.wait_for(1)
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        (runner,) = [pid for path in children.parent.parent.glob("*/children") for pid in path.read_text().split()]
        parent.send_signal(signal.SIGSTOP)
        os.kill(int(runner), signal.SIGKILL)
        parent.kill()
    assert len(stage.engine.containers) == 1
    start(data).stop()
    assert stage.engine.containers == {}


def test_files_of_another_user(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a container wrote as another user are given to this one, so that they can be deleted."""
    if os.getuid() != 0:
        pytest.skip("only root can write as another user")
    engine = find_engine({"DOCKER_HOST": stage.engine.url})
    containers = Containers(engine, stage.folder, "mark", threading.Event())
    outputs, workspace = stage.folder / "outputs", stage.folder / "workspace"
    for folder in (outputs, workspace):
        folder.mkdir()
    tree = Tree(outputs, str(outputs))
    command = Command(1, ("touch", str(outputs / "made")), IMAGE, {}, Limits(), (), tree)
    monkeypatch.setattr("os.getuid", lambda: 4242)
    with TaskLog(stage.folder / "log") as log:
        assert containers(command, log) == Exit(0)
    assert (outputs / "made").stat().st_uid == 4242
    assert stage.engine.containers == {}


def test_python_component(make_stage: Callable[..., Stage]) -> None:
    """With `--steps container` Python components run in their image too; otherwise as processes."""
    command = ["sh", "-c", 'echo in "$1"', "{{$}}", "kfp.dsl.executor_main"]
    stage = make_stage(Steps.CONTAINER)
    assert stage.run(a={"command": command}) == (State.SUCCEEDED, "")
    assert len(stage.engine.made) == 1
    assert make_stage().run(a={"command": command}) == (State.SUCCEEDED, "")
    assert len(stage.engine.made) == 1


def test_as_processes(make_stage: Callable[..., Stage]) -> None:
    """With `--steps process` commands run on this machine, and each task has a warning."""
    stage = make_stage(Steps.PROCESS)
    assert stage.run(a={"command": ["sh", "-ec", WRITE], "args": [OUT, "x"]}) == (State.SUCCEEDED, "")
    assert stage.watcher.last("a").warnings == (f"runs as a process, not in image {IMAGE}",)
    assert stage.engine.made == []


def test_program_that_this_machine_lacks(make_stage: Callable[..., Stage]) -> None:
    """With `--steps process` a program that is missing on this machine is rejected before anything starts."""
    stage = make_stage(Steps.PROCESS)
    state, error = stage.run(a={"command": ["true"]}, b={"command": ["no-such-program"]})
    words = (
        "task b is a container component (image tools:1) that runs no-such-program, which this machine does not have"
    )
    assert (state, error.partition(". ")[0]) == (State.FAILED, words)
    assert stage.watcher.reports == []


def test_no_engine(stage: Stage) -> None:
    """Without an engine a pipeline that needs one is rejected before anything starts, with what was tried."""
    stage.engine.go_away()
    state, error = stage.run(a={"command": ["true"]})
    assert state is State.FAILED
    assert error.startswith(f"task a is a container component (image {IMAGE}) that runs true, and no container engine")
    assert stage.engine.url in error
    assert "--steps process" in error
    assert stage.watcher.reports == []


def test_finding_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine is found by DOCKER_HOST, by CONTAINER_HOST, or by a socket in a usual location."""
    with dropped_sockets(), StandInEngine() as engine:
        engine.security.append("name=rootless")
        found = find_engine({"DOCKER_HOST": engine.url})
        assert (found.name, found.cpus, found.rootless) == ("Docker 28.0", 2, True)
        assert find_engine({"CONTAINER_HOST": engine.url}).url == engine.url
        place = engine.path.parent / "podman" / "podman.sock"
        place.parent.mkdir()
        place.symlink_to(engine.path)
        monkeypatch.setenv("HOME", str(engine.path.parent))
        assert find_engine({"XDG_RUNTIME_DIR": str(engine.path.parent)}).url in {f"unix://{place}", DOCKER}
    with dropped_sockets(), pytest.raises(NoEngineError, match=engine.url):
        find_engine({"DOCKER_HOST": engine.url})


DOCKER = "unix:///var/run/docker.sock"


def test_real_engine(tmp_path: Path) -> None:
    """A real engine runs steps: arguments, files, output, exit status (it pulls busybox:1.36)."""
    try:
        find_engine(os.environ)
    except NoEngineError as fault:
        pytest.skip(f"no container engine answers: {fault}")
    image = os.environ.get("KFADAPTER_TEST_IMAGE", "busybox:1.36")
    watcher = Watcher()
    pool = RunnerPool(watcher.report)
    say = {"image": image, "command": ["sh", "-ec", WRITE], "args": [OUT, "{{$.inputs.parameters['text']}}"]}
    fail = {"image": image, "command": ["sh", "-c", "echo no luck >&2; exit 4"]}
    pool.submit(Job("run", pipeline(say=say, fail=fail), {"text": 'it\'s "x" 한'}, tmp_path))
    assert watcher.wait_end("run") == (State.FAILED, "task fail failed: no luck (exit status 4)")
    assert parameters_of(watcher.last("say"))["out"] == 'it\'s "x" 한'
    assert artifacts_of(watcher.last("say"))
    pool.close()


def _until(holds: Callable[[], bool]) -> None:
    """Waits until a condition is true; the test's own timeout ends it otherwise."""
    pause = threading.Event()
    while not holds():
        pause.wait(0.01)

"""Executes one run, in a process of its own.

It reads one line of JSON from its standard input: `run_id`, `spec` (the path of a file), `parameters`, `folder` and
`caching`, which makes no difference yet: nothing is ever taken from an earlier run. Its standard output is lines of
JSON: `{"task": NAME, "state": ..., "error": ..., "parameters": {...}, "artifacts": [...]}` whenever a task begins or
ends, and at last `{"run": "SUCCEEDED" | "FAILED", "error": ...}`. SIGTERM ends it early, without a last line. When its
standard input is closed, its parent is gone, and it ends itself and all that it started.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from kfadapter_embedded.execution import State

from .component import ComponentRunner, Place
from .dag import Outcome, run_pipeline
from .environment import VARIABLE, end_family
from .refusals import refusal
from .spec import SpecError, mapping, read_pipeline
from .values import load_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_embedded.execution import TaskReport
    from kfadapter_embedded.json_text import JsonValue

    from .spec import Pipeline

SCRATCH = "scratch"
"""The folder of a run that nobody needs once it is over."""
_RESULTS = ("logs", "outputs", "workspace")
MAX_REPORTED_CHARACTERS = 64 << 10
"""A longer output parameter is not reported; the tasks after it get it whole."""


@dataclass(frozen=True)
class Order:
    """What is to be run."""

    run_id: str
    spec: Path
    parameters: Mapping[str, JsonValue]
    folder: Path

    @classmethod
    def read(cls, line: bytes) -> Order:
        """Reads the line that a runner is given."""
        said = mapping(load_json(line))
        return cls(str(said["run_id"]), Path(str(said["spec"])), mapping(said["parameters"]), Path(str(said["folder"])))


class Channel:
    """The line to the parent: whole lines, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @classmethod
    def instead_of_stdout(cls) -> Channel:
        """Takes over the standard output; what is printed goes to the standard error from now on."""
        descriptor = os.dup(1)
        os.dup2(2, 1)
        return cls(descriptor)

    def task(self, report: TaskReport) -> None:
        """Tells how a task stands."""
        artifacts = [
            {"name": one.name, "type": one.type, "path": one.path, "metadata": dict(one.metadata)}
            for one in report.artifacts
        ]
        parameters = {name: _reportable(value) for name, value in report.parameters.items()}
        line = {"task": report.name, "state": report.state.value, "error": report.error}
        self._send({**line, "parameters": parameters, "artifacts": artifacts})

    def run(self, outcome: Outcome) -> None:
        """Tells how the run has ended."""
        self._send({"run": outcome.state.value, "error": outcome.told()})

    def _send(self, message: object) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


def _reportable(value: object) -> object:
    size = len(json.dumps(value))
    return value if size <= MAX_REPORTED_CHARACTERS else f"(left out: {size} characters)"


def main() -> int:
    """Executes the run that it is told of; returns the exit code."""
    channel = Channel.instead_of_stdout()
    order = Order.read(sys.stdin.buffer.readline())
    mark = os.environ.get(VARIABLE, f"{uuid.uuid4()}/").rstrip("/")
    threading.Thread(target=_end_with_parent, args=(order.folder, mark), daemon=True).start()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopped.set())
    outcome = execute(order, channel, stopped, mark)
    if outcome.state is not State.CANCELED:
        channel.run(outcome)
    return 0


def execute(order: Order, channel: Channel, stopped: threading.Event, mark: str) -> Outcome:
    """Executes a run.

    Args:
        order: What is to be run.
        channel: Is told of the tasks.
        stopped: Is set when nothing more is to be started.
        mark: What the run's processes are known by.
    """
    try:
        pipeline = read_pipeline(_document(order.spec))
        if reason := refusal(pipeline):
            return Outcome(State.FAILED, reason)
        return _run(order, pipeline, channel, stopped, mark)
    except SpecError as error:
        return Outcome(State.FAILED, str(error))
    except OSError as error:
        return Outcome(State.FAILED, f"this server could not run it: {error}")


def _document(path: Path) -> JsonValue:
    try:
        return load_json(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise SpecError(f"the pipeline's spec cannot be read: {error}") from None


def _run(order: Order, pipeline: Pipeline, channel: Channel, stopped: threading.Event, mark: str) -> Outcome:
    # A run that is tried again begins anew.
    for name in (*_RESULTS, SCRATCH):
        shutil.rmtree(order.folder / name, ignore_errors=True)
    names = _names(order, pipeline)
    place = Place(order.folder, order.folder / SCRATCH, os.environ, mark, max(2, os.cpu_count() or 2))
    leaf = ComponentRunner(place, report=channel.task, stopped=stopped, names=names)
    return run_pipeline(pipeline, order.parameters, leaf, report=channel.task, stopped=stopped, names=names)


def _names(order: Order, pipeline: Pipeline) -> dict[str, str]:
    """What KFP's placeholders for the run stand for."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    workspace = order.folder / "workspace"
    workspace.mkdir(exist_ok=True)
    return {
        "pipeline_job_name": pipeline.pipeline_info.get("name", ""),
        "pipeline_job_resource_name": pipeline.pipeline_info.get("name", ""),
        "pipeline_job_uuid": order.run_id,
        "pipeline_root": str(order.folder / "outputs"),
        "pipeline_job_create_time_utc": now,
        "pipeline_job_schedule_time_utc": now,
        "workspace_path": str(workspace),
    }


def _end_with_parent(folder: Path, mark: str) -> None:
    while os.read(0, 1 << 10):
        pass
    end_family(f"{mark}/")
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())

"""Executes one run, in its own process.

It reads one line of JSON from its standard input: the fields of `Order`. It never uses files of another run. Its
standard output is lines of JSON: a `TaskReport` whenever a task begins or ends, 1 or -1 to request or release a slot,
and at last the report of the whole run. SIGTERM stops it early, without a last line. When its standard input is closed,
its parent has exited, and it kills itself and all processes that it started.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from kfadapter_embedded.execution import SCRATCH, WHOLE, State, Steps, TaskReport

from .attempts import AttemptFolders
from .command import Start, in_container
from .component import ComponentRunner
from .dag import run_pipeline
from .environment import VARIABLE, end_containers, end_family
from .kept import Kept
from .outcome import Outcome
from .placeholders import WORKSPACE
from .places import Store, root_of
from .processes import Processes
from .refusals import leaves, refusal
from .spec import Pipeline, SpecError, read_pipeline
from .task_api import entries
from .values import load_json

_KEPT = "results"
_MADE = ("logs", "outputs", "workspace", _KEPT)
_GRACE_SECONDS = 2.0
MAX_REPORTED_CHARACTERS = 64 << 10
"""A longer parameter is not reported; the tasks that take it get it whole."""
MAX_REPORTED = 2 << 20
"""The characters of all inputs or outputs of a task that are reported."""


class Order(msgspec.Struct):
    """The run to execute: the line that a runner reads; `spec` is the path of a file."""

    run_id: str
    spec: str
    parameters: dict[str, Any]
    folder: str
    again: bool = False
    strict: bool = False
    names: dict[str, str] = {}
    pipeline_root: str = ""
    steps: Steps = Steps.AUTO
    cache: str = ""


class Room:
    """Slots for processes, granted by the parent: each byte that it sends is one slot."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._granted = threading.Semaphore(0)

    def follow_parent(self) -> None:
        """Receives the slots that the parent grants; returns when the parent has exited."""
        while granted := os.read(0, 1 << 10):
            self._granted.release(len(granted))

    def __enter__(self) -> None:
        self._channel.send(1)
        self._granted.acquire()

    def __exit__(self, *_: object) -> None:
        self._channel.send(-1)


class Channel:
    """The output to the parent: whole lines, from any thread. From now on, `print` writes to the standard error."""

    def __init__(self) -> None:
        self._descriptor = os.dup(1)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def report(self, report: TaskReport) -> None:
        self.send({**vars(report), "details": {name: _reportable(value) for name, value in report.details.items()}})

    def send(self, message: object) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


def _reportable(details: object) -> object:
    """Inputs or outputs, without values that are too large to be reported, by themselves or in total."""
    if not isinstance(details, dict) or not details.keys() <= {"parameters", "artifacts"}:
        return details
    left, shown = MAX_REPORTED, dict(details)
    shown["parameters"] = [dict(one) for one in details.get("parameters", ())]
    for entry in shown["parameters"]:
        size = len(json.dumps(entry["value"]))
        if size > min(MAX_REPORTED_CHARACTERS, left):
            entry["value"] = f"(left out: {size} characters)"
        else:
            left -= size
    return {name: entries for name, entries in shown.items() if entries}


def main() -> int:
    """Executes the run of its standard input; returns the exit code."""
    channel = Channel()
    order = msgspec.convert(load_json(sys.stdin.buffer.readline()), Order)
    folder = Path(order.folder)
    mark = os.environ.get(VARIABLE, f"{uuid.uuid4()}/").rstrip("/")
    room = Room(channel)
    threading.Thread(target=_end_with_parent, args=(room, folder, mark), daemon=True).start()
    stopped = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        stopped.set()
        # The signal may have been sent to this process only.
        rest = threading.Timer(_GRACE_SECONDS, _end_all, [folder, mark])
        rest.daemon = True
        rest.start()

    signal.signal(signal.SIGTERM, stop)
    outcome = _execute(order, channel, room, stopped, mark)
    if outcome.state is not State.CANCELED:
        details = {"outputs": entries(outcome.values)}
        channel.report(TaskReport(WHOLE, outcome.state, outcome.told(), details=details))
    return 0


def _execute(order: Order, channel: Channel, room: Room, stopped: threading.Event, mark: str) -> Outcome:
    """Executes a run, whose processes carry the mark, until it has ended or is stopped."""
    try:
        document = load_json(Path(order.spec).read_bytes())
    except (ValueError, RecursionError) as error:
        return Outcome(State.FAILED, f"the pipeline's spec cannot be read: {error}")
    try:
        pipeline = read_pipeline(document)
        containers, no_engine = _containers(pipeline, order, mark, stopped)
        if reason := refusal(pipeline, order.steps, no_engine):
            return Outcome(State.FAILED, reason)
        folder = Path(order.folder)
        for name in (SCRATCH,) if order.again else (*_MADE, SCRATCH):
            shutil.rmtree(folder / name, ignore_errors=True)
        workspace = folder / "workspace"
        workspace.mkdir(exist_ok=True)
        names = {**order.names, WORKSPACE: str(workspace)}
        root = order.pipeline_root or pipeline.default_pipeline_root
        store = Store(folder / "outputs", root_of(root, pipeline.pipeline_info.get("name", ""), order.run_id))
        attempts = AttemptFolders(store)
        components = ComponentRunner(
            folder,
            processes=Processes(mark, stopped, attempts),
            containers=containers,
            steps=order.steps,
            room=room,
            report=channel.report,
            stopped=stopped,
            names=names,
            store=store,
            attempts=attempts,
        )
        leaf = Kept(components, folder / _KEPT, Path(order.cache) if order.cache else None)
        with _deadline(pipeline.active_deadline_seconds) as is_over:
            outcome = run_pipeline(
                pipeline,
                order.parameters,
                leaf,
                report=channel.report,
                stopped=stopped,
                names=names,
                strict=order.strict,
            )
        late = f"it ran for longer than its deadline of {pipeline.active_deadline_seconds:g} s"
        return Outcome(State.FAILED, late) if is_over.is_set() else outcome
    except SpecError as error:
        return Outcome(State.FAILED, str(error))
    except OSError as error:
        return Outcome(State.FAILED, f"this server could not run it: {error}")


@contextmanager
def _deadline(seconds: float) -> Iterator[threading.Event]:
    """Stops the run after some seconds, 0 for never, as a termination does; the event reports whether it did."""
    is_over = threading.Event()

    def stop() -> None:
        is_over.set()
        os.killpg(0, signal.SIGTERM)

    timer = threading.Timer(seconds, stop)
    if seconds:
        timer.start()
    try:
        yield is_over
    finally:
        timer.cancel()


def _containers(pipeline: Pipeline, order: Order, mark: str, stopped: threading.Event) -> tuple[Start | None, str]:
    """Finds an engine if steps need one: a `Start` that runs steps in containers, or why there is none."""
    if not any(
        in_container(one, order.steps) for _, component in leaves(pipeline) if (one := component.executor.container)
    ):
        return None, ""
    # Importing it takes longer than most runs.
    from .containers import Containers, NoEngineError, find_engine  # noqa: PLC0415

    try:
        engine = find_engine(os.environ)
    except NoEngineError as error:
        return None, str(error)
    return Containers(engine, Path(order.folder), mark, stopped), ""


def _end_all(folder: Path, mark: str) -> None:
    end_family(f"{mark}/")
    end_containers(folder / SCRATCH)


def _end_with_parent(room: Room, folder: Path, mark: str) -> None:
    room.follow_parent()
    _end_all(folder, mark)
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    # At once: the parent removes the files that are left, and the interpreter's own end takes as long as a small step.
    os._exit(main())

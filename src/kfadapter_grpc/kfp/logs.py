"""Logs of tasks.

KFP does not check permissions when it serves logs. So the run is always read first, with the caller's credentials if
they are forwarded, and no log is read if KFP denies that.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.artifacts import ReadArtifactRequest
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import LogNote, LogPiece, ReadLogsRequest, RunState, RunTask
from kfadapter_grpc.kfp.artifact_bytes import READ_ERRORS, ArtifactBytes
from kfadapter_grpc.kfp.error_table import NO_SUCH_RUN, Context
from kfadapter_grpc.kfp.failures import KfpFailureError
from kfadapter_grpc.kfp.log_sources import (
    CONTAINER,
    KFP,
    KUBERNETES,
    MAIN_LOGS,
    LogSources,
    NoLogError,
    PodLogs,
    SentLog,
)
from kfadapter_grpc.kfp.rest import Rest, explained
from kfadapter_grpc.kfp.run_nodes import Pod
from kfadapter_grpc.kfp.run_reader import RunReader

TAIL_LINES = 20
"""How many lines the tail of a log has."""
TAIL_SECONDS = 0.3
_TAIL_BYTES = 8 * 1024
_TAIL_THREADS = 8
_WHY_CHARACTERS = 500
_FIRST_PAUSE_SECONDS, _PAUSE_FACTOR, _MAX_PAUSE_SECONDS = 0.25, 1.5, 5.0
_MAX_READING_SHARE = 0.2  # of a follow that has to read the whole log each time
_MAX_REST_SECONDS = 30.0
_MAX_FAILURES = 5
_LOOK_SECONDS = 30.0
_DID_NOT_RUN = frozenset({RunState.SKIPPED, RunState.OMITTED})
_SWITCH_ON = (
    "for later runs have Argo archive logs: `archiveLogs: true` under `artifactRepository` in the ConfigMap "
    "workflow-controller-configmap"
)
_POD_LOGS = "or let the adapter read the logs of pods (deploy/components/pod-logs)"


@dataclass(frozen=True, slots=True)
class _TaskState:
    """The current state of a task of a run, with the pods of its attempts; all have finished if the run has.

    Attributes:
        path: The task's path, which names it in messages.
        stored: The logs that KFP's launcher stored as artifacts, if KFP itself names them.
    """

    run_id: str
    run_is_over: bool
    task: RunTask
    path: str
    attempts: tuple[Pod, ...]
    stored: Sequence[tuple[RunArtifact, str]] = ()


class RunLogs:
    """The logs of the tasks of runs. Safe to use from many threads."""

    def __init__(self, rest: Rest, reader: RunReader, pod_logs: PodLogs | None, artifact_bytes: ArtifactBytes) -> None:
        self._reader = reader
        self._bytes = artifact_bytes
        self._sources = LogSources(rest, pod_logs)
        self._threads = ThreadPoolExecutor(_TAIL_THREADS, "log-tails")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def read(self, request: ReadLogsRequest, call: Call) -> Iterator[Iterator[LogPiece]]:
        state = self._find(request.run_id, request.task, request.iteration_index, call)
        count, attempt = len(state.attempts), request.attempt
        if not count:
            raise _not_started(state)
        if attempt > count:
            attempts = "one attempt" if count == 1 else f"{count} attempts"
            text = f"is {attempt}; task '{state.path}' has {attempts} so far"
            raise errors.InvalidFieldError.of("attempt", text)
        index = (attempt or count) - 1
        if request.follow:
            chunks = self._follow(state, index, call, goes_on=not attempt)
        else:
            chunks = self._remaining(state, index, SentLog(), call)
        with closing(chunks):
            yield chunks

    def tails(self, run_id: str, pods: Mapping[str, Pod], call: Call) -> Mapping[str, str]:
        """Reads the last lines of logs, concurrently and within `TAIL_SECONDS`; failed ones are omitted."""
        limited = call.detached(TAIL_SECONDS)
        tasks = {self._threads.submit(self._tail, run_id, pod, limited): key for key, pod in pods.items()}
        done, pending = wait(tasks, TAIL_SECONDS)
        for future in pending:
            future.cancel()
        return {tasks[future]: future.result() for future in done if future.result()}

    def _tail(self, run_id: str, pod: Pod, call: Call) -> str:
        tail = b""
        with suppress(errors.AdapterError, NoLogError, KfpFailureError):
            with closing(self._sources.read(run_id, pod, SentLog(), call, tail=TAIL_LINES)) as chunks:
                for chunk in chunks:
                    tail = (tail + chunk)[-_TAIL_BYTES:]
            lines = tail.decode("utf-8", "replace").rstrip().split("\n")
            return "\n".join(line.rstrip("\r") for line in lines[-TAIL_LINES:])
        return ""

    def _find(self, run_id: str, task: str, iteration_index: int | None, call: Call) -> _TaskState:
        run, nodes = self._reader.read(run_id, call, for_logs=True)
        is_over = run.effective_state.is_over
        if nodes.refused is not None:
            raise nodes.refused
        if nodes.unreadable:
            text = f"the pods of run {run_id} are not known: {nodes.unreadable}; use kubectl logs"
            raise errors.UnsupportedByKfpError(text)
        paths = TaskPaths(nodes.tasks)
        matched = paths.find(task, iteration_index)
        pods = (replace(pod, is_over=pod.is_over or is_over) for pod in nodes.pods(matched.task_id))
        logs = nodes.logs(matched.task_id)
        return _TaskState(run_id, is_over, matched, paths.of(matched), tuple(pods), logs)

    def _refresh(self, state: _TaskState, call: Call) -> _TaskState:
        with call.within(_LOOK_SECONDS) as part:
            try:
                return self._find(state.run_id, state.task.task_id, None, part)
            except errors.UnsupportedByKfpError as error:
                text = f"whether the task continues cannot be read: {error.message}"
                raise errors.KfpUnavailableError(text) from error

    def _remaining(self, state: _TaskState, index: int, sent: SentLog, call: Call) -> Generator[LogPiece, None, None]:
        """Yields what has not been sent yet; a note at the end if the log is incomplete."""
        pod = state.attempts[index]
        with explained(Context.by_id("run_id", state.run_id)):
            try:
                refusals = yield from self._sources.read(state.run_id, pod, sent, call)
            except NoLogError as error:
                yield LogNote(f"the log ends here, although there is more: {error.why[:_WHY_CHARACTERS]}")
                return
        if refusals and not sent.count:
            missing = _missing_log(state, pod, refusals)
            yield from self._stored(self._stored_log(state, index, call), missing, call)
            return
        if refusals:
            yield LogNote(
                "the log was read while the task ran, and ends here; whether more was written is unknown, as it "
                "cannot be read again as it was"
            )

    def _stored_log(self, state: _TaskState, index: int, call: Call) -> tuple[RunArtifact, str] | None:
        """Finds the stored log of a finished attempt; None if there is none, or it is unknown which one.

        ML Metadata is read only now, when no other source has the log.
        """
        if not state.attempts[index].is_over:
            return None
        stored = state.stored
        if not stored:
            with call.within(_LOOK_SECONDS) as part:
                stored = self._reader.recorded_logs(state.run_id, state.task.task_id, part)
        if len(stored) != len(state.attempts):
            return stored[-1] if stored and state.run_is_over and index == len(state.attempts) - 1 else None
        is_overwritten = any(later.uri == stored[index][0].uri for later, _ in stored[index + 1 :])
        return None if is_overwritten else stored[index]

    def _stored(
        self, log: tuple[RunArtifact, str] | None, missing: errors.AdapterError, call: Call
    ) -> Generator[LogPiece, None, None]:
        if log is None:
            raise missing
        artifact, session = log
        sent = False
        try:
            with self._bytes.read(
                artifact, ReadArtifactRequest(artifact.run_id, artifact.artifact_id), call, session
            ) as parts:
                for part in parts:
                    if isinstance(part, bytes):
                        sent = True
                        yield part
        except READ_ERRORS as error:
            if sent:
                yield LogNote(f"the log ends here, although there is more: {error.message[:_WHY_CHARACTERS]}")
                return
            raise missing from error

    def _follow(self, state: _TaskState, index: int, call: Call, *, goes_on: bool) -> Generator[LogPiece, None, None]:
        """Yields the log until the task has finished, from one attempt to the next if it `goes_on`."""
        current: _TaskState | None = state
        while current is not None:
            yield from self._follow_attempt(current, index, call)
            index += 1
            current = self._next_attempt(current, index, call) if goes_on else None

    def _follow_attempt(self, state: _TaskState, index: int, call: Call) -> Generator[LogPiece, None, None]:
        sent, pauses = SentLog(), _Backoff(call)
        while not state.attempts[index].is_over:
            count, started_at = sent.count, time.monotonic()
            with pauses.bridging(), explained(Context.by_id("run_id", state.run_id)), suppress(NoLogError):
                yield from self._sources.read(state.run_id, state.attempts[index], sent, call, live=True)
            seconds = time.monotonic() - started_at if sent.source == KFP else 0  # the route serves all of it each time
            pauses.wait(moved=sent.count > count, reading_seconds=seconds)
            with pauses.bridging():
                latest = self._refresh(state, call)
                state = latest if index < len(latest.attempts) else state
        yield from self._remaining(state, index, sent, call)

    def _next_attempt(self, state: _TaskState, index: int, call: Call) -> _TaskState | None:
        pauses = _Backoff(call)
        while True:
            with pauses.bridging():
                state = self._refresh(state, call)
                if index < len(state.attempts):
                    return state
                if state.run_is_over or state.task.state.is_over or len(state.attempts) < index:
                    return None
            pauses.wait(moved=False)


class _Backoff:
    """The pauses of a follow, and how many outages it bridges."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._seconds = _FIRST_PAUSE_SECONDS
        self._failures = 0

    @contextmanager
    def bridging(self) -> Iterator[None]:
        """Ignores outages, unless they last."""
        try:
            yield
        except (errors.KfpUnavailableError, errors.KfpTimeoutError):
            self._failures += 1
            if self._failures >= _MAX_FAILURES or self._call.remaining() <= 0:
                raise
        else:
            self._failures = 0

    def wait(self, *, moved: bool, reading_seconds: float = 0) -> None:
        """Waits: briefly if something `moved`, and long compared with the time that reading took."""
        self._seconds = _FIRST_PAUSE_SECONDS if moved else min(self._seconds * _PAUSE_FACTOR, _MAX_PAUSE_SECONDS)
        seconds = max(self._seconds, min(reading_seconds / _MAX_READING_SHARE, _MAX_REST_SECONDS))
        self._call.pause(min(seconds, self._call.remaining()))


# --- why there is no log, and what to do ----------------------------------------------------------------------------


def _missing_log(state: _TaskState, pod: Pod, refusals: Mapping[str, NoLogError]) -> errors.AdapterError:
    run_id = state.run_id
    message = refusals[KFP].why if KFP in refusals else ""
    if f"Run {run_id} not found" in message:
        text = NO_SUCH_RUN.format(subject=f"{run_id}")
        return errors.RunNotFoundError(text, metadata={"run_id": run_id}, resource_name=run_id)
    if waiting := next((refusal.why for refusal in refusals.values() if "waiting to start" in refusal.why), ""):
        return _not_started(state, waiting)
    if "empty runtime workflow manifest" in message or state.task.state in _DID_NOT_RUN | {RunState.PENDING}:
        return _not_started(state)
    metadata = {"run_id": run_id, "task": state.path, "pod_name": pod.name, "namespace": pod.namespace}
    kubernetes = refusals[KUBERNETES].why if KUBERNETES in refusals else ""
    text = f"no log of task '{state.path}' of run {run_id}: {_reason(pod, message, kubernetes)}"
    known = {key: value for key, value in metadata.items() if value}
    return errors.UnsupportedByKfpError(text, metadata=known, resource_name=state.path)


def _not_started(state: _TaskState, why: str = "") -> errors.TaskNotFoundError:
    """The error for a task without a pod, or with one whose container has not started."""
    task = state.task
    name = f"task '{state.path}' of run {state.run_id}"
    if task.kind.is_group:
        text = f"{name} is a group of tasks, which has no log; name one of its tasks"
    elif task.cached:
        text = f"{name} was not executed, as its result came from the cache; it has no log"
    elif task.state in _DID_NOT_RUN:
        text = f"{name} did not run, so it has no log"
    elif task.state.is_over:
        text = f"{name} had no pod, so it has no log; its state is {task.state.value}"
    else:
        reason = why or "; ".join(task.warnings) or task.error
        text = f"{name} has not begun{f' ({reason})' if reason else ''}; try again when it has"
    metadata = {"run_id": state.run_id, "task": state.path}
    return errors.TaskNotFoundError(text, metadata=metadata, resource_name=state.path)


def _reason(pod: Pod, message: str, kubernetes: str) -> str:
    """Why there is no log, by the messages of KFP's route and of the Kubernetes API."""
    kubectl = f"`kubectl logs -n {pod.namespace or 'NAMESPACE'} {pod.name} -c {CONTAINER}`"
    if message.startswith("HTTP ") or not message:
        return f"Kubeflow Pipelines does not serve logs at this address ({message or 'no response'}); use {kubectl}"
    if not pod.is_over:
        return (
            "the task runs, and Kubeflow Pipelines serves its log only when it has been archived; follow it to get it "
            f"then, use {kubectl}, {_POD_LOGS}"
        )
    if MAIN_LOGS in pod.artifacts:
        return f"it was archived, but cannot be read from the object store; while its pod exists, use {kubectl}"
    if "not found" in kubernetes or "NotFound" in kubernetes:
        return f"its pod was deleted, and it was not archived; {_SWITCH_ON}"
    return f"it was not archived; while its pod exists, use {kubectl}, {_POD_LOGS}; {_SWITCH_ON}"

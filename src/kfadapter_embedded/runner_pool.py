"""Executes a limited number of runs at once in child processes; the rest wait in the order of submission."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

import msgspec

from kfadapter_grpc.child_output import Tail, piped

from .execution import OVER, SCRATCH, WHOLE, Job, State, Steps, TaskReport
from .runner.environment import ARTIFACT_STORES, VARIABLE, end_containers, end_family
from .slots import Slots

_log = logging.getLogger(__name__)
_RUNNER = (sys.executable, "-m", "kfadapter_embedded.runner.run")
_SPEC = "pipeline.json"
MOST_RUNS = 50
"""How many runs are executed at once by default: each has its own process, and the tasks of all share slots."""
_MOST_PROCESSES = 16
_MOST_PER_CORE = 4
_MAX_LINE_BYTES = 8 << 20
_GRACE_SECONDS = 2.0
_CUT_OFF = "cut off: the embedded KFP was stopped while it ran"
_TERMINATED = "terminated on request"
_OWN_SETTINGS = "KFADAPTER_"


class RunnerPool:
    """Executes runs, each in a child process with its own session.

    The child's output lines are its whole interface (see `runner`). When a run is terminated, all of its processes get
    SIGTERM, and SIGKILL two seconds later.
    """

    def __init__(
        self,
        report: Callable[[str, TaskReport], None],
        *,
        most_at_once: int = MOST_RUNS,
        strict: bool = False,
        steps: Steps = Steps.AUTO,
        command: Sequence[str] = _RUNNER,
    ) -> None:
        """Creates a pool; no process is started before the first run.

        Args:
            report: Called with a run's id and a report of the run or one of its tasks: from the pool's threads, in
                order for each run.
            most_at_once: How many runs are executed at once.
            strict: Whether a task fails where it would otherwise get a warning.
            steps: How steps are executed.
            command: The command of the child processes.
        """
        self._tell = report
        self._room = most_at_once
        cores = os.cpu_count() or 1
        # More would only slow each other down: those that wait for something make room.
        self._slots = Slots(max(2, cores), max(_MOST_PROCESSES, _MOST_PER_CORE * cores))
        self._how = {"strict": strict, "steps": steps.value}
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, Job] = OrderedDict()
        self._running: dict[str, _Run] = {}
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def submit(self, job: Job) -> None:
        with self._lock:
            self._waiting[job.run_id] = job
            self._fill()

    def terminate(self, run_id: str) -> None:
        """Terminates a run and all processes that it has started; no error if it has finished. Does not wait."""
        with self._lock:
            if self._waiting.pop(run_id, None):
                self._start(self._report, run_id, TaskReport(WHOLE, State.CANCELED, _TERMINATED))
            if run := self._running.get(run_id):
                self._start(run.end, TaskReport(WHOLE, State.CANCELED, _TERMINATED))

    def close(self) -> None:
        """Stops all runs, which are reported as FAILED, and waits until they have ended.

        Runs that are waiting are not reported: they can be submitted again elsewhere.
        """
        with self._lock:
            self._closed = True
            self._waiting.clear()
            for run in self._running.values():
                self._start(run.end, TaskReport(WHOLE, State.FAILED, _CUT_OFF))
        while threads := self._current_threads():
            for thread in threads:
                thread.join()

    def _current_threads(self) -> set[threading.Thread]:
        with self._lock:
            return {one for one in self._threads if one is not threading.current_thread()}

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._room and not self._closed:
            run_id, job = self._waiting.popitem(last=False)
            run = self._running[run_id] = _Run(job, self._command, self._report, self._how, self._slots)
            self._start(self._execute, run)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        def follow() -> None:
            try:
                target(*arguments)
            finally:
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=follow, name="kfadapter-run", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _execute(self, run: _Run) -> None:
        run_id = run.job.run_id
        self._report(run_id, TaskReport(WHOLE, State.RUNNING))
        try:
            end = run.execute()
        except Exception:  # noqa: BLE001  # whatever it is, it is logged, and the run must end
            _log.exception("a run could not be executed")
            end = TaskReport(WHOLE, State.FAILED, "this server could not run it; its log has the reason")
        # A client may submit the run again as soon as the end is reported.
        with self._lock:
            del self._running[run_id]
            self._fill()
        self._report(run_id, end)

    def _report(self, run_id: str, report: TaskReport) -> None:
        """Reports. A failing report must neither end the run nor occupy its slot forever."""
        try:
            self._tell(run_id, report)
        except Exception:  # noqa: BLE001  # whatever it is, it is logged
            _log.exception("a run's progress could not be stored")


class _Run:
    """A run and its child process."""

    def __init__(
        self,
        job: Job,
        command: Sequence[str],
        report: Callable[[str, TaskReport], None],
        how: Mapping[str, object],
        slots: Slots,
    ) -> None:
        self.job = job
        self._how = how
        self._slots = slots
        self._folder = job.folder.absolute()
        self._command = command
        self._report = report
        self._mark = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._end: TaskReport | None = None
        self._active: dict[str, None] = {}

    def execute(self) -> TaskReport:
        """Executes the run; returns its final report."""
        try:
            end = self._follow()
        except (OSError, ValueError) as fault:
            end = TaskReport(WHOLE, State.FAILED, f"this server could not run it: {fault}")
        finally:
            self._over.set()
            end_family(f"{self._mark}/")
            end_containers(self._folder / SCRATCH)
            shutil.rmtree(self._folder / SCRATCH, ignore_errors=True)
        if self._end and end.state is not State.SUCCEEDED:
            end = self._end
        # Tasks that were still running ended with the run.
        state = State.FAILED if end.state is State.SUCCEEDED else end.state
        for name in reversed(self._active):
            self._report(self.job.run_id, TaskReport(name, state, end.error))
        return end

    def end(self, end: TaskReport) -> None:
        """Ends the run with this report, and waits until it has ended."""
        with self._lock:
            self._end = self._end or end
        self._slots.leave(self._grant)
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            if self._over.wait(_GRACE_SECONDS):
                return
            end_family(f"{self._mark}/")

    def _signal(self, number: signal.Signals) -> None:
        """Sends a signal to the whole process group, while it is certain to be that of this child."""
        with self._lock:
            if self._child and self._child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._child.pid, number)

    def _follow(self) -> TaskReport:
        spec = self._folder / _SPEC
        spec.write_bytes(self.job.spec)
        with self._lock:
            if self._end:
                return self._end
            child = self._child = self._started()
        output = Tail(piped(child.stderr))
        job = self.job
        order = {**vars(job), "spec": str(spec), "folder": str(self._folder), "cache": str(job.cache or "")}
        with child:
            try:
                line = json.dumps({**order, **self._how}).encode()
                # If the child has already exited, the end of its output shows it.
                with contextlib.suppress(BrokenPipeError):
                    piped(child.stdin).write(line + b"\n")
                    piped(child.stdin).flush()
                try:
                    end = self._read(piped(child.stdout))
                finally:
                    self._slots.leave(self._grant)
            except BaseException:
                self._signal(signal.SIGKILL)
                raise
            code = self._reaped(child)
        return end or TaskReport(WHOLE, State.FAILED, _unexpected_end(code, output.text()))

    def _started(self) -> subprocess.Popen[bytes]:
        # The child downloads artifacts with the adapter's settings for artifact stores; steps get none of these.
        settings = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_OWN_SETTINGS) or name == ARTIFACT_STORES
        }
        return subprocess.Popen(  # noqa: S603  # this interpreter and this package
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=self._folder,
            env={**settings, "PYTHONSAFEPATH": "1", VARIABLE: f"{self._mark}/"},
        )

    def _read(self, stream: IO[bytes]) -> TaskReport | None:
        """Reports the tasks that the child writes; returns the run's final report, if the child writes it."""
        end = None
        for line in _lines(stream):
            if isinstance(line, int):
                self._change_slots(line)
            elif line.name == WHOLE and line.state in OVER:
                end = line
            elif self._end and line.state not in {State.SUCCEEDED, State.CACHED}:
                # The cause of such states is that the run is being ended: `execute` reports them with the right error.
                continue
            else:
                if line.state is State.RUNNING and line.name != WHOLE:
                    self._active[line.name] = None
                else:
                    self._active.pop(line.name, None)
                self._report(self.job.run_id, line)
        return end

    def _change_slots(self, change: int) -> None:
        """Releases a slot, or requests one: granted at once if the run is being ended, since it then starts nothing."""
        if change < 0:
            self._slots.release(self._grant)
        elif self._end:
            self._grant()
        else:
            self._slots.request(self._grant)

    def _grant(self) -> None:
        """Grants the child, if it is still running, one more slot."""
        if self._child:
            with contextlib.suppress(OSError):
                os.write(piped(self._child.stdin).fileno(), b".")

    def _reaped(self, child: subprocess.Popen[bytes]) -> int:
        """Waits for a child that has closed its standard output; returns its exit code."""
        piped(child.stdin).close()
        try:
            return child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            return child.wait()


def _lines(stream: IO[bytes]) -> Iterator[TaskReport | int]:
    """The reports of a child, and the slots that it requests (1) or releases (-1); or ValueError for another line."""
    while line := stream.readline(_MAX_LINE_BYTES):
        try:
            # Its numbers may be NaN, which msgspec does not accept.
            message = json.loads(line if line.endswith(b"\n") else b"")
            yield message if isinstance(message, int) else msgspec.convert(message, TaskReport)
        except (ValueError, msgspec.ValidationError):
            raise ValueError(f"its runner sent an invalid message: {line[:80]!r}") from None


def _unexpected_end(code: int, output: str) -> str:
    ending = f"signal {-code}, {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its runner ended without a result ({ending}){f': {output}' if output else ''}"

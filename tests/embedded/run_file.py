"""Runs a compiled pipeline in the runner pool and prints its progress: `run_file.py FILE [PARAMETERS AS JSON]`."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kfadapter_embedded.execution import WHOLE, Job, State, TaskReport
from kfadapter_embedded.runner_pool import RunnerPool

if TYPE_CHECKING:
    from collections.abc import Mapping


def served_spec(text: str) -> bytes:
    """A compiled file as KFP serves it."""
    pipeline, *platform = list(yaml.safe_load_all(text))
    return json.dumps({"pipeline_spec": pipeline, "platform_spec": platform[0]} if platform else pipeline).encode()


def parameters_of(report: TaskReport) -> dict[str, object]:
    """The output parameters of a task."""
    return {one["parameter_key"]: one["value"] for one in _outputs(report).get("parameters", ())}


def artifacts_of(report: TaskReport) -> dict[str, list[dict[str, Any]]]:
    """The output artifacts of a task, including the logs of its attempts."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in _outputs(report).get("artifacts", ()):
        found.setdefault(one["artifact_key"], []).extend(one["artifacts"])
    return found


def _outputs(report: TaskReport) -> dict[str, Any]:
    outputs = report.details.get("outputs", {})
    assert isinstance(outputs, dict)
    return outputs


@dataclass
class Watcher:
    """Stores what is reported, and optionally prints it.

    Attributes:
        reports: The reports of the tasks, in order.
        ends: How runs have finished.
    """

    aloud: bool = False
    started: list[str] = field(default_factory=list)
    reports: list[TaskReport] = field(default_factory=list)
    ends: dict[str, tuple[State, str]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def report(self, run_id: str, report: TaskReport) -> None:
        """The run, or one of its tasks, has started or finished."""
        if self.aloud:
            print(f"{report.state.value:<10} {report.name} {report.error or parameters_of(report) or ''}")  # noqa: T201
        with self.changed:
            if report.name != WHOLE:
                self.reports.append(report)
            elif report.state is State.RUNNING:
                if not report.details:
                    self.started.append(run_id)
            else:
                self.ends[run_id] = (report.state, report.error)
            self.changed.notify_all()

    def wait_end(self, run_id: str, timeout: float = 100) -> tuple[State, str]:
        """Waits until the run has finished."""
        with self.changed:
            assert self.changed.wait_for(lambda: run_id in self.ends, timeout), self.reports
        return self.ends[run_id]

    def wait_task(self, name: str, state: State, timeout: float = 100) -> TaskReport:
        """Waits until a task is in this state."""

        def found() -> TaskReport | None:
            return next((one for one in self.reports if one.name == name and one.state is state), None)

        with self.changed:
            report = self.changed.wait_for(found, timeout)
        assert report is not None, self.reports
        return report

    def last(self, name: str) -> TaskReport:
        """The last report of a task."""
        return [one for one in self.reports if one.name == name][-1]


def run(spec: bytes, folder: Path, parameters: Mapping[str, object] | None = None, *, aloud: bool = False) -> Watcher:
    """Runs a pipeline to its end."""
    watcher = Watcher(aloud=aloud)
    pool = RunnerPool(watcher.report)
    pool.submit(Job("run", spec, parameters or {}, folder))
    watcher.wait_end("run")
    pool.close()
    return watcher


if __name__ == "__main__":
    given = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    made = Path(tempfile.mkdtemp())
    run(served_spec(Path(sys.argv[1]).read_text("utf-8")), made, given, aloud=True)
    print(made)  # noqa: T201

"""Types shared by the store and the executor of runs."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

Parameters: TypeAlias = Mapping[str, object]
SCRATCH: Final = "scratch"
"""The part of a run's folder that is not needed once it has finished."""
EXECUTOR_LOGS: Final = "executor-logs"
"""The output of each task that holds the logs of its attempts."""
_MAX_FILE_NAME = 200
_ITERATION = re.compile(r"\[(\d+)\]")


class State(str, enum.Enum):
    """KFP's states of runs and tasks, as far as they occur here."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELING = "CANCELING"
    CANCELED = "CANCELED"
    CACHED = "CACHED"


class Steps(str, enum.Enum):
    AUTO = "auto"
    """Python components as processes, everything else in containers."""
    PROCESS = "process"
    CONTAINER = "container"


OVER: Final = frozenset({State.SUCCEEDED, State.FAILED, State.SKIPPED, State.CANCELED, State.CACHED})
WHOLE: Final = ""


@dataclass(frozen=True)
class Job:
    """A run to execute, in its own folder for outputs, artifacts and logs, which exists.

    Attributes:
        spec: The version's pipeline spec as KFP returns it: bare, or the wrapper of pipeline and platform spec.
        again: Whether this is a retry: tasks that succeeded are not executed again.
        names: The values of KFP's placeholders for the run, for example `pipeline_job_name`.
        cache: A folder, shared between runs, of results of earlier tasks; None for no cache.
        pipeline_root: The root of its artifacts' URIs, if set.
    """

    run_id: str
    spec: bytes
    parameters: Parameters
    folder: Path
    again: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    cache: Path | None = None
    pipeline_root: str = ""


@dataclass(frozen=True)
class TaskReport:
    """The state of a task or, if the name is `WHOLE`, of the run itself.

    Attributes:
        name: Its path in the pipeline, `train` or `for-loop-1/train`, with the iteration if it runs several times
            (`for-loop-1[0]/train`).
        state: Its state.
        error: Why it failed; empty if it did not.
        message: The same with the message of KFP's driver or launcher.
        attempts: How many times its command has been executed.
        began: Whether KFP's driver would have started it; not so for dependents of a failed or skipped task.
        details: The known fields of KFP's task: `display_name`, `type`, `type_attributes`,
            `cache_fingerprint`, `inputs`, `outputs`.
        warnings: What would behave differently on a cluster, and what to change.
    """

    name: str
    state: State
    error: str = ""
    message: str = ""
    attempts: int = 0
    began: bool = True
    details: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def iteration_of(path: str) -> int | None:
    """The iteration of the innermost loop that a task is in."""
    found = _ITERATION.findall(path)
    return int(found[-1]) if found else None


def task_name(path: str) -> str:
    """KFP's name of the task of a path, unique among its siblings only."""
    return path.rpartition("/")[2].partition("[")[0] or "ROOT"


def log_path(folder: Path, task_name: str, attempt: int = 0) -> Path:
    """The path of the log of a task's attempt: always inside `folder`, whichever characters the name has."""
    name = quote(task_name, safe="")
    if len(name) > _MAX_FILE_NAME:
        # Names with a common beginning, as in deep loops, must not share a log.
        name = f"{name[:_MAX_FILE_NAME]}-{sha256(task_name.encode()).hexdigest()[:16]}"
    return folder / "logs" / name / f"{EXECUTOR_LOGS}-{attempt}"

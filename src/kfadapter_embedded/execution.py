"""What the store and the executor of runs have in common."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

Parameters: TypeAlias = Mapping[str, object]
"""Values of parameters, as JSON holds them."""
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
    """What steps run as."""

    AUTO = "auto"
    """Python components as processes, everything else in containers."""
    PROCESS = "process"
    CONTAINER = "container"


OVER: Final = frozenset({State.SUCCEEDED, State.FAILED, State.SKIPPED, State.CANCELED, State.CACHED})
"""The states of what has finished."""
WHOLE: Final = ""
"""The name of the task that stands for the whole run."""


@dataclass(frozen=True)
class Job:
    """A run that is to be executed.

    Attributes:
        run_id: Its id.
        spec: The version's pipeline spec as KFP serves it: bare, or the wrapper of pipeline and platform spec.
        parameters: The values that the run was given; defaults are the spec's.
        folder: A folder of the run's own, for outputs, artifacts and logs. It exists.
        again: Whether it is retried: tasks that succeeded are not executed again.
        names: What KFP's placeholders for the run stand for, for example `pipeline_job_name`.
        cache: A folder that runs share, by which results of earlier tasks are found; None for no cache.
        pipeline_root: The root of its artifacts' URIs, if it was given one.
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
    """The state of a task, or with the name `WHOLE` of the run itself.

    Attributes:
        name: Its path in the pipeline: `train`, `for-loop-1/train`, and with the iteration where it runs several times
            (`for-loop-1[0]/train`).
        state: Its state.
        error: Why it failed, in words; empty if it did not.
        message: The same in the words of KFP's driver and launcher.
        attempts: How many times its command has been executed.
        began: Whether it got as far as KFP's driver; what depends on a failed or skipped task does not.
        details: Fields of KFP's task as far as they are known: `display_name`, `type`, `type_attributes`,
            `cache_fingerprint`, `inputs`, `outputs`.
        warnings: What a cluster would do differently with it, and what to change.
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
    """What KFP calls the task of a path, unique among its siblings only."""
    return path.rpartition("/")[2].partition("[")[0] or "ROOT"


def log_path(folder: Path, task_name: str, attempt: int = 0) -> Path:
    """Where the log of a task's attempt lies: inside `folder`, whatever the name is made of."""
    name = quote(task_name, safe="")
    if len(name) > _MAX_FILE_NAME:
        # What begins alike, as deep loops do, must not share a log.
        name = f"{name[:_MAX_FILE_NAME]}-{sha256(task_name.encode()).hexdigest()[:16]}"
    return folder / "logs" / name / f"{EXECUTOR_LOGS}-{attempt}"

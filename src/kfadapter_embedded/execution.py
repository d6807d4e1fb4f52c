"""What the store and the executor of runs have in common."""

from __future__ import annotations

import enum
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
_MAX_FILE_NAME = 200


class State(str, enum.Enum):
    """KFP's states of runs and tasks, as far as they occur here."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELING = "CANCELING"
    CANCELED = "CANCELED"


OVER: Final = frozenset({State.SUCCEEDED, State.FAILED, State.SKIPPED, State.CANCELED})
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
        folder: A folder of the run's own, for outputs, artifacts and one log per task. It exists.
    """

    run_id: str
    spec: bytes
    parameters: Parameters
    folder: Path


@dataclass(frozen=True)
class Artifact:
    """A file that a task made. `path` lies in the run's folder; `metadata` holds metrics, among others."""

    name: str
    type: str
    path: str
    metadata: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class TaskReport:
    """How a task stands, or with the name `WHOLE` the run itself.

    Attributes:
        name: Its path in the pipeline: `train`, `for-loop-1/train`, and with the iteration where it runs several times
            (`for-loop-1[0]/train`).
        state: Its state.
        error: Why it failed, in words; empty if it did not.
        parameters: Its output parameters, once it has succeeded.
        artifacts: Its output artifacts, once it has succeeded.
    """

    name: str
    state: State
    error: str = ""
    parameters: Parameters = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()


def log_path(folder: Path, task_name: str) -> Path:
    """Where the log of a task lies: inside `folder`, whatever the name is made of."""
    name = quote(task_name, safe="")
    if len(name) > _MAX_FILE_NAME:
        # What begins alike, as deep loops do, must not share a log.
        name = f"{name[:_MAX_FILE_NAME]}-{sha256(task_name.encode()).hexdigest()[:16]}"
    return folder / "logs" / f"{name}.log"

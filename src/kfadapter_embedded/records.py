"""What the store keeps, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .execution import State

OVER: Final = frozenset({State.SUCCEEDED, State.FAILED, State.SKIPPED, State.CANCELED})
"""The states of what has ended."""


@dataclass(frozen=True)
class NewPipeline:
    """A pipeline to be made."""

    name: str
    display_name: str
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NewVersion:
    """A version to be made.

    Attributes:
        spec: the specification as compact JSON text, as KFP serves it.
    """

    name: str
    display_name: str
    spec: str
    description: str = ""
    code_source_url: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pipeline:
    """A stored pipeline.

    Attributes:
        created_at: seconds since 1970, as KFP keeps them.
    """

    id: str
    name: str
    display_name: str
    description: str
    created_at: int
    tags: dict[str, str]


@dataclass(frozen=True)
class Version:
    """A stored version, without its specification, which may be large.

    Attributes:
        created_at: seconds since 1970, as KFP keeps them.
    """

    id: str
    pipeline_id: str
    name: str
    display_name: str
    description: str
    code_source_url: str
    created_at: int
    tags: dict[str, str]


@dataclass(frozen=True)
class Experiment:
    """A stored experiment.

    Attributes:
        created_at: seconds since 1970, as KFP keeps them.
        last_run_created_at: the same; 0 if it never had a run.
    """

    id: str
    name: str
    description: str
    archived: bool
    created_at: int
    last_run_created_at: int


@dataclass(frozen=True)
class Origin:
    """Where a pipeline to run comes from: a version of a pipeline, or nothing but the spec that was sent along.

    Attributes:
        version_id: Empty where the latest version is meant.
    """

    pipeline_id: str = ""
    version_id: str = ""


@dataclass(frozen=True)
class RuntimeConfig:
    """What a run is given.

    Attributes:
        parameters: names and values, as JSON text of an object.
        pipeline_root: where a cluster would put artifacts; kept and shown, no more.
    """

    parameters: str = "{}"
    pipeline_root: str = ""


@dataclass(frozen=True)
class Status:
    """A state, and when it was taken on, in seconds since 1970."""

    at: int
    state: State


@dataclass(frozen=True)
class NewRun:
    """A run to be made.

    Attributes:
        id: chosen by the caller; empty if not.
        workflow: what its workflow would be called on a cluster, but for the part that makes it unique.
        spec: what is executed, as compact JSON text.
    """

    id: str
    experiment_id: str
    display_name: str
    description: str
    origin: Origin
    config: RuntimeConfig
    service_account: str
    workflow: str
    spec: str


@dataclass(frozen=True)
class Run:
    """A stored run, without the specification, which may be large.

    Attributes:
        created_at: seconds since 1970, as KFP keeps them.
        scheduled_at: the same.
        finished_at: the same; 0 while it is not over.
        workflow: what its workflow would be called on a cluster.
        history: the states it went through; CANCELING is none of them, as with KFP.
        error: why it failed, in words; often its tasks say more.
    """

    id: str
    experiment_id: str
    display_name: str
    description: str
    origin: Origin
    config: RuntimeConfig
    service_account: str
    workflow: str
    archived: bool
    created_at: int
    scheduled_at: int
    finished_at: int
    state: State
    history: tuple[Status, ...]
    error: str

    @property
    def is_over(self) -> bool:
        """Whether it has ended; a retry may start it again."""
        return self.state in OVER


@dataclass(frozen=True)
class Task:
    """A task of a run.

    Attributes:
        name: its path in the pipeline.
        position: which of the run's tasks it is, in the order in which they were first heard of.
        created_at: seconds since 1970.
        ended_at: the same; 0 while it is not over.
    """

    run_id: str
    position: int
    name: str
    state: State
    history: tuple[Status, ...]
    error: str
    created_at: int
    ended_at: int


@dataclass(frozen=True)
class Outputs:
    """What a task has put out, as JSON texts: an object of parameters, and a list of artifacts."""

    parameters: str
    artifacts: str


@dataclass(frozen=True)
class NewRecurringRun:
    """A recurring run to be made.

    Attributes:
        spec: the spec that was sent along, as JSON text; empty where a version is referred to.
        schedule: KFP's trigger, as JSON text.
    """

    experiment_id: str
    display_name: str
    description: str
    origin: Origin
    spec: str
    config: RuntimeConfig
    service_account: str
    max_concurrency: int
    schedule: str
    enabled: bool
    no_catchup: bool


@dataclass(frozen=True)
class RecurringRun:
    """A stored recurring run.

    Attributes:
        created_at: seconds since 1970, as KFP keeps them.
        updated_at: the same.
    """

    id: str
    new: NewRecurringRun
    created_at: int
    updated_at: int

"""Recurring runs: runs that KFP starts by itself, independent of the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from kfadapter_grpc.contract.experiments import ExperimentRef
    from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
    from kfadapter_grpc.contract.spec import Json

MAX_CONCURRENCY = 10
"""How many runs of a recurring run there may be at once (KFP's limit)."""


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """Starts runs by a calendar: five fields, or six with seconds first. Times are in UTC."""

    cron: str
    start_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IntervalSchedule:
    """Starts runs by the clock, every `interval`, whole seconds. Times are in UTC."""

    interval: timedelta
    start_at: datetime | None = None
    end_at: datetime | None = None


Schedule: TypeAlias = CronSchedule | IntervalSchedule
"""When runs are started."""


@dataclass(frozen=True, slots=True)
class RecurringRun:
    """A recurring run.

    Attributes:
        pipeline_version_id: Empty where each start takes the latest version.
        ended: Whether the end of its schedule has passed.
        computed_next_start_at: Its next start as computed from the schedule; None where that does not tell.
    """

    recurring_run_id: str
    display_name: str = ""
    enabled: bool = False
    schedule: Schedule | None = None
    max_concurrency: int = 0
    catch_up: bool = False
    pipeline_id: str = ""
    pipeline_version_id: str = ""
    experiment_id: str = ""
    parameters: Mapping[str, Json] = field(default_factory=dict)
    description: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    namespace: str = ""
    service_account: str = ""
    error: str = ""
    ended: bool = False
    computed_next_start_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CreateRecurringRun:
    """How a recurring run is to be made; everything but the parameters is checked already.

    Attributes:
        pipeline: Which pipeline.
        version: Which version; the latest where none is named.
        schedule: When runs are started.
        experiment: In which experiment; None for the default one.
        parameters: The values for its runs; whole numbers may be floats.
        display_name: What people see; one is made where it is empty.
        description: What it is for.
        max_concurrency: How many of its runs there may be at once.
        catch_up: Whether missed starts are made up for.
        enabled: Whether it starts runs from the beginning.
        service_account: The Kubernetes service account of the tasks; empty means KFP's own.
        namespace: Where.
    """

    pipeline: PipelineRef
    version: VersionRef
    schedule: Schedule
    experiment: ExperimentRef | None = None
    parameters: Mapping[str, Json] = field(default_factory=dict)
    display_name: str = ""
    description: str = ""
    max_concurrency: int = 1
    catch_up: bool = False
    enabled: bool = True
    service_account: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class RecurringRunFilter:
    """Which recurring runs to list; `experiment` is None for those of all."""

    experiment: ExperimentRef | None = None
    namespace: str = ""

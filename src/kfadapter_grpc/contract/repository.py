"""What the services ask of whoever keeps the pipelines, experiments and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.experiments import (
        CreateExperimentRequest,
        Experiment,
        ExperimentRef,
        ListExperimentsRequest,
    )
    from kfadapter_grpc.contract.listing import Page, PageRequest, View
    from kfadapter_grpc.contract.pipelines import (
        DeleteResult,
        DeleteVersionResult,
        ListPipelinesRequest,
        Pipeline,
        PipelineDownload,
        PipelineFile,
        PipelineRef,
        PipelineVersion,
        UploadPipelineMetadata,
        UploadResult,
        VersionRef,
    )
    from kfadapter_grpc.contract.recurring_runs import CreateRecurringRunRequest, ListRecurringRunsRequest, RecurringRun
    from kfadapter_grpc.contract.runs import CreateRunRequest, LogPiece, ReadLogsRequest, Run, RunFilter


class PipelineRepository(Protocol):
    """Keeps pipelines and their versions.

    Every method raises a subclass of `AdapterError` when it fails, and ends when the call's deadline has passed
    or the caller has gone.
    """

    def get(self, ref: PipelineRef, view: View, call: Call) -> Pipeline:
        """Gets one pipeline."""
        ...

    def list(self, where: ListPipelinesRequest, page: PageRequest, call: Call) -> Page[Pipeline]:
        """Lists pipelines."""
        ...

    def upload(self, request: UploadPipelineMetadata, file: PipelineFile, call: Call) -> UploadResult:
        """Stores a file as a new pipeline or a new version."""
        ...

    def download(self, ref: PipelineRef, version: VersionRef, call: Call) -> AbstractContextManager[PipelineDownload]:
        """Gets the file of a version, the latest where none is named; it is good for the block."""
        ...

    def delete(self, ref: PipelineRef, call: Call, *, force: bool, allow_missing: bool) -> DeleteResult:
        """Deletes a pipeline with its versions."""
        ...

    def get_version(self, ref: PipelineRef, version: VersionRef, call: Call) -> PipelineVersion:
        """Gets one version with its spec summary; the latest where none is named."""
        ...

    def delete_version(
        self, ref: PipelineRef, version: VersionRef, call: Call, *, allow_missing: bool
    ) -> DeleteVersionResult:
        """Deletes one version, which must be named."""
        ...

    def list_versions(self, ref: PipelineRef, view: View, page: PageRequest, call: Call) -> Page[PipelineVersion]:
        """Lists the versions of a pipeline."""
        ...


class ExperimentRepository(Protocol):
    """Keeps experiments. What holds for the methods of `PipelineRepository` holds for these."""

    def create(self, request: CreateExperimentRequest, call: Call) -> Experiment:
        """Makes an experiment."""
        ...

    def get(self, ref: ExperimentRef, call: Call) -> Experiment:
        """Gets one experiment."""
        ...

    def list(self, where: ListExperimentsRequest, page: PageRequest, call: Call) -> Page[Experiment]:
        """Lists experiments."""
        ...

    def archive(self, experiment_id: str, call: Call) -> Experiment:
        """Puts an experiment away."""
        ...

    def unarchive(self, experiment_id: str, call: Call) -> Experiment:
        """Takes an experiment back."""
        ...

    def delete(self, experiment_id: str, call: Call, *, allow_missing: bool) -> bool:
        """Deletes an experiment; tells whether there was one."""
        ...


class RunRepository(Protocol):
    """Keeps runs. What holds for the methods of `PipelineRepository` holds for these."""

    def create(self, request: CreateRunRequest, call: Call) -> Run:
        """Starts a run, once for each request id; or only checks whether one could be started."""
        ...

    def get(self, run_id: str, view: View, call: Call) -> Run:
        """Gets one run."""
        ...

    def list(self, where: RunFilter, page: PageRequest, call: Call) -> Page[Run]:
        """Lists runs, without their tasks."""
        ...

    def terminate(
        self, run_id: str, wait_seconds: float, call: Call, seen: Callable[[Run], None] = lambda _: None
    ) -> Run:
        """Stops a run, and waits for at most `wait_seconds` until it is over; `seen` is told how it was before that."""
        ...

    def retry(self, run_id: str, call: Call) -> Run:
        """Runs a failed run again."""
        ...

    def archive(self, run_id: str, call: Call) -> Run:
        """Puts a run away."""
        ...

    def unarchive(self, run_id: str, call: Call) -> Run:
        """Takes a run back."""
        ...

    def delete(self, run_id: str, call: Call, *, allow_missing: bool) -> bool:
        """Deletes a run; tells whether there was one."""
        ...


class RunLogs(Protocol):
    """Reads what the tasks of runs have written. What holds for the methods of `PipelineRepository` holds for these."""

    def read(self, request: ReadLogsRequest, call: Call) -> AbstractContextManager[Iterator[LogPiece]]:
        """Reads the log of a task, in pieces as they come, for as long as the block lasts."""
        ...


class RecurringRunRepository(Protocol):
    """Keeps recurring runs. What holds for the methods of `PipelineRepository` holds for these."""

    def create(self, request: CreateRecurringRunRequest, call: Call) -> RecurringRun:
        """Makes a recurring run."""
        ...

    def get(self, recurring_run_id: str, call: Call) -> RecurringRun:
        """Gets one recurring run."""
        ...

    def list(self, where: ListRecurringRunsRequest, page: PageRequest, call: Call) -> Page[RecurringRun]:
        """Lists recurring runs."""
        ...

    def enable(self, recurring_run_id: str, call: Call) -> RecurringRun:
        """Switches a recurring run on."""
        ...

    def disable(self, recurring_run_id: str, call: Call) -> RecurringRun:
        """Switches a recurring run off."""
        ...

    def delete(self, recurring_run_id: str, call: Call, *, allow_missing: bool) -> bool:
        """Deletes a recurring run; tells whether there was one."""
        ...

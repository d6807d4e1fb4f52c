"""What a request to run a pipeline asks for: checked in KFP's order, with KFP's words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from .bodies import to_json
from .errors import (
    KfpError,
    bad_request,
    context,
    internal_because,
    invalid_input,
    not_found,
)
from .json_requests import object_field, text_field
from .parameters import check_parameters, pipeline_name
from .pipeline_file import NoPipelineError, sent_spec
from .records import NewRun, Origin, RuntimeConfig

if TYPE_CHECKING:
    from .records import Run
    from .store import Store
    from .yaml_documents import JsonValue

DEFAULT_SERVICE_ACCOUNT = "pipeline-runner"
_NO_MANIFEST = "Failed to create a {kind} due to error fetching manifest"
_NEW_RUN = "Failed to create a new run"
_MAX_LENGTHS = {"UUID": 191, "DisplayName": 255, "Description": 255}


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that is to be run.

    Attributes:
        spec: as KFP serves it, as JSON text.
    """

    origin: Origin
    spec: str


def read_new_run(store: Store, body: dict[str, object], experiment_id: str) -> NewRun:
    """Understands a run that is to be made.

    Args:
        store: where its pipeline and experiment are.
        body: the request.
        experiment_id: the one in the address; the one in the body comes first.

    Raises:
        KfpError: there is something wrong with it.
    """
    name, config = text_field(body, "display_name"), runtime_config(body)
    if not name:
        with context("CreateJob(job.ToV2())Failed to create a run due to conversion error"):
            words = "Failed to convert a API run detail to its internal representation"
            raise internal_because(f"{words}: Invalid input error: Run name cannot be empty")
    with context(_NEW_RUN):
        experiment = find_experiment(store, text_field(body, "experiment_id") or experiment_id, "run")
        pipeline = find_pipeline(store, body, "run")
        spec = json.loads(pipeline.spec)
        with context("Failed to generate the ExecutionSpec"), context("invalid pipeline job inputs"):
            check_parameters(spec, json.loads(config.parameters))
        new = NewRun(
            id=text_field(body, "run_id"),
            experiment_id=experiment,
            display_name=name,
            description=text_field(body, "description"),
            origin=pipeline.origin,
            config=config,
            service_account=text_field(body, "service_account") or DEFAULT_SERVICE_ACCOUNT,
            workflow=pipeline_name(spec),
            spec=pipeline.spec,
        )
        _check_lengths(new)
        return new


def duplicate(run: NewRun) -> KfpError:
    """The error for a run whose id is taken."""
    return _not_stored(run, f"Error 1062 (23000): Duplicate entry '{run.id}' for key 'PRIMARY'")


def not_retryable(run: Run) -> KfpError:
    """The error for a run that cannot be executed anew, because it has not failed."""
    reason = f"Failed to retry run {run.id} due to error fetching workflow manifest"
    # What KFP says of a run that has not begun; of one that has, it says the same only in other words.
    return bad_request(reason, "Invalid input error: Workflow manifest cannot be empty")


def runtime_config(body: dict[str, object]) -> RuntimeConfig:
    """What a run is given.

    Raises:
        KfpError: it is not what it should be.
    """
    config = object_field(body, "runtime_config")
    parameters = object_field(config, "parameters")
    return RuntimeConfig(to_json(dict(sorted(parameters.items()))), text_field(config, "pipeline_root"))


def find_experiment(store: Store, experiment_id: str, kind: str) -> str:
    """The id of the experiment that something is to be made in, which is the default one if there is no id.

    Raises:
        KfpError: there is no such experiment.
    """
    if not experiment_id:
        return store.experiments.default().id
    if store.experiments.try_get(experiment_id) is None:
        with (
            context(f"Failed to create a {kind} due to invalid experimentId and namespace combination"),
            context(f"Failed to fetch namespace for experiment {experiment_id}"),
            context(f"Failed to fetch namespace from experiment {experiment_id}"),
        ):
            raise not_found(f"Experiment {experiment_id} not found")
    return experiment_id


def find_pipeline(store: Store, body: dict[str, object], kind: str) -> Pipeline:
    """The pipeline that a request names or brings.

    Raises:
        KfpError: there is none, or it is none.
    """
    reference, document = object_field(body, "pipeline_version_reference"), object_field(body, "pipeline_spec")
    if reference and document:
        raise invalid_input("pipeline_version_reference and pipeline_spec: oneof pipeline_source is already set")
    origin = Origin(text_field(reference, "pipeline_id"), text_field(reference, "pipeline_version_id"))
    if origin != Origin():
        return _referred(store, origin, kind)
    if not document:
        words = "Invalid input error: Failed to fetch a template with an empty pipeline spec manifest"
        raise internal_because(f"{_NO_MANIFEST.format(kind=kind)}: {words}")
    try:
        return Pipeline(origin, sent_spec(cast("dict[str, JsonValue]", document)))
    except NoPipelineError as error:
        with context(_NO_MANIFEST.format(kind=kind)):
            raise invalid_input(str(error)) from None


def _referred(store: Store, origin: Origin, kind: str) -> Pipeline:
    """The version that is meant."""
    version_id = origin.version_id or store.pipelines.try_latest_version_id(origin.pipeline_id) or ""
    version, spec = store.pipelines.try_version(version_id), store.pipelines.try_spec(version_id)
    if version is None or spec is None:
        words = f"{_NO_MANIFEST.format(kind=kind)}: Failed to fetch a template due to error retrieving pipeline version"
        raise internal_because(f"{words}: {_missing(origin)}")
    return Pipeline(Origin(version.pipeline_id, version.id), spec)


def _missing(origin: Origin) -> str:
    if not origin.version_id:
        words = f"Failed to get the latest pipeline version of pipeline {origin.pipeline_id}"
        return f"{words}: ResourceNotFoundError: PipelineVersion of pipeline {origin.pipeline_id} not found"
    version_id = origin.version_id
    layers = (
        f"Failed to fetch a pipeline version and its manifest from pipeline version {version_id}",
        f"Failed to get a pipeline version with id {version_id}",
        f"ResourceNotFoundError: PipelineVersion {version_id} not found",
    )
    return ": ".join(layers)


def _check_lengths(run: NewRun) -> None:
    for column, text in {"UUID": run.id, "DisplayName": run.display_name, "Description": run.description}.items():
        if len(text) > _MAX_LENGTHS[column]:
            raise _not_stored(run, f"Error 1406 (22001): Data too long for column '{column}' at row 1")


def _not_stored(run: NewRun, cause: str) -> KfpError:
    error = internal_because(f"Failed to store run {run.display_name} to table: {cause}")
    return KfpError(error.code, error.reason, f"Failed to create a run: {error.text}")

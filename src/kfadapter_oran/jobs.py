"""Starts the run of a training job, however its request came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.experiments import DEFAULT_EXPERIMENT
from kfadapter_oran.answers import execution_body
from kfadapter_oran.training_arguments import JOB_LABEL, run_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_oran.training_arguments import ArgumentProfile


def start_job(
    client: Client, details: Mapping[str, Json], job: str, profile: ArgumentProfile, request_id: str = ""
) -> dict[str, Json]:
    """Starts a run for a training job.

    Args:
        client: Calls the adapter.
        details: `pipeline_name`, `experiment_name`, `arguments`; `pipeline_version`, a version's name; without it the
            latest version is taken.
        job: The training job; kept in KFP as the run's label `trainingjob_id`.
        profile: How its arguments become those of a run.
        request_id: Under which the same call starts the same run; empty: each call starts one.

    Returns:
        The run, with `run_status` `scheduled`.

    Raises:
        AdapterError: It was not started.
    """
    pipeline_name = _text(details, "pipeline_name")
    version = client.pipelines.get_version(pipeline_name, version_name=_text(details, "pipeline_version"))
    given = details.get("arguments") or {}
    if not isinstance(given, dict):
        raise InvalidFieldError.of("arguments", "must be an object of names and values")
    arguments = run_arguments(given, version.spec.parameters if version.spec else (), profile)
    experiment_name = _text(details, "experiment_name") or DEFAULT_EXPERIMENT
    run = client.runs.create(
        pipeline_id=version.pipeline_id,
        pipeline_version_id=version.pipeline_version_id,
        experiment_name=experiment_name,
        parameters=arguments.values,
        labels={JOB_LABEL: job},
        request_id=request_id,
    )
    return execution_body(
        job,
        run,
        version,
        pipeline_name=pipeline_name,
        experiment_name=experiment_name,
        left_out=arguments.left_out,
    )


def _text(details: Mapping[str, Json], key: str) -> str:
    value = details.get(key)
    if isinstance(value, bool | float | list | tuple | dict):
        raise InvalidFieldError.of(key, "must be a text")
    return "" if value is None else str(value)

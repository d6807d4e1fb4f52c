"""Starts the run of a training job with the arguments that the training manager sends."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.experiments import DEFAULT_EXPERIMENT
from kfadapter_grpc.contract.parameters import typed_values
from kfadapter_oran.responses import execution_body

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.spec import Json, Parameter

JOB_LABEL = "trainingjob_id"
"""The label of a run with the training job that it was started for."""

_RENAMED = {"modelname": "modelName", "modelversion": "modelVersion"}
_FEATURE_PATH = "featurepath"
_FEATURE_PARTS = ("featuregroup_name", "trainingjob_id")


class ArgumentProfile(enum.Enum):
    """How the arguments of a training job are converted to those of a run."""

    AS_GIVEN = "as-given"
    """Under their own names, all of them."""
    FLASK_ADAPTER = "flask-adapter"
    """As the Flask adapter named them: `featurepath`, `modelname` and `modelversion` are built from the training
    manager's arguments where the pipeline declares them; undeclared ones are omitted."""


@dataclass(frozen=True, slots=True)
class RunArguments:
    """The arguments of a run.

    Attributes:
        values: The values, with strings converted to the declared types.
        omitted: The names of omitted arguments, which the pipeline does not declare, sorted.
    """

    values: Mapping[str, Json]
    omitted: tuple[str, ...] = ()


def run_arguments(
    arguments: Mapping[str, Json], declared: Sequence[Parameter], profile: ArgumentProfile = ArgumentProfile.AS_GIVEN
) -> RunArguments:
    """Converts the arguments of a training job to those of a run.

    Strings are converted to the declared type; invalid ones and, with `AS_GIVEN`, undeclared names
    are passed unchanged: the adapter rejects the run and reports all errors.
    """
    values, omitted = dict(arguments), set[str]()
    if profile is ArgumentProfile.FLASK_ADAPTER:
        names = {parameter.name for parameter in declared}
        renamed = {new: arguments[name] for new, name in _RENAMED.items() if name in arguments}
        if all(part in arguments for part in _FEATURE_PARTS):
            renamed[_FEATURE_PATH] = "_".join(str(arguments[part]) for part in _FEATURE_PARTS)
        omitted = arguments.keys() - names
        values = {name: value for name, value in {**renamed, **arguments}.items() if name in names}
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    return RunArguments({**values, **typed_values(texts, declared)}, tuple(sorted(omitted)))


def start_job(
    client: Client, details: Mapping[str, Json], job: str, profile: ArgumentProfile, request_id: str = ""
) -> dict[str, Json]:
    """Starts a run for a training job.

    Args:
        client: The client of the adapter.
        details: `pipeline_name`, `experiment_name`, `arguments`; `pipeline_version`, a version's name; defaults to the
            latest version.
        job: The training job; stored in KFP as the run's label `trainingjob_id`.
        profile: How its arguments are converted.
        request_id: The idempotency key; if empty, each call starts a run.

    Returns:
        The run, with `run_status` `scheduled`.

    Raises:
        AdapterError: The run was not started.
    """
    pipeline_name = _text(details, "pipeline_name")
    version = client.pipelines.get_version(pipeline_name, version_name=_text(details, "pipeline_version"))
    arguments = details.get("arguments") or {}
    if not isinstance(arguments, dict):
        raise InvalidFieldError.of("arguments", "must be an object of names and values")
    converted = run_arguments(arguments, version.spec.parameters if version.spec else (), profile)
    experiment_name = _text(details, "experiment_name") or DEFAULT_EXPERIMENT
    run = client.runs.create(
        pipeline_id=version.pipeline_id,
        pipeline_version_id=version.pipeline_version_id,
        experiment_name=experiment_name,
        parameters=converted.values,
        labels={JOB_LABEL: job},
        request_id=request_id,
    )
    return execution_body(
        job,
        run,
        version,
        pipeline_name=pipeline_name,
        experiment_name=experiment_name,
        omitted=converted.omitted,
    )


def _text(details: Mapping[str, Json], key: str) -> str:
    value = details.get(key)
    if isinstance(value, bool | float | list | tuple | dict):
        raise InvalidFieldError.of(key, "must be a text")
    return "" if value is None else str(value)

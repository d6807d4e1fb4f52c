"""Cases of experiments, runs, and recurring runs, which KFP calls jobs in its messages."""

from __future__ import annotations

from kfadapter_grpc.contract import errors
from kfadapter_grpc.kfp.error_table.general import COUNTS_BYTES, Row
from kfadapter_grpc.kfp.failures import Operation

_O = Operation

NO_SUCH_EXPERIMENT = "not found: experiment {subject}; check the spelling and the namespace, or list the experiments"
NO_SUCH_RUN = "not found: run {subject}; check the id, or list the runs"
_NO_EXPERIMENT = "not found: the experiment; check its id, or list the experiments"
_TOO_LARGE = (
    "they are too large for Kubeflow Pipelines, or for a proxy in front of it (HTTP {status}: {detail}); put large "
    "data where the tasks can read them, and pass the location"
)

TOO_LARGE: tuple[Row, ...] = (
    Row(
        (400, 429),
        errors.InvalidFieldError,
        _TOO_LARGE,
        ("fault: 400 for large parameters", "fault: 429 for large parameters"),
        operations=(_O.CREATE_RUN, _O.CREATE_RECURRING_RUN),
        pattern=r"larger than (max|\d+ bytes)",
        field="parameters",
    ),
    Row(
        (413,),
        errors.InvalidFieldError,
        _TOO_LARGE,
        ("fault: 413 for large parameters",),
        operations=(_O.CREATE_RUN, _O.CREATE_RECURRING_RUN),
        field="parameters",
    ),
)
"""Parameters that are too large; these precede the other meanings of a 429."""

ROWS: tuple[Row, ...] = (
    Row(
        (404,),
        errors.ExperimentNotFoundError,
        NO_SUCH_EXPERIMENT,
        ("experiments: get unknown", "experiments: delete again", "kfp-2.5/experiments: delete again"),
        operations=tuple(one for one in _O if one.about == "experiment"),
        pattern=r"Experiment \S+ not found",
    ),
    Row(
        (409,),
        errors.InvalidFieldError,
        "the experiment {subject} is the default one, which Kubeflow Pipelines never deletes; delete its runs instead",
        ("fault: 409 for the default experiment",),
        operations=(_O.DELETE_EXPERIMENT,),
        pattern="default experiment cannot be deleted",
        field="experiment_id",
    ),
    Row(
        (409,),
        errors.ExperimentExistsError,
        "there is an experiment {subject} already (letter case does not count); use it, or choose another name",
        ("experiments: same name again", "kfp-2.5/experiments: same name again"),
        operations=(_O.CREATE_EXPERIMENT,),
    ),
    Row(
        (400, 500),
        errors.InvalidFieldError,
        "the experiment's name is too long: " + COUNTS_BYTES,
        ("fault: 400 for an experiment's name",),
        operations=(_O.CREATE_EXPERIMENT,),
        pattern=r"length cannot exceed|Data too long",
        field="name",
    ),
    Row(
        (404,),
        errors.RunNotFoundError,
        NO_SUCH_RUN,
        (
            "runs: get unknown",
            "runs: terminate unknown",
            "runs: delete deleted",
            "kfp-2.5/runs: delete deleted",
        ),
        operations=tuple(one for one in _O if one.about == "run"),
        pattern=r"Run \S+ not found",
    ),
    Row(
        (409,),
        errors.RunNotRetryableError,
        "the run {subject} cannot be retried: it did not fail, or Kubeflow Pipelines no longer holds its workflow; "
        "start a new run",
        ("runs: retry a run that is not failed", "kfp-2.5/runs: retry a run that is not failed"),
        operations=(_O.RETRY_RUN,),
    ),
    Row(
        (404,),
        errors.ExperimentNotFoundError,
        _NO_EXPERIMENT,
        ("runs: unknown experiment", "kfp-2.5/runs: unknown experiment", "fault: 404 for the runs of an experiment"),
        operations=(_O.CREATE_RUN, _O.LIST_RUNS, _O.CREATE_RECURRING_RUN),
        pattern=r"Experiment \S+ not found",
    ),
    Row(
        (500,),
        errors.VersionNotFoundError,
        "the version of the pipeline was deleted meanwhile",
        ("runs: unknown version", "kfp-2.5/runs: unknown version"),
        operations=(_O.CREATE_RUN, _O.CREATE_RECURRING_RUN),
        pattern=r"PipelineVersion \S+ not found",
    ),
    Row(
        (400,),
        errors.ParameterMissingError,
        "a parameter has no value: {detail}",
        ("runs: required parameter missing", "kfp-2.5/runs: required parameter missing"),
        operations=(_O.CREATE_RUN, _O.CREATE_RECURRING_RUN),
        pattern=r"is not optional, yet has neither default value",
        field="parameters",
    ),
    Row(
        (400,),
        errors.ParameterUnknownError,
        "the pipeline does not declare a parameter: {detail}",
        ("runs: unknown parameter", "kfp-2.5/runs: unknown parameter"),
        operations=(_O.CREATE_RUN, _O.CREATE_RECURRING_RUN),
        pattern=r"parameter\(s\) provided are not required by pipeline",
        field="parameters",
    ),
    Row(
        (400,),
        errors.ParameterTypeError,
        "a parameter is not of the declared type: {detail}",
        ("runs: parameter of the wrong type", "kfp-2.5/runs: parameter of the wrong type"),
        operations=(_O.CREATE_RUN, _O.CREATE_RECURRING_RUN),
        pattern=r"input parameter \S+ requires type",
        field="parameters",
    ),
    Row(
        (500,),
        errors.InvalidFieldError,
        "the description with the labels is too long for Kubeflow Pipelines; shorten them",
        ("seams: description of 256 characters", "kfp-2.5/seams: description of 256 characters"),
        operations=(_O.CREATE_RUN,),
        pattern=r"Data too long for column 'Description'",
        field="description",
    ),
    Row(
        (404,),
        errors.RecurringRunNotFoundError,
        "not found: recurring run {subject}; check the id, or list the recurring runs",
        ("recurring_runs: get unknown", "recurring_runs: delete again", "kfp-2.5/recurring_runs: delete again"),
        operations=tuple(one for one in _O if one.about == "recurring run"),
        pattern=r"Job \S+ not found",
    ),
    Row(
        (400,),
        errors.InvalidFieldError,
        "Kubeflow Pipelines rejects the schedule: {detail}",
        ("recurring_runs: bad cron", "kfp-2.5/recurring_runs: bad cron"),
        operations=(_O.CREATE_RECURRING_RUN,),
        pattern=r"Schedule cron is not a supported format",
        field="cron.cron",
    ),
)

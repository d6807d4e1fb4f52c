"""Cases of experiments."""

from __future__ import annotations

from kfadapter_grpc.contract import errors
from kfadapter_grpc.kfp.error_table.general import COUNTS_BYTES
from kfadapter_grpc.kfp.error_table.row import Row
from kfadapter_grpc.kfp.failures import Operation

NO_SUCH_EXPERIMENT = "not found: experiment {subject}; check the spelling and the namespace, or list the experiments"

ROWS: tuple[Row, ...] = (
    Row(
        (
            Operation.GET_EXPERIMENT,
            Operation.ARCHIVE_EXPERIMENT,
            Operation.UNARCHIVE_EXPERIMENT,
            Operation.DELETE_EXPERIMENT,
        ),
        (404,),
        r"Experiment \S+ not found",
        errors.ExperimentNotFoundError,
        NO_SUCH_EXPERIMENT,
        ("experiments: get unknown", "experiments: delete again", "kfp-2.5/experiments: delete again"),
    ),
    Row(
        (Operation.DELETE_EXPERIMENT,),
        (409,),
        "default experiment cannot be deleted",
        errors.InvalidFieldError,
        "the experiment {subject} is the default one, which Kubeflow Pipelines never deletes; delete its runs instead",
        ("fault: 409 for the default experiment",),
        field="experiment_id",
    ),
    Row(
        (Operation.CREATE_EXPERIMENT,),
        (409,),
        "",
        errors.ExperimentExistsError,
        "there is an experiment {subject} already (letter case does not count); use it, or choose another name",
        ("experiments: same name again", "kfp-2.5/experiments: same name again"),
    ),
    Row(
        (Operation.CREATE_EXPERIMENT,),
        (400, 500),
        r"length cannot exceed|Data too long",
        errors.InvalidFieldError,
        "the experiment's name is too long: " + COUNTS_BYTES,
        ("fault: 400 for an experiment's name",),
        field="name",
    ),
)
"""The cases, in the order in which they are tried."""

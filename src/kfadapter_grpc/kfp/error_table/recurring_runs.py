"""Cases of recurring runs, which KFP calls jobs in its messages."""

from __future__ import annotations

from kfadapter_grpc.contract import errors
from kfadapter_grpc.kfp.error_table.row import Row
from kfadapter_grpc.kfp.failures import Operation

ROWS: tuple[Row, ...] = (
    Row(
        (
            Operation.GET_RECURRING_RUN,
            Operation.ENABLE_RECURRING_RUN,
            Operation.DISABLE_RECURRING_RUN,
            Operation.DELETE_RECURRING_RUN,
        ),
        (404,),
        r"Job \S+ not found",
        errors.RecurringRunNotFoundError,
        "not found: recurring run {subject}; check the id, or list the recurring runs",
        ("recurring_runs: get unknown", "recurring_runs: delete again", "kfp-2.5/recurring_runs: delete again"),
    ),
    Row(
        (Operation.CREATE_RECURRING_RUN,),
        (400,),
        r"Schedule cron is not a supported format",
        errors.InvalidFieldError,
        "Kubeflow Pipelines does not take the schedule: {said}",
        ("recurring_runs: bad cron", "kfp-2.5/recurring_runs: bad cron"),
        field="cron.cron",
    ),
)
"""The cases, in the order in which they are tried."""

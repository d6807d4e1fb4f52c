"""The table of HTTP statuses, and response bodies."""

from __future__ import annotations

import re
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest

from kfadapter_grpc.client.errors import CannotConnectError, DeadlineError
from kfadapter_grpc.contract.errors import AdapterError, all_error_classes
from kfadapter_grpc.contract.run_outputs import RunMetric
from kfadapter_grpc.contract.runs import Run, RunState
from kfadapter_oran.responses import http_status, run_body

STATUSES = {
    "PIPELINE_NOT_FOUND": 404,
    "VERSION_NOT_FOUND": 404,
    "RUN_NOT_FOUND": 404,
    "TASK_NOT_FOUND": 404,
    "ARTIFACT_NOT_FOUND": 404,
    "ARTIFACT_NOT_READABLE": 409,
    "ARTIFACT_STORE_UNAVAILABLE": 503,
    "ISSUER_UNAVAILABLE": 503,
    "ARTIFACT_CHANGED": 409,
    "EXPERIMENT_NOT_FOUND": 404,
    "RECURRING_RUN_NOT_FOUND": 404,
    "PIPELINE_EXISTS": 409,
    "VERSION_EXISTS": 409,
    "EXPERIMENT_EXISTS": 409,
    "REQUEST_ID_REUSED": 409,
    "INVALID_FIELD": 400,
    "INVALID_UPLOAD": 400,
    "INVALID_PIPELINE_FILE": 400,
    "CHECKSUM_MISMATCH": 400,
    "INVALID_PAGE_TOKEN": 400,
    "PARAMETER_MISSING": 400,
    "PARAMETER_UNKNOWN": 400,
    "PARAMETER_TYPE": 400,
    "PIPELINE_HAS_VERSIONS": 409,
    "RUN_NOT_RETRYABLE": 409,
    "AMBIGUOUS_NAME": 409,
    "KFP_REJECTED_CREDENTIALS": 502,
    "NAME_CONTESTED": 409,
    "UPLOAD_TOO_LARGE": 413,
    "STORAGE_FULL": 507,
    "OVERLOADED": 429,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "KFP_UNAVAILABLE": 503,
    "DRAINING": 503,
    "KFP_TIMEOUT": 504,
    "UNSUPPORTED_BY_KFP": 501,
    "KFP_ERROR": 502,
    "INTERNAL": 500,
    "CANCELLED": 499,
    "CANNOT_CONNECT": 503,
    "DEADLINE": 504,
}


@pytest.mark.parametrize("error", [*all_error_classes(), CannotConnectError, DeadlineError], ids=lambda one: one.reason)
def test_every_reason_has_a_status(error: type[AdapterError]) -> None:
    """Each reason has its HTTP status."""
    assert http_status(error("x")) == STATUSES[error.reason]


def test_the_page_on_http_agrees() -> None:
    """docs/training-manager.md lists each reason that it names in the row of its status."""
    page = (Path(__file__).parents[2] / "docs" / "training-manager.md").read_text("utf-8")
    rows = [line.split("|")[1:3] for line in page.splitlines() if re.match(r"\| \d\d\d", line)]
    reported = [(reason, statuses) for statuses, text in rows for reason in re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", text)]
    known = [(reason, statuses) for reason, statuses in reported if reason in STATUSES]
    assert len(known) > 15
    assert all(str(STATUSES[reason]) in statuses for reason, statuses in known), known


def test_whose_fault_it_is() -> None:
    """Statuses from 500 on are for faults of KFP and of the adapter, which the caller cannot correct."""
    ours = {reason for reason, status in STATUSES.items() if status >= HTTPStatus.INTERNAL_SERVER_ERROR}
    assert ours == {
        "ARTIFACT_STORE_UNAVAILABLE", "CANNOT_CONNECT", "DEADLINE", "DRAINING", "INTERNAL", "ISSUER_UNAVAILABLE",
        "KFP_ERROR", "KFP_REJECTED_CREDENTIALS", "KFP_TIMEOUT",
        "KFP_UNAVAILABLE", "STORAGE_FULL", "UNSUPPORTED_BY_KFP",
    }  # fmt: skip


def test_the_metrics_of_a_run() -> None:
    """A run with metrics shows them by name; any other has the Flask adapter's fields only."""
    run = Run("r", "이름", RunState.SUCCEEDED)
    shown = {"run_id": "r", "run_name": "이름", "run_status": "SUCCEEDED"}
    assert run_body(run) == shown
    metrics = (
        RunMetric("accuracy", 0.9, "train", "m"),
        RunMetric("loss", 0.1, "a", "m"),
        RunMetric("loss", 2, "b", "m"),
    )
    assert run_body(replace(run, metrics=metrics)) == {
        **shown,
        "run_metrics": {"accuracy": 0.9, "a/loss": 0.1, "b/loss": 2},
    }

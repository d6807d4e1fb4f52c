"""Each row of the error table has a proof: a recorded response of a real KFP, or a fault made on purpose."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from tests.transcripts import DATA

from kfadapter_grpc.contract import errors
from kfadapter_grpc.kfp.error_table import ROWS, Context, Row, explain
from kfadapter_grpc.kfp.failures import Failure, KfpFailureError, Operation, read_failure
from kfadapter_grpc.kfp.transport import Request

if TYPE_CHECKING:
    from kfadapter_grpc.contract.errors import AdapterError

_STACK = "runtime.goexit\nasm_amd64.s:1700"

FAULTS: dict[str, tuple[Operation, int, bytes]] = {
    "400 of a TLS port": (
        Operation.LIST_RUNS,
        400,
        b"Client sent an HTTP request to an HTTPS server.\n",
    ),
    "401": (Operation.GET_PIPELINE, 401, b'{"code": 16, "message": "Unauthenticated"}'),
    "403": (Operation.LIST_PIPELINES, 403, b"<html>Forbidden</html>"),
    "429": (Operation.GET_PIPELINE, 429, b"slow down"),
    "429 of a full disk": (
        Operation.CREATE_RUN,
        429,
        b'{"code": 8, "message": "ResourceExhaustedError: no room", "details": [{"message": "no room"}]}',
    ),
    "503": (Operation.UPLOAD_VERSION, 503, b"<html>upstream</html>"),
    "400 for large parameters": (
        Operation.CREATE_RUN,
        400,
        b'{"code": 3, "message": "Invalid input error: the body is larger than 4194304 bytes"}',
    ),
    "429 for large parameters": (
        Operation.CREATE_RUN,
        429,
        b'{"code": 8, "message": "grpc: received message larger than max (5000000 vs. 4194304)"}',
    ),
    "413 for large parameters": (Operation.CREATE_RUN, 413, b"<html>413 Request Entity Too Large</html>"),
    "413 for an upload": (Operation.UPLOAD_VERSION, 413, b"<html>413 Request Entity Too Large</html>"),
    "414": (Operation.UPLOAD_VERSION, 414, b"<html>414 Request-URI Too Large</html>"),
    "431": (Operation.LIST_PIPELINES, 431, b"Request Header Fields Too Large"),
    "500 for 17 MiB": (
        Operation.UPLOAD_VERSION,
        500,
        json.dumps({"error_message": "Failed to create a pipeline version", "error_details": _STACK}).encode(),
    ),
    "400 for a version's name of 128 bytes": (
        Operation.UPLOAD_VERSION,
        400,
        b"Invalid input error: PipelineVersion.Name length cannot exceed 127\n",
    ),
    "400 for an experiment's name": (
        Operation.CREATE_EXPERIMENT,
        400,
        b'{"code": 3, "message": "Invalid input error: Experiment.Name length cannot exceed 128"}',
    ),
    "409 for the default experiment": (
        Operation.DELETE_EXPERIMENT,
        409,
        json.dumps(
            {
                "code": 10,
                "message": "Failed to delete experiment: BadRequestError: Failed to delete experiment 1-2-3. The "
                "default experiment cannot be deleted: Invalid input error: Experiment id cannot be equal to the "
                "default id 1-2-3",
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.Status",
                        "code": 10,
                        "message": "Failed to delete experiment 1-2-3. The default experiment cannot be deleted",
                    }
                ],
            }
        ).encode(),
    ),
    "400 with words of its own": (
        Operation.UPLOAD_VERSION,
        400,
        json.dumps({"error_message": "the file is cursed", "error_details": _STACK}).encode(),
    ),
    "404 for the runs of an experiment": (
        Operation.LIST_RUNS,
        404,
        b'{"code": 5, "message": "Failed to list runs", "details": [{"message": "Experiment 1-2-3 not found"}]}',
    ),
    "404 for an update": (
        Operation.UPDATE_PIPELINE,
        404,
        b'{"code": 5, "message": "Failed to update pipeline", "details": [{"message": "Pipeline 1-2-3 not found"}]}',
    ),
    "404 for an update of a version": (
        Operation.UPDATE_VERSION,
        404,
        b'{"code": 5, "message": "Failed to update", "details": [{"message": "PipelineVersion 1-2-3 not found"}]}',
    ),
    "404 of another server": (Operation.GET_PIPELINE, 404, b"404 page not found"),
}
"""What a server that misbehaves may answer; the fault tests of the repository play them over a real line."""

_OPERATIONS = (
    ("POST", r"/pipelines/upload$", Operation.UPLOAD_VERSION),  # checks a file in the same way
    ("POST", r"/pipelines/upload_version$", Operation.UPLOAD_VERSION),
    ("POST", r"/pipelines$", Operation.CREATE_PIPELINE),
    ("GET", r"v1beta1/pipeline_versions$", Operation.CHEAP_VERSIONS),
    ("GET", r"/pipelines/names/", Operation.GET_BY_NAME),
    ("GET", r"/versions$", Operation.LIST_VERSIONS),
    ("GET", r"/versions/", Operation.GET_VERSION),
    ("PATCH", r"/versions/", Operation.UPDATE_VERSION),
    ("PATCH", r"/pipelines/", Operation.UPDATE_PIPELINE),
    ("DELETE", r"/versions/", Operation.DELETE_VERSION),
    ("GET", r"/pipelines$", Operation.LIST_PIPELINES),
    ("GET", r"/pipelines/", Operation.GET_PIPELINE),
    ("DELETE", r"/pipelines/", Operation.DELETE_PIPELINE),
    ("POST", r"/runs$", Operation.CREATE_RUN),
    ("GET", r"/runs$", Operation.LIST_RUNS),
    ("GET", r"/runs/", Operation.GET_RUN),
    ("DELETE", r"/runs/", Operation.DELETE_RUN),
    ("POST", r"/runs/.*:terminate$", Operation.TERMINATE_RUN),
    ("POST", r"/runs/.*:retry$", Operation.RETRY_RUN),
    ("POST", r"/runs/.*:archive$", Operation.ARCHIVE_RUN),
    ("POST", r"/runs/.*:unarchive$", Operation.UNARCHIVE_RUN),
    ("POST", r"/experiments$", Operation.CREATE_EXPERIMENT),
    ("GET", r"/experiments$", Operation.LIST_EXPERIMENTS),
    ("GET", r"/experiments/", Operation.GET_EXPERIMENT),
    ("DELETE", r"/experiments/", Operation.DELETE_EXPERIMENT),
    ("POST", r"/experiments/.*:archive$", Operation.ARCHIVE_EXPERIMENT),
    ("POST", r"/experiments/.*:unarchive$", Operation.UNARCHIVE_EXPERIMENT),
    ("POST", r"/recurringruns$", Operation.CREATE_RECURRING_RUN),
    ("GET", r"/recurringruns$", Operation.LIST_RECURRING_RUNS),
    ("GET", r"/recurringruns/", Operation.GET_RECURRING_RUN),
    ("DELETE", r"/recurringruns/", Operation.DELETE_RECURRING_RUN),
    ("POST", r"/recurringruns/.*:enable$", Operation.ENABLE_RECURRING_RUN),
    ("POST", r"/recurringruns/.*:disable$", Operation.DISABLE_RECURRING_RUN),
)

PROOFS = [
    (row, proof, as_caller)
    for row in ROWS
    for proof in row.proof
    for as_caller in ([False, True] if row.of_caller else [False])
]


def _proof(proof: str, row: Row) -> tuple[Operation, int, bytes]:
    scenario, _, note = proof.partition(": ")
    if scenario == "fault":
        return FAULTS[note]
    steps = json.loads((DATA / "transcripts" / f"{scenario}.json").read_text("utf-8"))["steps"]
    step = next(step for step in steps if step["note"] == note)
    request, response = step["request"], step["response"]
    operation = next(o for m, p, o in _OPERATIONS if m == request["method"] and re.search(p, request["path"]))
    if request["path"].endswith("/upload") and Operation.CREATE_PIPELINE in row.operations:
        operation = Operation.CREATE_PIPELINE  # KFP's upload in one step does both
    body = response["json"]
    raw = body["_text"].encode() if "_text" in body else json.dumps(body).encode()
    return operation, response["status"], raw


def _exact(status: int) -> Failure:
    """What KFP reports when the pipeline is read, after it has rejected an upload."""
    return Failure(status, "Pipeline 1-2-3 not found", "Pipeline 1-2-3 not found")


def _explain(row: Row, proof: str, *, as_caller: bool = False) -> AdapterError:
    operation, status, body = _proof(proof, row)
    context = Context(
        subject="named 'x'",
        resource="x",
        values={"size": str(row.sizes.start if row.sizes else 1000), "limit": "16777216", "version": "2"},
        probe=lambda: KfpFailureError(Operation.GET_PIPELINE, _exact(row.statuses[0]), as_caller=as_caller),
    )
    failure = KfpFailureError(operation, read_failure(status, body, None), as_caller=as_caller)
    return explain(failure, context)


@pytest.mark.parametrize(
    ("row", "proof", "as_caller"), PROOFS, ids=[f"{row.error.reason}-{proof}-{caller}" for row, proof, caller in PROOFS]
)
def test_a_row_holds(row: Row, proof: str, as_caller: bool) -> None:
    """KFP's response in the row's proof becomes the row's error, with a complete text and no stack trace."""
    error = _explain(row, proof, as_caller=as_caller)
    assert type(error) is (row.of_caller[0] if row.of_caller and as_caller else row.error)
    assert "?" not in error.message
    assert "goexit" not in error.message
    assert "{" not in error.message
    assert [violation.field for violation in error.violations] == ([row.field] if row.field else [])


@pytest.mark.parametrize("row", ROWS, ids=[f"{number}-{row.error.reason}" for number, row in enumerate(ROWS)])
def test_no_row_is_idle(row: Row) -> None:
    """Every row is needed: without it, at least one of its proofs gets another error or another text."""
    assert row.proof, "a row without proof"
    rest = tuple(other for other in ROWS if other is not row)
    before = [_explain(row, proof) for proof in row.proof]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kfadapter_grpc.kfp.error_table.ROWS", rest)
        after = [_explain(row, proof) for proof in row.proof]
    assert [(type(e), e.message) for e in before] != [(type(e), e.message) for e in after]


def test_a_404_for_an_upload_does_not_mean_that_the_pipeline_is_missing() -> None:
    """KFP never returns it for a missing pipeline, and PIPELINE_NOT_FOUND would make the adapter create another."""
    failure = Failure(404, "Pipeline 1-2-3 not found", "Pipeline 1-2-3 not found")
    error = explain(KfpFailureError(Operation.UPLOAD_VERSION, failure), Context(subject="named 'x'"))
    assert type(error) is errors.KfpError


def test_all_faults_are_used() -> None:
    """Every fault made on purpose proves a row."""
    assert {f"fault: {name}" for name in FAULTS} <= {proof for _, proof, _ in PROOFS}


@pytest.mark.parametrize(
    "scenario",
    [
        *("pipelines", "versions", "bad_uploads", "multi_user", "experiments", "runs", "recurring_runs"),
        *("kfp-2.5/pipelines", "kfp-2.5/versions", "kfp-2.5/experiments", "kfp-2.5/runs", "kfp-2.5/recurring_runs"),
    ],
)
def test_every_recorded_failure_has_a_meaning(scenario: str) -> None:
    """No recorded failure becomes KFP_ERROR, except those that the adapter never causes."""
    never_caused = re.compile(
        "bad tags|filter |sort by|negative page|field has another|no multipart|no pipeline id|wrong ext|name of 128"
        "|v1beta1 without|^no name$|^no display name$|^no pipeline$"
        "|^terminate again$"  # not a failure: the run has finished, or is stopping
    )
    for step in json.loads((DATA / "transcripts" / f"{scenario}.json").read_text("utf-8"))["steps"]:
        operation = next(
            (
                o
                for m, p, o in _OPERATIONS
                if m == step["request"].get("method") and re.search(p, step["request"]["path"])
            ),
            None,
        )
        status = step["response"].get("status", 0)
        if operation is None or status < 400 or never_caused.search(step["note"]):
            continue
        body = step["response"]["json"]
        raw = body["_text"].encode() if "_text" in body else json.dumps(body).encode()
        error = explain(KfpFailureError(operation, read_failure(status, raw, None)), Context(subject="x"))
        blurred = raw.find(b'"Failed to create a pipeline') > 0
        assert blurred or not isinstance(error, errors.KfpError), (scenario, step["note"], error.message)


def test_what_fits_no_row_is_kfp_error_in_kfps_words() -> None:
    """An unknown failure is reported with KFP's innermost message, and never with its stack trace."""
    body = json.dumps({"error_message": "boom", "error_details": _STACK}).encode()
    error = explain(KfpFailureError(Operation.UPLOAD_VERSION, read_failure(500, body, None)), Context())
    assert isinstance(error, errors.KfpError)
    assert error.message == "Kubeflow Pipelines failed (upload version, HTTP 500): boom"
    assert error.metadata == {"kfp_status": "500"}


@pytest.mark.parametrize(
    ("operation", "sent", "field"),
    [
        (Operation.CREATE_RUN, {"display_name": "축하 🎉"}, "display_name"),
        (Operation.CREATE_RUN, {"runtime_config": {"parameters": {"x": ["🎉"]}}}, "parameters"),
        (Operation.CREATE_EXPERIMENT, {"display_name": "🎉"}, "name"),
        (Operation.CREATE_EXPERIMENT, {"display_name": "한글", "description": "🎉"}, "description"),
        (Operation.CREATE_RECURRING_RUN, {"display_name": "🎉"}, "display_name"),
        (Operation.CREATE_PIPELINE, {"name": "🎉"}, "metadata.name"),
        (Operation.CREATE_PIPELINE, {"name": "한글"}, None),
        (Operation.UPDATE_PIPELINE, {"display_name": "🎉"}, "display_name"),
        (Operation.UPDATE_VERSION, {"tags": {"a": "🎉"}}, "tags"),
    ],
)
def test_characters_of_four_bytes(operation: Operation, sent: dict[str, object], field: str | None) -> None:
    """A 500 without another reason is explained by the first field that has a character of 4 bytes."""
    failure = read_failure(500, b'{"code": 13, "message": "Internal Server Error"}', None)
    request = Request("PATCH" if "update" in operation.value else "POST", "/x", body=json.dumps(sent).encode())
    error = explain(KfpFailureError(operation, failure, request=request), Context())
    assert isinstance(error, errors.KfpError if field is None else errors.InvalidFieldError)
    assert [violation.field for violation in error.violations] == ([field] if field else [])


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"\xff\xfe", b'{"details": 5}', b"{" * 10_000, b"<html>"]
)
def test_any_body_of_a_failure_is_understood(body: bytes) -> None:
    """With any body, the failure becomes an error with a text."""
    error = explain(KfpFailureError(Operation.GET_PIPELINE, read_failure(500, body, None)), Context())
    assert error.message

"""Errors in logs, distinguished from text that looks like them; compared with recorded responses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.transcripts import DATA

from kfadapter_grpc.kfp.log_sources import MAX_ERROR_BYTES, NoLogError, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = "0b1c9f2e-0000-4000-8000-000000000001"
MESSAGE = f"BadRequestError: Failed to read logs for run {RUN}: InternalServerError: no 로그"


def body(message: str = MESSAGE, **more: object) -> bytes:
    """An error as KFP writes it."""
    fields = {"error_message": message, "error_details": message, **more}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def read(data: bytes, size: int = 7, run_id: str = RUN) -> tuple[bytes, str]:
    """The text of a log that is read in pieces, and the error after it."""
    text, why = b"", ""
    try:
        for piece in text_of(run_id, [data[begin : begin + size] for begin in range(0, len(data), size)]):
            text += piece
    except NoLogError as error:
        why = error.why
    return text, why


def recorded() -> Iterator[tuple[str, str, bytes, str]]:
    """Run, note, text and error of each recorded response of the route for logs."""
    for name in ("logs", "logs_multi_user"):
        steps = json.loads((DATA / "transcripts" / f"{name}.json").read_text("utf-8"))["steps"]
        for step in steps:
            path = step.get("request", {}).get("path", "")
            answer = step.get("response", {})
            error = answer.get("then_json") or answer.get("json") or {}
            if "/v1alpha1/" in path and answer["status"] == 200 and "first_40" not in answer:
                text = answer.get("text", "").encode()
                yield path.split("/")[4], step["note"], text, error.get("error_message", "")


@pytest.mark.parametrize(("run_id", "note", "text", "error"), [pytest.param(*one, id=one[1]) for one in recorded()])
def test_recorded_responses(run_id: str, note: str, text: bytes, error: str) -> None:
    """Every recorded error of KFP is recognized, also after lines of a log, and no log is mistaken for one."""
    data = text + (body(error) if error else b"")
    assert read(data, 1000, run_id) == (text, error), note


@pytest.mark.parametrize("size", [1, 2, 100, 10_000])
def test_pieces(size: int) -> None:
    """An error is recognized however the response is split."""
    assert read(b"line {\n{" + body(), size) == (b"line {\n{", MESSAGE)


@pytest.mark.parametrize(
    "text",
    [
        body() + b"\n",
        body() + b"more",
        body(code=5),
        body().replace(b"error_details", b"details"),
        body()[:-1],
        body("BadRequestError: Failed to read logs for run another: InternalServerError: x"),
        body(f"BadRequestError: Failed to read logs for run {RUN}0: InternalServerError: x"),
        body(f"Failed to read logs for run {RUN}: x"),
        body() + body() + b"\n",
        json.dumps({"error_details": "x", "error_message": MESSAGE}).encode(),
        b'{"error_message":"' + MESSAGE.encode() + b'","error_details":7}',
        b'{"error_message":"' + MESSAGE.encode() + b" " * MAX_ERROR_BYTES + b'","error_details":"x"}',
    ],
)
def test_text_that_looks_like_an_error(text: bytes) -> None:
    """Text that is not exactly in KFP's form is text of the log, and is shown."""
    assert read(text, 1000) == (text, "")


def test_text_is_not_held_back() -> None:
    """Only text that may be an error is held back, so a long log needs no memory, and a slow one is not delayed."""
    pieces = text_of(RUN, iter([b"epoch 1\n", b'{"error', b'_rate": 1}\n', b"end\n"]))
    assert next(pieces) == b"epoch 1\n"
    assert next(pieces) == b'{"error_rate": 1}\n'

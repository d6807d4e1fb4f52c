"""Reads KFP's answers, whatever they are about, and what it says of failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TypeVar

import msgspec

from kfadapter_grpc.contract.errors import KfpError
from kfadapter_grpc.kfp.transport import AnswerTooLargeError
from kfadapter_grpc.kfp.wire.tolerant import MAX_BYTES, decode_tolerantly

T = TypeVar("T")

_NO_TIME = datetime(1970, 1, 1, tzinfo=timezone.utc)


class _Detail(msgspec.Struct):
    message: str = ""


class _ErrorJson(msgspec.Struct):
    """Both shapes of an error's body."""

    error_message: str = ""
    code: int | None = None
    message: str = ""
    details: list[_Detail] = []


@dataclass(frozen=True, slots=True)
class Failure:
    """What KFP says of a failure.

    Attributes:
        status: The HTTP status.
        text: Its words without stack traces: the innermost message, at most 500 characters.
        full_text: The whole chain of messages, for telling cases apart.
        code: The gRPC code in the body, where there is one.
        retry_after: Seconds, where the answer tells them.
    """

    status: int
    text: str
    full_text: str = field(repr=False, default="")
    code: int | None = None
    retry_after: float | None = None


def failure(status: int, body: bytes, retry_after: float | None) -> Failure:
    """Reads the body of an answer that is not a success."""
    try:
        parsed = msgspec.json.decode(body, type=_ErrorJson)
    except (msgspec.DecodeError, UnicodeDecodeError):
        is_page = body.lstrip().startswith(b"<")
        text = "" if is_page else " ".join(body[:500].decode("utf-8", "replace").split())
        return Failure(status, text, text, retry_after=retry_after)
    full = parsed.error_message or parsed.message
    inner = parsed.details[0].message if parsed.details and parsed.details[0].message else full
    chain = full if inner in full else f"{full}: {inner}"
    return Failure(status, inner[:500], chain[:4000], parsed.code, retry_after)


def decode(body: bytes, kind: type[T], what: str = "") -> T:
    """Decodes an answer; one that is odd in places is read as far as it can be.

    Args:
        body: The answer.
        kind: What it is.
        what: What was asked, in words.

    Raises:
        KfpError: It is not what KFP should answer; the message says where.
        AnswerTooLargeError: It is odd, and too large to be read with care.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if len(body) > MAX_BYTES:
            text = f"Kubeflow Pipelines returned a malformed answer of more than {MAX_BYTES} bytes"
            raise AnswerTooLargeError(text, metadata={"limit_bytes": str(MAX_BYTES)}) from None
    try:
        return decode_tolerantly(body, kind)
    except ValueError as error:
        where = f"{what}: {error}" if what else str(error)
        text = f"Kubeflow Pipelines returned an answer that cannot be understood ({where})"
        raise KfpError(f"{text}; is KFADAPTER_KFP_URL its API address?") from error


def known_time(moment: datetime | None) -> datetime | None:
    """The time in UTC; None where there is none, for which KFP says 1970, and its Go clients the year 1."""
    if moment is None:
        return None
    try:
        found = moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    except OverflowError:  # before the year 1, or after 9999
        return None
    return found if found > _NO_TIME else None

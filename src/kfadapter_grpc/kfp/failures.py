"""KFP's response to a failed call, as it is; the error table decides what it means to a caller."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from typing_extensions import Self

    from kfadapter_grpc.kfp.transport import Request, Response


class Operation(enum.Enum):
    """A call of KFP's API; rows of the error table and metrics name it.

    Attributes:
        about: The kind of resource whose id is in the path; empty if there is none.
    """

    _value_: str
    about: str

    def __new__(cls, text: str, about: str = "") -> Self:
        made = object.__new__(cls)
        made._value_, made.about = text, about
        return made

    @property
    def verb(self) -> str:
        return self._value_.partition(" ")[0]

    HEALTH = "health"
    PROBE = "probe"
    GET_PIPELINE = "get pipeline", "pipeline"
    GET_BY_NAME = "get pipeline by name"
    LIST_PIPELINES = "list pipelines"
    CREATE_PIPELINE = "create pipeline"
    UPDATE_PIPELINE = "update pipeline", "pipeline"
    DELETE_PIPELINE = "delete pipeline", "pipeline"
    UPLOAD_VERSION = "upload version"
    GET_VERSION = "get version", "version"
    LIST_VERSIONS = "list versions", "pipeline"
    CHEAP_VERSIONS = "list versions, v1beta1"
    UPDATE_VERSION = "update version", "version"
    DELETE_VERSION = "delete version", "version"

    CREATE_RUN = "create run"
    GET_RUN = "get run", "run"
    LIST_RUNS = "list runs"
    TERMINATE_RUN = "terminate run", "run"
    RETRY_RUN = "retry run", "run"
    ARCHIVE_RUN = "archive run", "run"
    UNARCHIVE_RUN = "unarchive run", "run"
    DELETE_RUN = "delete run", "run"
    READ_LOG = "read log", "log"

    CREATE_EXPERIMENT = "create experiment"
    GET_EXPERIMENT = "get experiment", "experiment"
    LIST_EXPERIMENTS = "list experiments"
    ARCHIVE_EXPERIMENT = "archive experiment", "experiment"
    UNARCHIVE_EXPERIMENT = "unarchive experiment", "experiment"
    DELETE_EXPERIMENT = "delete experiment", "experiment"

    CREATE_RECURRING_RUN = "create recurring run"
    GET_RECURRING_RUN = "get recurring run", "recurring run"
    LIST_RECURRING_RUNS = "list recurring runs"
    ENABLE_RECURRING_RUN = "enable recurring run", "recurring run"
    DISABLE_RECURRING_RUN = "disable recurring run", "recurring run"
    DELETE_RECURRING_RUN = "delete recurring run", "recurring run"


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
    """KFP's description of a failure.

    Attributes:
        text: The message without stack traces: the innermost one, at most 500 characters.
        full_text: The whole chain of messages, for telling cases apart.
        page: A response that is not from KFP's API: a redirect, or an HTML page; the status is 0 then.
    """

    status: int
    text: str
    full_text: str = field(repr=False, default="")
    code: int | None = None
    retry_after: float | None = None
    page: Response | None = field(repr=False, default=None)


def read_failure(status: int, body: bytes, retry_after: float | None) -> Failure:
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


class KfpFailureError(Exception):
    """KFP rejected a request, sent with the caller's credentials if `as_caller`, or failed; never leaves kfp."""

    def __init__(
        self,
        operation: Operation,
        failure: Failure,
        *,
        as_caller: bool = False,
        request: Request | None = None,
    ) -> None:
        super().__init__(f"{operation.value}: {failure}")
        self.operation = operation
        self.failure = failure
        self.as_caller = as_caller
        self.request = request


def is_page(response: Response) -> bool:
    """Whether a response is an HTML page, whatever its content type."""
    return "html" in response.content_type.lower() or response.body[:64].lstrip().startswith(b"<")

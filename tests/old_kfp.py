"""A stand-in for Kubeflow Pipelines 2.5: a proxy before an embedded KFP that turns its API into the older one's.

It responds as the recordings in tests/data/transcripts/kfp-2.5. Where 2.5 is dangerous, so is the stand-in:
a file that is not YAML is never responded to, and a zip without members closes the connection.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import urllib3
from tests.scripted_kfp import ScriptedKfp, answers, stalls

if TYPE_CHECKING:
    from types import TracebackType

    from tests.scripted_kfp import Connection, Received

_PIPELINES = "/apis/v2beta1/pipelines"
_NOT_KNOWN_YET = frozenset({"tags", "display_name", "code_source_url", "cascade"})
_LISTS = ("pipelines", "pipeline_versions")
_FILE_LIMIT = 33_554_432
_EMPTY_ZIP = b"PK\x05\x06"

_NEWER_WORDS = (
    (re.compile(r"\. Set cascade=true to delete all versions"), ""),
    (re.compile(r"Invalid page token"), "Invalid package token"),
    (re.compile(r"(?<=should be greater than 0\. Got )-\d+"), "'\ufffd'"),
)
"""What the embedded KFP says, and how 2.5 says it."""


class _NeverAnsweredError(Exception):
    """The file makes the server loop forever."""


class _BrokenOffError(Exception):
    """The file makes the server panic."""


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    query: dict[str, str]
    body: bytes
    content_type: str

    @classmethod
    def of(cls, received: Received) -> _Request:
        parts = urlsplit(received.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(received.method, parts.path, query, received.body, received.headers.get("content-type", ""))

    @property
    def creates(self) -> bool:
        return (self.method, self.path) == ("POST", _PIPELINES)

    @property
    def uploads(self) -> bool:
        return self.path in {f"{_PIPELINES}/upload", f"{_PIPELINES}/upload_version"}

    @property
    def what(self) -> str:
        """The resource that an upload creates, as the messages name it."""
        return "a pipeline version" if self.path.endswith("_version") else "a pipeline and a pipeline version"

    @property
    def file(self) -> bytes:
        """The uploaded file."""
        return self.body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]


@dataclass(frozen=True)
class _Reply:
    status: int
    content_type: str
    body: bytes


@dataclass
class OldKfp:
    """The server; a context manager.

    Attributes:
        newer_url: The embedded KFP that does the work.
        never_answered: The files that made it hang.
        broken_off: The files that made it panic.
    """

    newer_url: str
    never_answered: list[bytes] = field(default_factory=list)
    broken_off: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = ScriptedKfp()
        for method in ("GET", "POST", "PATCH", "DELETE"):
            self._server.on(method, "", self._behave)
        self._http = urllib3.PoolManager(retries=False, timeout=60, maxsize=20)
        self.url = self._server.url

    def __enter__(self) -> OldKfp:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)
        self._http.clear()

    def paths(self, method: str) -> list[str]:
        """Returns the paths of the requests of one method, in order."""
        return self._server.paths(method)

    def _behave(self, connection: Connection, received: Received) -> bool:
        request = _Request.of(received)
        try:
            reply = _refusal(request) or self._older(request, self._forward(_newer(request)))
        except _NeverAnsweredError:
            self.never_answered.append(request.file)
            return stalls()(connection, received)
        except _BrokenOffError:
            self.broken_off.append(request.file)
            return False
        return answers(reply.status, reply.body, content_type=reply.content_type)(connection, received)

    def _forward(self, request: _Request) -> _Reply:
        url = f"{self.newer_url}{request.path}?{urlencode(request.query, quote_via=quote)}"
        headers = {"content-type": request.content_type} if request.content_type else {}
        answer = self._http.request(request.method, url, body=request.body or None, headers=headers)
        return _Reply(answer.status, answer.headers.get("content-type", ""), answer.data)

    def _older(self, request: _Request, reply: _Reply) -> _Reply:
        if request.uploads and reply.status >= 400:
            return self._older_upload_failure(request, reply)
        body = json.loads(reply.body)
        return replace(reply, body=_to_bytes(_older_failure(body) if reply.status >= 400 else _older_answer(body)))

    def _older_upload_failure(self, request: _Request, reply: _Reply) -> _Reply:
        output = _said(reply)
        if output.startswith(("failed to parse pipeline spec YAML", "unable to decode yaml document")):
            raise _NeverAnsweredError
        if output == "Failed to read pipeline from file":
            is_form = request.content_type.startswith("multipart/form-data")
            cause = "http: no such file" if is_form else "request Content-Type isn't multipart/form-data"
            return _upload_refusal(400, f"{output}: {cause}")
        if output == "Failed to read a pipeline spec file":
            return _upload_refusal(400, f"{output}: {_unreadable(request.file)}")
        if reply.status == 400 and output == "Failed to create a pipeline version":
            return _upload_refusal(400, f"{output} due to error reading {self._missing_for_version(request)}")
        return _refused_later(request, reply.status, output)

    def _missing_for_version(self, request: _Request) -> str:
        pipeline_id = request.query.get("pipelineid", "")
        if not pipeline_id:
            return "pipeline id"
        if self._forward(_Request("GET", f"{_PIPELINES}/{quote(pipeline_id)}", {}, b"", "")).status == 200:
            return f"pipeline spec file: {_unreadable(request.file)}"
        return (
            f"namespace: Failed to get namespace for pipeline id {pipeline_id}: Failed to get a pipeline with id "
            f"{pipeline_id}: ResourceNotFoundError: Pipeline {pipeline_id} not found"
        )


def _refusal(request: _Request) -> _Reply | None:
    """Returns the refusal of a request that 2.5 rejects and the embedded KFP accepts."""
    if request.method == "PATCH":
        return _Reply(405, "text/plain; charset=utf-8", b"Method Not Allowed\n")
    if tag := re.search(r'"(tags\.[^"]*)"', request.query.get("filter", "")):
        return _unknown_field(request, tag[1])
    if request.creates and not json.loads(request.body).get("display_name"):
        reason = "pipeline's name cannot be empty"
        return _refused_input(f"Failed to create a pipeline due to server error: Invalid input error: {reason}", reason)
    return None


def _unknown_field(request: _Request, name: str) -> _Reply:
    kind = "pipelines" if request.path == _PIPELINES else "pipeline versions"
    given = {key: request.query.get(key, "") for key in ("page_token", "page_size", "sort_by", "filter")}
    options = (
        f"pageToken: {given['page_token']}, pageSize: {given['page_size'] or 0}, "
        f"sortBy: {given['sort_by']}, filter: {given['filter']}"
    )
    reason = f'no support for filtering on unrecognized field "{name}"'
    return _refused_input(
        f"Failed to list {kind} due invalid list options: {options}: Invalid input error: {reason}", reason
    )


def _refused_input(text: str, reason: str) -> _Reply:
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": 3, "message": reason}
    body = {"error": text, "code": 3, "message": text, "details": [detail]}
    return _Reply(400, "application/json", _to_bytes(body))


def _newer(request: _Request) -> _Request:
    """Returns the request for the embedded KFP, without fields unknown to 2.5; the display name becomes the name."""
    query = {key: value for key, value in request.query.items() if key not in _NOT_KNOWN_YET}
    if not request.creates:
        return replace(request, query=query)
    asked = json.loads(request.body)
    kept = {key: value for key, value in asked.items() if key not in _NOT_KNOWN_YET}
    return replace(request, query=query, body=_to_bytes({**kept, "name": asked["display_name"]}))


def _older_answer(body: dict[str, object]) -> dict[str, object]:
    """Returns a success in the form of 2.5: one name, no tags, and tokens without the newer key."""
    older = {key: value for key, value in body.items() if key not in {"name", "tags", "pipeline_store"}}
    if "name" in body:
        older["display_name"] = body["name"]
    if "tag_name" in body:  # as recorded from a build without a name
        older |= {"tag_name": "unknown", "commit_sha": "unknown"}
    if "pipeline_spec" in body:
        older["pipeline_spec"] = _older_spec(body["pipeline_spec"])
    for key in _LISTS:
        items = body.get(key)
        if isinstance(items, list):
            older[key] = [_older_answer(item) for item in items]
    if "next_page_token" in body:
        older["next_page_token"] = _older_token(str(body["next_page_token"]))
    return older


def _older_spec(spec: object) -> object:
    """Adds the key that Kubernetes' older library writes to the Workflow of a v1 pipeline."""
    if not isinstance(spec, dict) or spec.get("kind") != "Workflow":
        return spec
    return {**spec, "metadata": {**spec["metadata"], "creationTimestamp": None}}


def _older_token(token: str) -> str:
    fields = json.loads(base64.b64decode(token))
    fields.pop("SortBySQLColumn")
    return base64.b64encode(_to_bytes(fields)).decode()


def _older_failure(body: dict[str, object]) -> object:
    text = json.dumps(body, ensure_ascii=False)
    for newer, older in _NEWER_WORDS:
        text = newer.sub(older, text)
    failure = json.loads(text)
    return {"error": failure["message"], **failure}


def _said(reply: _Reply) -> str:
    text = reply.body.decode()
    return str(json.loads(text)["error_message"]) if text.startswith("{") else text


def _unreadable(file: bytes) -> str:
    if file.startswith(_EMPTY_ZIP):
        raise _BrokenOffError
    if len(file) > _FILE_LIMIT:
        size = f"File size too large. Maximum supported size: {_FILE_LIMIT}"
        return f"Error read pipeline file: Invalid input error: {size}"
    if file.startswith(b"PK"):
        cause = "Error extracting pipeline from the zip file. Not a valid zip file: zip: not a valid zip file"
        return f"Error decompress the pipeline file: InvalidInputError: {cause}"
    return "Invalid input error: Unexpected pipeline file format. Support .zip, .tar.gz, .json or YAML"


def _refused_later(request: _Request, status: int, output: str) -> _Reply:
    """Returns the refusal of a file that could be read."""
    failed = f"Failed to create {request.what}"
    if status == 409:
        return _upload_refusal(409, f"{failed}. The pipeline already exists.: {_taken(request)}")
    if "length cannot exceed" in output:
        cause = "InternalServerError: Failed to insert a new pipeline: Error 1406 (22001): Data too long for column"
        return _upload_refusal(500, f"{failed}: {failed}: {cause} 'Name' at row 1")
    if output.startswith("pipeline's name must"):
        return _upload_refusal(500, f"{failed}: Invalid input error: {output}")
    cause = f"InvalidInputError: {output}: pipeline spec is invalid"
    return _upload_refusal(500, f"{failed}: {failed} due to template creation error: {cause}")


def _taken(request: _Request) -> str:
    name = request.query.get("name", "")
    if request.path.endswith("_version"):
        cause = f"Failed to create a new pipeline version. The name {name} already exist. Specify a new name"
        return f"Failed to create pipeline version in PipelineStore: Already exist error: {cause}"
    cause = f"Failed to create a new pipeline. The name {name} already exists. Please specify a new name"
    return f"Failed to create {request.what}: Already exist error: {cause}"


def _upload_refusal(status: int, words: str) -> _Reply:
    body = {"error_message": words, "error_details": f"{words}\nmain.main\n\tmain.go:1"}
    return _Reply(status, "text/plain; charset=utf-8" if status == 400 else "application/json", _to_bytes(body))


def _to_bytes(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

"""A KFP that fails halfway: exact errors, no blind retries, and nothing of ours is left behind."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import threading
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

import pytest
from tests.connecting import connect
from tests.repository.conftest import call, pipeline_file
from tests.scripted_kfp import Behaviour, Connection, Received, ScriptedKfp, after, answers, resets, sends, stalls

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.listing import PageRequest, View
from kfadapter_grpc.contract.pipelines import (
    IfExists,
    ListPipelinesRequest,
    PipelineRef,
    UploadPipelineMetadata,
    VersionRef,
)
from kfadapter_grpc.kfp.transport import Transport

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.pipelines import Pipelines

ID = "11111111-1111-4111-8111-111111111111"
VERSION = "22222222-2222-4222-8222-222222222222"
PIPELINE_JSON = {"pipeline_id": ID, "name": "p", "display_name": "p", "created_at": "2026-01-02T03:04:05Z"}
VERSION_JSON = {"pipeline_id": ID, "pipeline_version_id": VERSION, "name": "p", "display_name": "p"}
NOT_FOUND = answers(404, {"code": 5, "message": "x", "details": [{"message": "Namespace/Pipeline /p not found"}]})
GONE = answers(404, {"code": 5, "message": "x", "details": [{"message": f"Pipeline {ID} not found"}]})
TAKEN = answers(409, {"code": 6, "message": "x", "details": [{"message": "The name p already exist"}]})
NO_VERSIONS = answers(200, {})
FOUND = answers(200, PIPELINE_JSON)
MADE = answers(200, {**PIPELINE_JSON, "tags": {"kfadapter_attempt": "somebody's"}})
STORED = answers(200, VERSION_JSON)
DELETED = answers(200, {})
BLURRED_VERSION = answers(
    400, {"error_message": "Failed to create a pipeline version", "error_details": "at main.go:1"}
)

BY_NAME = r"/pipelines/names/"
CREATE = r"/pipelines$"
UPLOAD_VERSION = r"/pipelines/upload_version\?"
DELETE = rf"/pipelines/{ID}(\?|$)"
VERSIONS = rf"/pipelines/{ID}/versions\?"
CHEAP = r"/apis/v1beta1/"


def _new_pipeline(scripted: ScriptedKfp, *upload: Behaviour) -> ScriptedKfp:
    """A KFP without the pipeline, which creates it and then does this with the version."""
    scripted.on("GET", BY_NAME, NOT_FOUND).on("POST", UPLOAD_VERSION, *upload).on("POST", CREATE, MADE)
    return scripted.on("DELETE", DELETE, DELETED)


@pytest.mark.parametrize(
    "fault", [resets(), sends(b"", then_close=True), sends(b"HTTP/1.1 200 OK\r\n", then_close=True)]
)
def test_a_broken_upload_is_undone(scripted: ScriptedKfp, before_scripted: Pipelines, fault: Behaviour) -> None:
    """The version is looked up, not resent; the pipeline created for it is deleted without cascade.

    All these requests carry the call's request id, and are counted as its own.
    """
    _new_pipeline(scripted, fault).on("GET", VERSIONS, NO_VERSIONS)
    uploading = call()
    with pytest.raises(errors.KfpUnavailableError, match="same request_id"):
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), uploading)
    assert {request.headers["x-request-id"] for request in scripted.requests} == {uploading.request_id}
    assert uploading.usage.kfp_requests == len(scripted.requests)
    assert len([path for path in scripted.paths("POST") if "upload_version" in path]) == 1
    assert scripted.paths("DELETE") == [f"/apis/v2beta1/pipelines/{ID}"]


def test_a_broken_answer_to_a_stored_version_is_a_success(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """The version was stored and only the answer broke: the lookup finds it, and nothing is undone."""
    _new_pipeline(scripted, resets()).on("GET", VERSIONS, answers(200, {"pipeline_versions": [VERSION_JSON]}))
    assert (
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), call()).version.pipeline_version_id
        == VERSION
    )
    assert scripted.paths("DELETE") == []


@pytest.mark.parametrize(("request_id", "sought"), [("", '"key":"name"'), ("mine", '"key":"tags.kfadapter_request"')])
def test_a_broken_answer_is_not_taken_for_another_upload_of_the_same_content(
    scripted: ScriptedKfp, before_scripted: Pipelines, request_id: str, sought: str
) -> None:
    """Another upload of the same bytes may have taken the version's name: with a request id, that is looked up."""
    _new_pipeline(scripted, resets()).on("GET", VERSIONS, NO_VERSIONS)
    with pytest.raises(errors.KfpUnavailableError):
        before_scripted.upload(UploadPipelineMetadata("p", request_id=request_id), pipeline_file(), call())
    (path,) = [unquote_plus(one) for one in scripted.paths("GET") if "/versions?" in one]
    assert sought in path.replace(" ", "")
    assert '"key":"tags.kfadapter_sha256"' in path.replace(" ", "")


class BrokenDisk(io.BytesIO):
    """A file that cannot be read from its n-th read on."""

    def __init__(self, data: bytes, good: int) -> None:
        super().__init__(data)
        self._good = good

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads, or fails as a disk does."""
        self._good -= 1
        if self._good < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO), "/secret/path")
        return super().read(size)


@pytest.mark.parametrize("good", range(4))
def test_a_disk_that_cannot_be_read_is_not_kfps_fault(
    scripted: ScriptedKfp, before_scripted: Pipelines, good: int
) -> None:
    """Whichever read of the file fails, the error is about the disk and names no path, and the pipeline is undone."""
    data = b"#" * 600_000  # two and a half whole reads, and one that finds the end
    file = replace(pipeline_file(), stream=BrokenDisk(data, good), size=len(data))
    _new_pipeline(scripted, STORED)
    with pytest.raises(errors.InternalError, match="disk") as caught:
        before_scripted.upload(UploadPipelineMetadata("p"), file, call())
    assert "/secret" not in caught.value.message
    assert scripted.paths("DELETE") == [f"/apis/v2beta1/pipelines/{ID}"]


def test_a_slow_upload_ends_at_the_deadline_and_is_undone(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """KFP_TIMEOUT, and the undo has a time limit of its own."""
    _new_pipeline(scripted, stalls()).on("GET", VERSIONS, NO_VERSIONS)
    with pytest.raises(errors.KfpTimeoutError):
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), call(0.5))
    assert scripted.paths("DELETE") == [f"/apis/v2beta1/pipelines/{ID}"]


def test_a_caller_that_goes_away_is_cleaned_up_after(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """A cancelled upload ends at once and its empty pipeline is deleted."""
    _new_pipeline(scripted, stalls()).on("GET", VERSIONS, NO_VERSIONS)
    the_call = call()
    threading.Timer(0.2, the_call.cancel).start()
    with pytest.raises(errors.CallCancelledError):
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), the_call)
    assert scripted.paths("DELETE") == [f"/apis/v2beta1/pipelines/{ID}"]


def test_a_caller_that_goes_away_while_the_pipeline_is_made(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Creating the pipeline is not interrupted at once, because its answer says what must be undone."""
    the_call = call()

    def make(connection: Connection, received: Received) -> bool:
        the_call.cancel()
        return MADE(connection, received)

    _new_pipeline(scripted, STORED)
    scripted.first("POST", CREATE, make)
    with pytest.raises(errors.CallCancelledError):
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), the_call)
    assert scripted.paths("DELETE") == [f"/apis/v2beta1/pipelines/{ID}"]


def test_a_caller_that_goes_away_while_kfp_does_not_answer(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """The adapter does not wait for the missing answer, and does not look up what may have been created."""
    the_call = call()
    scripted.on("POST", CREATE, stalls())
    threading.Timer(0.1, the_call.cancel).start()
    with pytest.raises(errors.CallCancelledError):
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), the_call)
    assert the_call.remaining() > 1
    assert [request.method for request in scripted.requests] == ["POST"]


class _MakesAndBreaks:
    """Creates the requested pipeline, and breaks the answer; afterwards it is found by name."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def make(self, connection: Connection, received: Received) -> bool:
        """Reads the tags, then breaks the connection."""
        self.tags = json.loads(received.body)["tags"]
        return resets()(connection, received)

    def find(self, connection: Connection, received: Received) -> bool:
        """Returns the pipeline, once it is created."""
        shown = answers(200, {**PIPELINE_JSON, "tags": self.tags}) if self.tags else NOT_FOUND
        return shown(connection, received)


def test_a_pipeline_whose_answer_broke_is_ours_all_the_same(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """The answer broke after the pipeline was created: its tag identifies it as ours, and the upload continues."""
    kfp = _MakesAndBreaks()
    scripted.on("GET", BY_NAME, kfp.find).on("POST", UPLOAD_VERSION, STORED).on("POST", CREATE, kfp.make)
    result = before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), call())
    assert (result.pipeline_created, result.version.pipeline_version_id) == (True, VERSION)
    assert len([path for path in scripted.paths("POST") if path.endswith("/pipelines")]) == 1


def test_a_pipeline_of_somebody_else_is_not_taken_for_ours(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """After a broken answer, a pipeline with another attempt's tag is left alone, and the error is reported."""
    scripted.on("GET", BY_NAME, NOT_FOUND, MADE).on("POST", CREATE, resets())
    with pytest.raises(errors.KfpUnavailableError):
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), call())
    assert scripted.paths("DELETE") == []


def test_an_adopted_pipeline_is_not_undone(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """An empty pipeline that another client created stays when our version fails."""
    scripted.on("GET", BY_NAME, FOUND).on("GET", CHEAP, NO_VERSIONS).on("GET", VERSIONS, NO_VERSIONS)
    scripted.on("POST", CREATE, TAKEN).on("POST", UPLOAD_VERSION, resets()).on("DELETE", DELETE, DELETED)
    with pytest.raises(errors.KfpUnavailableError):
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), call())
    assert scripted.paths("DELETE") == []


def test_an_undo_that_fails_hides_nothing(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """If the undo is rejected because the pipeline has another client's version, the first error is reported."""
    scripted.on("DELETE", DELETE, answers(400, {"code": 3, "message": "existing pipeline versions"}))
    _new_pipeline(scripted, answers(500, {"error_message": "boom"})).on("GET", VERSIONS, NO_VERSIONS)
    with pytest.raises(errors.KfpError, match="boom"):
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), call())


def test_a_pipeline_deleted_in_the_middle_is_made_anew(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """If the pipeline is deleted between our two steps, a read explains KFP's vague 400, and the upload restarts."""
    scripted.on("GET", rf"/pipelines/{ID}$", GONE)
    _new_pipeline(scripted, BLURRED_VERSION, STORED)
    result = before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), call())
    assert (result.version.pipeline_version_id, result.pipeline_created) == (VERSION, True)


@pytest.mark.parametrize("seen", [0, 1], ids=["counting", "numbering"])
def test_a_pipeline_deleted_right_after_it_was_found_is_made_anew(
    scripted: ScriptedKfp, before_scripted: Pipelines, seen: int
) -> None:
    """If the pipeline is deleted while its versions are read, the upload restarts, as it is for a name."""
    one_version = answers(200, {"versions": [{"id": VERSION, "name": "p"}], "total_size": 1})
    scripted.on("GET", CHEAP, *[one_version] * seen, GONE).on("GET", BY_NAME, FOUND, NOT_FOUND)
    scripted.on("POST", UPLOAD_VERSION, STORED).on("POST", CREATE, MADE)
    assert before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), call()).pipeline_created


@pytest.mark.parametrize(
    ("look", "error"),
    [
        (answers(401, {"code": 16, "message": "no user"}), errors.KfpRejectedCredentialsError),
        (answers(403, {"code": 7, "message": "not you"}), errors.KfpRejectedCredentialsError),
        (FOUND, errors.KfpError),
    ],
    ids=["401", "403", "allowed"],
)
def test_a_blurred_refusal_is_looked_through(
    scripted: ScriptedKfp, before_scripted: Pipelines, look: Behaviour, error: type[errors.AdapterError]
) -> None:
    """A multi-user KFP answers 400 to unauthorized uploads; a read finds the actual reason."""
    scripted.on("GET", rf"/pipelines/{ID}$", look)
    _new_pipeline(scripted, BLURRED_VERSION)
    with pytest.raises(error) as caught:
        before_scripted.upload(UploadPipelineMetadata("p", namespace="team-a"), pipeline_file(), call())
    assert "main.go" not in str(caught.value.message) + str(caught.value.metadata)


def test_looking_and_undoing_have_a_budget_of_their_own(
    scripted: ScriptedKfp, before_scripted: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the upload took, lookup and undo have their own time limit afterwards, under the same request id."""
    monkeypatch.setattr("kfadapter_grpc.kfp.writes.FOLLOWUP_SECONDS", 0.4)
    scripted.on("GET", rf"/pipelines/{ID}$", answers(403, {"code": 7, "message": "not you"}))
    _new_pipeline(scripted, after(0.6, BLURRED_VERSION))
    uploading = call()
    with pytest.raises(errors.KfpRejectedCredentialsError):
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), uploading)
    assert scripted.paths("DELETE") == [f"/apis/v2beta1/pipelines/{ID}"]
    assert {request.headers["x-request-id"] for request in scripted.requests} == {uploading.request_id}


def test_a_large_file_that_kfp_cannot_store(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """A bare 500 for a file above MySQL's packet size is reported as UPLOAD_TOO_LARGE, with the size."""
    _new_pipeline(scripted, answers(500, {"error_message": "Failed to create a pipeline version"}))
    file = pipeline_file(suffix="#" + "x" * 17_000_000)
    with pytest.raises(errors.UploadTooLargeError, match=str(file.size)):
        before_scripted.upload(UploadPipelineMetadata("p"), file, call())


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (answers(200, b"<title>Log in</title>", content_type="text/html"), errors.KfpRejectedCredentialsError),
        (answers(200, b"<html>dashboard</html>", content_type="text/html; charset=utf-8"), errors.KfpError),
        (answers(302, headers={"Location": "https://dex.example.org/auth"}), errors.KfpRejectedCredentialsError),
        (answers(301, headers={"Location": "/pipeline/"}), errors.KfpError),
        (answers(401), errors.KfpRejectedCredentialsError),
        (answers(403), errors.KfpRejectedCredentialsError),
        (answers(429, headers={"Retry-After": "7"}), errors.KfpUnavailableError),
        (answers(500, {"code": 13, "message": "Internal Server Error"}), errors.KfpError),
        (answers(503), errors.KfpUnavailableError),
        (answers(404, b"404 page not found", content_type="text/plain"), errors.KfpError),
        (answers(200, b"{'not': json}"), errors.KfpError),
        (answers(200, {"pipelines": "x", "versions": 3, "total_size": [], "pipeline_id": 7}), errors.KfpError),
        (answers(200, {key: [7] for key in ("pipelines", "versions", "pipeline_versions")}), errors.KfpError),
        (answers(200, b"\xff\xfe"), errors.KfpError),
        (resets(), errors.KfpUnavailableError),
        (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", then_close=True), errors.KfpUnavailableError),
    ],
)  # fmt: skip
def test_every_read_tells_the_fault(
    scripted: ScriptedKfp, before_scripted: Pipelines, fault: Behaviour, error: type[errors.AdapterError]
) -> None:
    """Get, List and ListVersions report each error of KFP with its documented reason."""
    scripted.on("GET", "", fault)
    ref = PipelineRef(pipeline_id=ID)
    reads = (
        lambda: before_scripted.get(ref, View.FULL, call()),
        lambda: before_scripted.list(ListPipelinesRequest(), PageRequest(), call()),
        lambda: before_scripted.list_versions(ref, View.BASIC, PageRequest(), call()),
        lambda: before_scripted.list_versions(ref, View.FULL, PageRequest(), call()),
    )
    for read in reads:
        with pytest.raises(error) as caught:
            read()
        assert type(caught.value).reason == error.reason


def test_retry_after_reaches_the_caller(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """KFP's Retry-After is passed on."""
    scripted.on("GET", "", answers(429, headers={"Retry-After": "7"}))
    with pytest.raises(errors.KfpUnavailableError) as caught:
        before_scripted.get(PipelineRef(name="p"), View.BASIC, call())
    assert caught.value.retry_after == 7


def test_nobody_listens() -> None:
    """If KFP is unreachable every call reports it at once, writes too."""
    backend = connect("http://127.0.0.1:9")
    for attempt in (
        lambda: backend.pipelines.get(PipelineRef(name="p"), View.BASIC, call()),
        lambda: backend.pipelines.upload(UploadPipelineMetadata("p"), pipeline_file(), call()),
        lambda: backend.pipelines.delete(PipelineRef(name="p"), call(), force=True, allow_missing=True),
    ):
        with pytest.raises(errors.KfpUnavailableError, match="cannot be reached"):
            attempt()
    assert not backend.is_alive()
    backend.close()


@pytest.mark.parametrize(
    "gone",
    [
        answers(404, {"code": 5, "message": "Not Found"}),
        answers(404, b"<html>404 of a proxy", content_type="text/html"),
        answers(501),
        answers(405, b"x"),
    ],
)
def test_without_the_cheap_list_the_other_one_is_read(
    scripted: ScriptedKfp, before_scripted: Pipelines, gone: Behaviour
) -> None:
    """A KFP without the v1beta1 API is called through v2beta1, and v1beta1 is not retried on every call."""
    scripted.on("GET", CHEAP, gone)
    spec = {"pipelineInfo": {"name": "x"}, "root": {}}
    full = {"pipeline_versions": [{**VERSION_JSON, "pipeline_spec": spec}], "total_size": 1}
    scripted.on("GET", VERSIONS, answers(200, full))
    for _ in range(2):
        page = before_scripted.list_versions(PipelineRef(pipeline_id=ID), View.BASIC, PageRequest(), call())
        assert [(v.pipeline_version_id, v.spec) for v in page.items] == [(VERSION, None)]
    assert len([path for path in scripted.paths("GET") if "v1beta1" in path]) == 1


def test_a_broken_delete_is_looked_after(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """DELETE is never resent; if the pipeline no longer exists afterwards, it was deleted."""
    scripted.on("GET", rf"/pipelines/{ID}$", FOUND, GONE).on("DELETE", DELETE, resets())
    scripted.on("GET", CHEAP, answers(200, {"versions": [{"id": VERSION, "name": "p"}], "total_size": 1}))
    ref = PipelineRef(pipeline_id=ID)
    assert before_scripted.delete(ref, call(), force=True, allow_missing=False).versions_deleted == 1
    assert len(scripted.paths("DELETE")) == 1


def test_a_broken_delete_of_a_version_is_looked_after(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """It is not resent; if the version no longer exists it was deleted, otherwise the error is reported."""
    gone = answers(404, {"code": 5, "message": f"PipelineVersion {VERSION} not found"})
    there = answers(200, VERSION_JSON)
    scripted.on("GET", rf"/versions/{VERSION}$", there, gone, there, there).on("DELETE", r"/versions/", resets())
    scripted.on("GET", rf"/pipelines/{ID}$", FOUND)
    ref, version = PipelineRef(pipeline_id=ID), VersionRef(VERSION)
    assert before_scripted.delete_version(ref, version, call(), allow_missing=False).pipeline_version_id == VERSION
    with pytest.raises(errors.KfpUnavailableError):
        before_scripted.delete_version(ref, version, call(), allow_missing=True)
    assert len(scripted.paths("DELETE")) == 2


def test_a_version_added_in_the_middle_of_a_delete_is_safe(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Without force nothing unknown to the caller is deleted: KFP rejects the delete, and the count is reported."""
    one = {"versions": [{"id": VERSION, "name": "p"}], "total_size": 1}
    scripted.on("GET", rf"/pipelines/{ID}$", FOUND).on("GET", CHEAP, answers(200, one))
    scripted.on("DELETE", r"/versions/", DELETED)
    scripted.on("DELETE", rf"{ID}$", answers(400, {"code": 3, "message": "it has existing pipeline versions (e.g. z)"}))
    with pytest.raises(errors.PipelineHasVersionsError, match=r"another one was added meanwhile: .* versions is 1"):
        before_scripted.delete(PipelineRef(pipeline_id=ID), call(), force=False, allow_missing=False)
    assert all("cascade" not in path for path in scripted.paths("DELETE"))


def test_in_a_namespace_a_shared_pipeline_is_the_second_choice(
    scripted: ScriptedKfp, before_scripted: Pipelines
) -> None:
    """A name is looked up in the namespace, then among shared pipelines, never in another namespace."""
    elsewhere = {**PIPELINE_JSON, "namespace": "team-b"}
    scripted.on("GET", BY_NAME + r"p\?namespace=team-a", NOT_FOUND).on("GET", BY_NAME, answers(200, elsewhere))
    scripted.on("GET", r"/pipelines\?", NO_VERSIONS, answers(200, {"pipelines": [PIPELINE_JSON], "total_size": 1}))
    ref = PipelineRef(name="p", namespace="team-a")
    with pytest.raises(errors.PipelineNotFoundError):
        before_scripted.get(ref, View.BASIC, call())
    assert before_scripted.get(ref, View.BASIC, call()).namespace == ""


def test_an_upload_goes_to_its_own_namespace(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """A shared pipeline of that name does not receive a namespace's upload, and the namespace is always sent."""
    _new_pipeline(scripted, STORED)
    before_scripted.upload(UploadPipelineMetadata("p", namespace="team-a"), pipeline_file(), call())
    before_scripted.upload(
        UploadPipelineMetadata("p", namespace="team-a", if_exists=IfExists.FAIL), pipeline_file(), call()
    )
    assert scripted.paths("GET") == ["/apis/v2beta1/pipelines/names/p?namespace=team-a"]
    created = json.loads(next(request.body for request in scripted.requests if request.path.endswith("/pipelines")))
    assert created["namespace"] == "team-a"


def test_a_new_pipeline_takes_two_requests(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Nothing is looked up for a new pipeline, nor for the version that is stored in it."""
    _new_pipeline(scripted, STORED)
    before_scripted.upload(UploadPipelineMetadata("p", request_id="id-1"), pipeline_file(), call())
    asked = [f"{request.method} {request.path.partition('?')[0]}" for request in scripted.requests]
    assert asked == ["POST /apis/v2beta1/pipelines", "POST /apis/v2beta1/pipelines/upload_version"]


@pytest.mark.parametrize(
    ("request_", "looks"),
    [
        (UploadPipelineMetadata("p"), ["names", "cheap"]),
        (UploadPipelineMetadata("p", request_id="id-1"), ["names", "cheap", "versions"]),
        (UploadPipelineMetadata("p", version_name="v"), ["names"]),
        (UploadPipelineMetadata("p", version_name="v", request_id="id-1"), ["names", "versions"]),
    ],
    ids=["plain", "repeatable", "named", "named and repeatable"],
)
def test_a_further_version_looks_up_what_it_needs(
    scripted: ScriptedKfp, before_scripted: Pipelines, request_: UploadPipelineMetadata, looks: list[str]
) -> None:
    """The pipeline by name, the used numbers unless a name is given, an earlier upload if one is possible."""
    scripted.on("POST", CREATE, TAKEN).on("GET", BY_NAME, FOUND).on("POST", UPLOAD_VERSION, STORED)
    scripted.on("GET", CHEAP, answers(200, {"versions": [{"id": VERSION, "name": "p"}], "total_size": 1}))
    scripted.on("GET", VERSIONS, NO_VERSIONS)
    before_scripted.upload(request_, pipeline_file(), call())
    kinds = {"names": BY_NAME, "cheap": CHEAP, "versions": VERSIONS}
    asked = [
        next(kind for kind, pattern in kinds.items() if re.search(pattern, path)) for path in scripted.paths("GET")
    ]
    assert asked == looks


def test_the_file_is_streamed_with_its_length(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """KFP gets one multipart file under a name of ours, with the announced length, byte for byte."""
    _new_pipeline(scripted, STORED)
    file = pipeline_file()
    before_scripted.upload(UploadPipelineMetadata("p"), file, call())
    sent = next(request for request in scripted.requests if "upload_version" in request.path)
    assert "transfer-encoding" not in sent.headers
    assert int(sent.headers["content-length"]) == len(sent.body)
    assert b'name="uploadfile"; filename="pipeline.yaml"' in sent.body
    file.stream.seek(0)
    assert file.stream.read() in sent.body


def test_large_specs_in_answers_are_dropped(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """KFP repeats the whole spec in its answer: the other fields are read, and 30 MiB are never allocated."""
    spec = b'{"root": {"tags": {"no": "no"}}, "x": "' + b'\\"pipeline_spec\\": ' * 1_600_000 + b'"}'
    tags = json.dumps({"kfadapter_sha256": "A" * 43, "team": "ml"}).encode()
    body = json.dumps({**VERSION_JSON, "description": ',\\"pipeline_spec\\": {}'}).encode()
    body = body[:-1] + b', "pipeline_spec": ' + spec + b', "tags": ' + tags + b"}"
    assert len(body) > 30_000_000
    _new_pipeline(scripted, answers(200, body))
    tracemalloc.start()
    result = before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), call())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (result.version.pipeline_version_id, result.version.tags) == (VERSION, {"team": "ml"})
    assert result.version.sha256 == "00" * 32
    assert peak < 8_000_000


def test_losing_five_times_is_contested(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """The next number is read again after each conflict; after five, NAME_CONTESTED says what to do."""
    taken = answers(409, {"error_message": "Failed to create a pipeline version"})
    scripted.on("POST", CREATE, TAKEN).on("GET", BY_NAME, FOUND).on("POST", UPLOAD_VERSION, taken)
    scripted.on("GET", CHEAP, answers(200, {"versions": [{"id": VERSION, "name": "41"}], "total_size": 1}))
    with pytest.raises(errors.NameContestedError, match="5 times"):
        before_scripted.upload(UploadPipelineMetadata("p"), pipeline_file(), call())
    uploads = [path for path in scripted.paths("POST") if "name=42" in path]
    assert len(uploads) == 5


def test_a_kfp_without_tags_says_that_nobody_could_look(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Before 2.17 the check for an earlier upload is impossible: the answer says so, and the upload is stored."""
    refused = {
        "code": 3,
        "message": "x",
        "details": [{"message": 'no support for filtering on unrecognized field "tags.k"'}],
    }
    scripted.on("GET", BY_NAME, FOUND).on("POST", UPLOAD_VERSION, STORED).on("GET", VERSIONS, answers(400, refused))
    scripted.on("GET", CHEAP, answers(200, {"versions": [{"id": VERSION, "name": "p"}], "total_size": 1}))
    scripted.on("POST", CREATE, TAKEN)
    request = UploadPipelineMetadata("p", if_exists=IfExists.SKIP_IF_SAME)
    result = before_scripted.upload(request, pipeline_file(), call())
    assert (result.version_created, result.duplicate_check_skipped) == (True, True)
    assert before_scripted.upload(
        replace(request, if_exists=IfExists.NEW_VERSION), pipeline_file(), call()
    ).version_created


def test_a_foreign_namespace_is_told(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Creating a pipeline in a namespace without access is the operator's error, and the message says so."""
    scripted.on("GET", BY_NAME, NOT_FOUND).on("POST", CREATE, answers(403, {"code": 7, "message": "no"}))
    with pytest.raises(errors.KfpRejectedCredentialsError, match="operator"):
        before_scripted.upload(UploadPipelineMetadata("p", namespace="team-b"), pipeline_file(), call())


SECOND = "33333333-3333-4333-8333-333333333333"
ONE_VERSION = answers(200, {"versions": [{"id": VERSION, "name": "p"}], "total_size": 1})
TWO_VERSIONS = answers(200, {"versions": [{"id": SECOND, "name": "2"}, {"id": VERSION, "name": "p"}], "total_size": 2})


def test_a_version_that_was_not_seen_is_never_deleted(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Without force one list finds the only version; one that is uploaded later stays, and so does the pipeline."""
    scripted.on("GET", rf"/pipelines/{ID}$", FOUND).on("GET", CHEAP, ONE_VERSION, TWO_VERSIONS)
    scripted.on("DELETE", r"/versions/", DELETED)
    scripted.on("DELETE", rf"{ID}$", answers(400, {"code": 3, "message": "it has existing pipeline versions (e.g. 2)"}))
    with pytest.raises(errors.PipelineHasVersionsError, match="one version that was known is deleted, but another"):
        before_scripted.delete(PipelineRef(pipeline_id=ID), call(), force=False, allow_missing=False)
    pipeline = f"/apis/v2beta1/pipelines/{ID}"
    assert scripted.paths("DELETE") == [f"{pipeline}/versions/{VERSION}", pipeline]


def test_several_versions_are_not_deleted_without_force(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Nothing is deleted if there is more than one version, and their number is reported."""
    scripted.on("GET", rf"/pipelines/{ID}$", FOUND).on("GET", CHEAP, TWO_VERSIONS)
    with pytest.raises(errors.PipelineHasVersionsError, match="has 2 versions; set force"):
        before_scripted.delete(PipelineRef(pipeline_id=ID), call(), force=False, allow_missing=False)
    assert scripted.paths("DELETE") == []


LATEST_GONE = answers(404, {"code": 5, "message": f"PipelineVersion {SECOND} not found"})
FULL_VERSION = answers(200, {**VERSION_JSON, "pipeline_spec": {"pipelineInfo": {"name": "x"}, "root": {}}})


def test_a_latest_version_deleted_in_the_middle_is_looked_for_anew(
    scripted: ScriptedKfp, before_scripted: Pipelines
) -> None:
    """If the latest version is deleted between find and get, the version that is the latest now is returned."""
    scripted.on("GET", rf"/versions/{SECOND}$", LATEST_GONE).on("GET", rf"/versions/{VERSION}$", FULL_VERSION)
    scripted.on("GET", rf"/pipelines/{ID}$", FOUND)
    scripted.on("GET", CHEAP, TWO_VERSIONS, ONE_VERSION, TWO_VERSIONS, ONE_VERSION)
    ref = PipelineRef(pipeline_id=ID)
    full = before_scripted.get(ref, View.FULL, call())
    assert full.latest_version is not None
    assert (full.latest_version.pipeline_version_id, full.version_count) == (VERSION, 1)
    assert before_scripted.get_version(ref, VersionRef(), call()).pipeline_version_id == VERSION


def test_latest_versions_that_keep_going_are_told_as_versions(
    scripted: ScriptedKfp, before_scripted: Pipelines
) -> None:
    """After three latest versions that were deleted, VERSION_NOT_FOUND names the version, not the pipeline."""
    scripted.on("GET", rf"/versions/{SECOND}$", LATEST_GONE).on("GET", CHEAP, TWO_VERSIONS)
    scripted.on("GET", rf"/pipelines/{ID}$", FOUND)
    with pytest.raises(errors.VersionNotFoundError, match=SECOND) as caught:
        before_scripted.get(PipelineRef(pipeline_id=ID), View.FULL, call())
    assert (caught.value.resource_name, caught.value.metadata["pipeline_version_id"]) == (SECOND, SECOND)
    assert len([path for path in scripted.paths("GET") if "v1beta1" in path]) == 3


def _page_of(size: int, token: str = "") -> Behaviour:
    """A page of versions with specs, all of one second, numbered downwards from 2 * size, or from size on the last."""
    first = 2 * size if token else size
    versions = [
        {**VERSION_JSON, "name": str(first - n), "created_at": "2026-01-02T03:04:05Z", "pipeline_spec": {}}
        for n in range(size)
    ]
    return answers(200, {"pipeline_versions": versions, "total_size": 2 * size, "next_page_token": token})


def test_lists_with_specs_are_read_in_smaller_pages(
    scripted: ScriptedKfp, before_scripted: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where lists contain specs, 20 versions are requested at once, and fewer while the answer is too large."""
    send = Transport.send
    monkeypatch.setattr(
        Transport, "send", lambda self, request, *rest: send(self, replace(request, limit=5_000), *rest)
    )
    scripted.on("GET", CHEAP, answers(501)).on("GET", r"page_size=(20|5)&.*created_at", answers(200, b" " * 6_000))
    scripted.on("GET", r"page_token=more", _page_of(1)).on("GET", r"page_size=1&", _page_of(1, "more"))
    scripted.on("GET", rf"/versions/{VERSION}$", FULL_VERSION).on("GET", rf"/pipelines/{ID}$", FOUND)
    assert before_scripted.get(PipelineRef(pipeline_id=ID), View.FULL, call()).version_count == 2
    sizes = [path.partition("page_size=")[2].partition("&")[0] for path in scripted.paths("GET") if "sort_by" in path]
    assert sizes == ["200", "20", "5", "1", "20", "5", "1"]
    page = before_scripted.list_versions(PipelineRef(pipeline_id=ID), View.FULL, PageRequest(), call())
    assert [version.name for version in page.items] == ["2", "1"]

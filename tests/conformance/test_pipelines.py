"""PipelineService: the main use case, common mistakes, and their errors."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import pytest
import yaml
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from tests.conformance.calling import PIPELINES, chunk, metadata
from tests.contract.running import failure

from kfadapter.v1 import common_pb2
from kfadapter.v1 import pipeline_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.calling import Api
    from tests.contract.running import Reported

_ListRequest: TypeAlias = pb.ListPipelinesRequest | pb.ListPipelineVersionsRequest

HELLO = (PIPELINES / "hello_world.yaml").read_bytes()
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def _list(api: Api, request: _ListRequest) -> object:
    if isinstance(request, pb.ListPipelinesRequest):
        return api.pipelines.List(request)
    return api.pipelines.ListVersions(request)


def fields(reported: Reported) -> list[str]:
    """The fields that an error names."""
    return [field for field, _ in reported.violations]


@pytest.mark.parametrize(
    ("messages", "reason", "words"),
    [
        ([], "INVALID_UPLOAD", "the stream is empty"),
        ([chunk(HELLO)], "INVALID_UPLOAD", "does not begin with metadata"),
        ([chunk(HELLO), metadata("x")], "INVALID_UPLOAD", "does not begin with metadata"),
        ([pb.UploadPipelineRequest()], "INVALID_UPLOAD", "does not begin with metadata"),
        ([metadata("x"), chunk(HELLO), metadata("x")], "INVALID_UPLOAD", "a second time"),
        ([metadata("x"), pb.UploadPipelineRequest()], "INVALID_UPLOAD", "neither metadata nor chunk"),
        ([metadata("x")], "INVALID_UPLOAD", ""),
        ([metadata("x"), chunk(b"")], "INVALID_UPLOAD", ""),
        ([metadata("x", total_bytes=5), chunk(HELLO)], "INVALID_UPLOAD", "5"),
        ([metadata("x", total_bytes=10_000), chunk(HELLO)], "INVALID_UPLOAD", "10000"),
        ([metadata("x", sha256="0" * 64), chunk(HELLO)], "CHECKSUM_MISMATCH", ""),
        ([metadata("x", total_bytes=34_603_008), chunk(HELLO)], "UPLOAD_TOO_LARGE", "33554432"),
        ([metadata("x"), chunk(b"\x89PNG\r\n\x1a\n" + bytes(100))], "INVALID_PIPELINE_FILE", "PNG"),
        ([metadata("x"), chunk(b"a: [1,\nb: {")], "INVALID_PIPELINE_FILE", "Line 3, column 1"),
        ([metadata("x"), chunk(b"just text")], "INVALID_PIPELINE_FILE", ""),
        ([metadata("x"), chunk(b"a: 1")], "INVALID_PIPELINE_FILE", "unknown template format"),
        ([metadata("")], "INVALID_FIELD", "metadata.name"),
        ([metadata(" ")], "INVALID_FIELD", "metadata.name"),
        ([metadata("n" * 300)], "INVALID_FIELD", "300"),
        ([metadata("n" * 128)], "INVALID_FIELD", "127"),
        ([metadata("a\nb")], "INVALID_FIELD", "control"),
    ],
)  # fmt: skip
def test_a_wrong_upload(api: Api, name: str, messages: list[pb.UploadPipelineRequest], reason: str, words: str) -> None:
    """Each mistake has its reason and a message that names it; nothing of it is stored."""
    if messages and messages[0].metadata.name == "x":
        messages[0].metadata.name = name
    error = failure(lambda: api.pipelines.Upload(iter(messages), timeout=30))
    assert (error.reason, words in error.message) == (reason, True), error.message
    if messages and messages[0].metadata.name == name:
        missing = failure(lambda: api.pipelines.Get(pb.GetPipelineRequest(name=name)))
        assert missing.reason == "PIPELINE_NOT_FOUND"


def test_the_main_job(api: Api, name: str) -> None:
    """Upload, upload again, get with parameters, list versions, list, delete."""
    first = api.upload(
        HELLO, name, description="첫 판\n두 줄", sha256=hashlib.sha256(HELLO).hexdigest(), total_bytes=len(HELLO)
    )
    assert (first.pipeline_created, first.version_created, first.bytes) == (True, True, len(HELLO))
    second = api.upload("tests/data/pipelines/all_parameter_types.yaml", name)
    assert (second.pipeline_created, second.version.name) == (False, "2")
    full = api.pipelines.Get(pb.GetPipelineRequest(name=name, view=common_pb2.VIEW_FULL))
    defaults = {
        p.name: MessageToDict(p)["defaultValue"]
        for p in full.latest_version.spec.parameters
        if p.HasField("default_value")
    }
    assert defaults == {"b": True, "d": {"a": 1.0}, "f": 0.5, "i": 7.0, "xs": [1.0, 2.0, 3.0]}
    assert full.latest_version.spec.format == pb.PIPELINE_FORMAT_KFP_V2
    assert (full.version_count, full.description) == (2, "첫 판\n두 줄")
    versions = api.pipelines.ListVersions(pb.ListPipelineVersionsRequest(name=name))
    assert {version.name for version in versions.versions} == {name, "2"}
    listed = api.pipelines.List(pb.ListPipelinesRequest(name_contains=name))
    assert [pipeline.pipeline_id for pipeline in listed.pipelines] == [full.pipeline_id]
    assert not listed.HasField("total_size")
    gone = api.pipelines.Delete(pb.DeletePipelineRequest(name=name, force=True))
    assert (gone.pipeline_id, gone.versions_deleted) == (full.pipeline_id, 2)


def test_33_mib_are_refused_before_all_of_them_came(api: Api) -> None:
    """The limit ends the stream as soon as it is exceeded."""
    sent = 0

    def messages() -> Iterator[pb.UploadPipelineRequest]:
        nonlocal sent
        yield metadata("too-large")
        for _ in range(64):
            sent += 1
            yield chunk(b"#" * 1024 * 1024)

    error = failure(lambda: api.pipelines.Upload(messages(), timeout=60))
    assert (error.reason, error.metadata["limit_bytes"]) == ("UPLOAD_TOO_LARGE", "33554432")
    assert sent < 64


def test_all_wrong_fields_are_named_at_once(api: Api) -> None:
    """One violation each: all fields of a request can be corrected at once."""
    wrong = metadata(
        "",
        version_name="v" * 128,
        sha256="xyz",
        total_bytes=-1,
        namespace="Team A",
        request_id="no spaces",
        tags={"a.b": "1", "kfadapter_sha256": "x", "k": "v" * 64},
        description="d" * 5000,
        if_exists=9,
    )
    error = failure(lambda: api.pipelines.Upload(iter([wrong])))
    assert error.reason == "INVALID_FIELD"
    named = "name version_name sha256 total_bytes namespace request_id tags description if_exists"
    assert set(fields(error)) == {f"metadata.{field}" for field in named.split()}


def test_a_pipeline_must_be_named(api: Api) -> None:
    """Neither id nor name, an empty one, one that is no valid id."""
    for request in (pb.GetPipelineRequest(), pb.GetPipelineRequest(name=""), pb.GetPipelineRequest(pipeline_id="")):
        error = failure(partial(api.pipelines.Get, request))
        assert (error.reason, fields(error)) == ("INVALID_FIELD", ["pipeline"])
    for wrong in ("train", "../../etc/passwd", UNKNOWN_ID + "0", UNKNOWN_ID.replace("-", "")):
        error = failure(partial(api.pipelines.Get, pb.GetPipelineRequest(pipeline_id=wrong)))
        assert (error.reason, fields(error)) == ("INVALID_FIELD", ["pipeline_id"])
    error = failure(lambda: api.pipelines.Get(pb.GetPipelineRequest(name="n" * 300)))
    assert (error.reason, fields(error)) == ("INVALID_FIELD", ["name"])
    error = failure(lambda: api.pipelines.Get(pb.GetPipelineRequest(pipeline_id=UNKNOWN_ID)))
    assert (error.reason, error.resource) == ("PIPELINE_NOT_FOUND", ("pipeline", UNKNOWN_ID))
    error = failure(lambda: api.pipelines.Get(pb.GetPipelineRequest(name="../../etc/passwd")))
    assert (error.reason, error.resource) == ("PIPELINE_NOT_FOUND", ("pipeline", "../../etc/passwd"))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListPipelinesRequest(page_size=-1), "page_size"),
        (pb.ListPipelinesRequest(order_by="colour"), "order_by"),
        (pb.ListPipelinesRequest(order_by="name desc, created_at"), "order_by"),
        (pb.ListPipelinesRequest(tags={"a.b": "c"}), "tags"),
        (pb.ListPipelinesRequest(tags={str(n): "x" for n in range(21)}), "tags"),
        (pb.ListPipelinesRequest(namespace="A/B"), "namespace"),
        (pb.ListPipelineVersionsRequest(name="x", page_size=-5), "page_size"),
        (pb.ListPipelineVersionsRequest(name="x", order_by="pipeline_id"), "order_by"),
        (pb.ListPipelineVersionsRequest(name="x", view=7), "view"),  # type: ignore[arg-type]
    ],
)
def test_wrong_list_requests(api: Api, request_: _ListRequest, field: str) -> None:
    """Page size, order, filters and view are checked before KFP is called."""
    error = failure(lambda: _list(api, request_))
    assert (error.reason, fields(error)) == ("INVALID_FIELD", [field])


def test_page_tokens_belong_to_their_listing(api: Api, name: str) -> None:
    """A token continues after its page, with any page size; with another filter, order or method it is rejected."""
    for number in range(3):
        api.upload(HELLO, f"{name}-{number}")
    request = pb.ListPipelinesRequest(name_contains=name, page_size=1, order_by="name")
    seen, pages = [], 0
    while True:
        page = api.pipelines.List(request)
        seen += [pipeline.name for pipeline in page.pipelines]
        pages += 1
        if not page.next_page_token:
            break
        token = request.page_token = page.next_page_token
        request.page_size = pages + 1
    assert seen == [f"{name}-{number}" for number in range(3)]
    others = (
        pb.ListPipelinesRequest(name_contains=name, order_by="name desc", page_token=token),
        pb.ListPipelinesRequest(name_contains="other", order_by="name", page_token=token),
        pb.ListPipelinesRequest(name_contains=name, order_by="name", page_token=token[:-3]),
        pb.ListPipelinesRequest(name_contains=name, order_by="name", page_token=f"!{token}"),
        pb.ListPipelineVersionsRequest(name=f"{name}-1", order_by="name", page_token=token),
    )
    for other in others:
        error = failure(partial(_list, api, other))
        assert (error.reason, fields(error)) == ("INVALID_PAGE_TOKEN", ["page_token"])


def test_what_was_uploaded_is_downloaded(api: Api, name: str) -> None:
    """The latest version, one by name and one by id; the download can be uploaded unchanged."""
    first = api.upload(HELLO, name, version_name="Alpha")
    api.upload("tests/data/pipelines/kubernetes_platform.yaml", name)

    def download(**which: str) -> bytes:
        messages = list(api.pipelines.Download(pb.DownloadPipelineRequest(**which), timeout=60))
        return b"".join(message.chunk for message in messages[1:])

    latest = download(name=name)
    assert list(yaml.safe_load_all(latest)) == list(
        yaml.safe_load_all((PIPELINES / "kubernetes_platform.yaml").read_bytes())
    )
    by_name = download(pipeline_id=first.pipeline.pipeline_id, version_name="alpha")
    assert list(yaml.safe_load_all(by_name)) == list(yaml.safe_load_all(HELLO))
    assert download(name=name, pipeline_version_id=first.version.pipeline_version_id) == by_name
    api.upload(latest, name)
    assert list(yaml.safe_load_all(download(name=name))) == list(yaml.safe_load_all(latest))
    for which, reason in (
        ({"name": name, "version_name": "beta"}, "VERSION_NOT_FOUND"),
        ({"name": name, "pipeline_version_id": UNKNOWN_ID}, "VERSION_NOT_FOUND"),
        ({"name": f"{name}-absent"}, "PIPELINE_NOT_FOUND"),
        ({"pipeline_id": UNKNOWN_ID, "pipeline_version_id": UNKNOWN_ID}, "PIPELINE_NOT_FOUND"),
    ):
        assert failure(partial(download, **which)).reason == reason


def test_one_version(api: Api, name: str) -> None:
    """By name, by id, the latest; deleted by name; a missing pipeline and a missing version have different errors."""
    first = api.upload(HELLO, name, version_name="Alpha")
    second = api.upload("tests/data/pipelines/sleeps.yaml", name)
    pipeline_id = first.pipeline.pipeline_id

    def get(**which: str) -> pb.PipelineVersion:
        return api.pipelines.GetVersion(pb.GetPipelineVersionRequest(**which))

    assert get(name=name).name == second.version.name == "2"
    assert [p.name for p in get(name=name).spec.parameters] == ["seconds"]
    assert get(pipeline_id=pipeline_id, version_name="Alpha") == get(
        name=name, pipeline_version_id=first.version.pipeline_version_id
    )
    other = api.upload(HELLO, f"{name}-other").version.pipeline_version_id
    for which, reason in (
        ({"name": name, "version_name": "beta"}, "VERSION_NOT_FOUND"),
        ({"name": name, "pipeline_version_id": UNKNOWN_ID}, "VERSION_NOT_FOUND"),
        ({"name": name, "pipeline_version_id": other}, "VERSION_NOT_FOUND"),
        ({"name": f"{name}-absent"}, "PIPELINE_NOT_FOUND"),
        ({"pipeline_id": UNKNOWN_ID, "version_name": "2"}, "PIPELINE_NOT_FOUND"),
        ({"pipeline_id": UNKNOWN_ID, "pipeline_version_id": UNKNOWN_ID}, "PIPELINE_NOT_FOUND"),
        ({"name": name, "pipeline_version_id": "2"}, "INVALID_FIELD"),
        ({"name": name, "version_name": ""}, "INVALID_FIELD"),
    ):
        error = failure(partial(get, **which))
        assert error.reason == reason, (which, error.message)

    def delete(**which: object) -> pb.DeletePipelineVersionResponse:
        return api.pipelines.DeleteVersion(pb.DeletePipelineVersionRequest(**which))  # type: ignore[arg-type]

    assert failure(partial(delete, name=name)).reason == "INVALID_FIELD"
    assert failure(partial(delete, name=name, pipeline_version_id=other)).reason == "VERSION_NOT_FOUND"
    assert delete(name=name, version_name="Alpha").pipeline_version_id == first.version.pipeline_version_id
    assert failure(partial(delete, name=name, version_name="Alpha")).reason == "VERSION_NOT_FOUND"
    assert delete(name=name, version_name="Alpha", allow_missing=True) == pb.DeletePipelineVersionResponse()
    assert delete(name=name, version_name="2").name == "2"
    assert failure(partial(get, name=name)).reason == "VERSION_NOT_FOUND"


def test_updates(api: Api, name: str) -> None:
    """Display name and tags change by the mask; what cannot be changed is named before KFP is called."""
    version = api.upload(HELLO, name, tags={"팀": "ml"}).version

    def update(*paths: str, **fields: object) -> pb.Pipeline:
        mask = FieldMask(paths=paths)
        return api.pipelines.Update(pb.UpdatePipelineRequest(name=name, update_mask=mask, **fields))  # type: ignore[arg-type]

    made = update(display_name="학습", tags={"a": "b"})
    assert (made.display_name, dict(made.tags)) == ("학습", {"a": "b"})
    assert api.pipelines.Get(pb.GetPipelineRequest(name=name)) == made
    assert update("display_name", tags={"c": "d"}).display_name == name
    assert dict(update("tags").tags) == {}

    of_version = pb.UpdatePipelineVersionRequest(name=name, pipeline_version_id=version.pipeline_version_id)
    of_version.update_mask.paths.append("*")
    of_version.display_name = "둘"
    changed = api.pipelines.UpdateVersion(of_version)
    assert (changed.display_name, dict(changed.tags), changed.sha256) == ("둘", {}, version.sha256)
    again = api.upload(HELLO, name, if_exists=pb.IF_EXISTS_SKIP_IF_SAME)
    assert (again.version_created, again.version.display_name) == (False, "둘")

    for wrong, field in (
        (partial(update), "update_mask"),
        (partial(update, "description", "tags"), "update_mask"),
        (partial(update, "displayName"), "update_mask"),
        (partial(update, display_name="x" * 256), "display_name"),
        (partial(update, tags={"kfadapter_sha256": "x"}), "tags"),
        (partial(update, tags={"a.b": "x"}), "tags"),
        (partial(update, tags={"a": "x" * 64}), "tags"),
        (partial(update, tags={str(number): "x" for number in range(19)}), "tags"),
    ):
        error = failure(wrong)
        assert (error.reason, fields(error)) == ("INVALID_FIELD", [field]), error.message
    of_version.ClearField("version")
    assert fields(failure(partial(api.pipelines.UpdateVersion, of_version))) == ["version"]

"""The oldest supported KFP, 2.5: first that its stand-in is accurate, then what the adapter makes of it."""

from __future__ import annotations

import gzip
import io
import tarfile
import uuid
import zipfile
from typing import TYPE_CHECKING

import pytest
import urllib3
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.connecting import connect
from tests.contract.running import eventually
from tests.old_kfp import OldKfp
from tests.repository.conftest import call, pipeline_file
from tests.scripted_kfp import Behaviour, ScriptedKfp, answers, resets
from tests.transcripts import PIPELINES, JsonObject, Replayer, load, made_file

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.listing import Order, PageRequest, View
from kfadapter_grpc.contract.pipelines import (
    IfExists,
    ListPipelinesRequest,
    PipelineRef,
    UploadPipelineMetadata,
    UploadResult,
)
from kfadapter_grpc.contract.spec import PipelineFormat
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.upload.receive import receive_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfadapter_grpc.kfp.pipelines import Pipelines

HELLO = (PIPELINES / "hello_world.yaml").read_bytes()
NEVER_ANSWERED = ("not YAML", "binary")
BROKEN_OFF = "zip without members"
LEFT_OUT = {
    **dict.fromkeys(NEVER_ANSWERED, "status 0: never answered; the stand-in's hanging has a test of its own"),
    BROKEN_OFF: "status 0: the connection was closed; this has a test of its own",
    "filter that is not JSON": "the words are those of Go's own JSON parser, and no caller sends such a filter",
    "filter by display_name": "2.5 joins two conditions on its one name by OR, which nobody relies on",
    "name of 128 characters": "the embedded KFP behind the stand-in takes 127 bytes",
}
"""Recorded steps that are not replayed, by their notes, and why."""
FORGOTTEN = "{L}"
"""The pipeline of the name of 128 characters, whose clean-up is left out too."""


class OldReplayer(Replayer):
    """Matches the items of a list by what created them, as 2.5 gives them no `name`."""

    def _all_recorded_like(self, example: JsonObject) -> list[JsonObject]:
        assert "pipeline_version_id" not in example
        bodies = [step.response.get("json") for step in self.transcript.steps if step.path.endswith("/upload")]
        return [body for body in bodies if isinstance(body, dict) and "pipeline_id" in body]


@pytest.fixture(scope="module")
def old(embedded_url: str) -> Iterator[OldKfp]:
    """The stand-in."""
    with OldKfp(embedded_url) as server:
        yield server


@pytest.fixture(scope="module")
def repository(old: OldKfp) -> Iterator[Pipelines]:
    """The repository in front of the stand-in."""
    backend = connect(old.url)
    yield backend.pipelines
    backend.close()


def _store(repository: Pipelines, request: UploadPipelineMetadata, data: bytes = HELLO) -> UploadResult:
    """Receives a file and stores it, as the servicer does."""
    the_call = call()
    with receive_file([data], UploadLimits(), total_bytes=None, sha256=None, call=the_call) as file:
        return repository.upload(request, file, the_call)


def _versions(repository: Pipelines, name: str) -> list[str]:
    page = repository.list_versions(PipelineRef(name=name), View.BASIC, PageRequest(1000), call())
    return sorted(version.name for version in page.items)


# --- the stand-in -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pipelines", "versions", "bad_uploads", "seams"])
def test_the_stand_in_answers_as_recorded(old: OldKfp, name: str) -> None:
    """The stand-in answers as KFP 2.5 did, step by step, except for steps about runs and documented exceptions."""
    transcript = load(f"kfp-2.5/{name}")
    replayer = OldReplayer(old.url, transcript)
    found = [
        f"{name} step {step.number} ({step.note}){line}"
        for step in transcript.steps
        if step.note not in LEFT_OUT and "/runs" not in step.path and FORGOTTEN not in step.path
        for line in replayer.differences(step)
    ]
    assert not found, "\n".join(found)


def test_what_is_left_out_was_recorded() -> None:
    """Every skipped step exists, and all that KFP 2.5 did not answer are among them."""
    steps = [
        step for name in ("pipelines", "versions", "bad_uploads", "seams") for step in load(f"kfp-2.5/{name}").steps
    ]
    assert set(LEFT_OUT) <= {step.note for step in steps}
    unanswered = {step.note for step in steps if step.response["status"] == 0}
    assert unanswered == {*NEVER_ANSWERED, BROKEN_OFF}


@pytest.mark.parametrize("note", [*NEVER_ANSWERED, BROKEN_OFF])
def test_the_stand_in_is_dangerous(embedded_url: str, note: str) -> None:
    """Sent directly, the files that KFP 2.5 did not answer hang the stand-in, or it disconnects, and are counted."""
    step = next(step for step in load("master/bad_uploads").steps if step.note == note)
    impatient = urllib3.PoolManager(retries=False, timeout=30 if note == BROKEN_OFF else 0.5)
    with OldKfp(embedded_url) as server:
        replayer = Replayer(server.url, load("master/bad_uploads"), _http=impatient)
        expected = urllib3.exceptions.ProtocolError if note == BROKEN_OFF else urllib3.exceptions.ReadTimeoutError
        with pytest.raises(expected):
            replayer.send(step)
        counted = server.broken_off if note == BROKEN_OFF else server.never_answered
        assert eventually(lambda: counted) == [made_file(note)]
    impatient.clear()


# --- uploads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("display_name", ["", "보기 좋은 이름"])
@pytest.mark.parametrize("version_name", ["", "첫째"])
def test_a_new_pipeline_gets_its_name(
    embedded_url: str, repository: Pipelines, name: str, display_name: str, version_name: str
) -> None:
    """The first upload through a connection and later ones: the name is independent of the display name."""
    with OldKfp(embedded_url) as server:
        backend = connect(server.url)
        for suffix in ("a", "b"):
            given = display_name and f"{display_name} {name} {suffix}"
            request = UploadPipelineMetadata(f"{name} {suffix}", version_name, display_name=given, tags={"k": "v"})
            result = _store(backend.pipelines, request)
            assert (result.pipeline.name, result.version.name) == (request.name, version_name or request.name)
            assert (result.pipeline_created, result.duplicate_check_skipped) == (True, False)
            assert repository.get(PipelineRef(name=request.name), View.BASIC, call()) == result.pipeline
        backend.close()
        listed = repository.list(ListPipelinesRequest(name), PageRequest(), call()).items
        assert sorted(pipeline.name for pipeline in listed) == [f"{name} a", f"{name} b"]
        expected = 1 if display_name else 0
        assert len(server.paths("DELETE")) == expected, "the fact that there is one name was not remembered"


def test_a_display_name_that_is_another_pipelines_name(embedded_url: str, repository: Pipelines, name: str) -> None:
    """2.5 takes the display name for the name and rejects it as taken; the upload is stored under its own name."""
    with OldKfp(embedded_url) as server:
        backend = connect(server.url)
        _store(repository, UploadPipelineMetadata(f"{name} other"))
        result = _store(backend.pipelines, UploadPipelineMetadata(name, display_name=f"{name} other"))
        backend.close()
    assert (result.pipeline.name, result.version.name, result.pipeline_created) == (name, name, True)


def test_kfp_is_upgraded_meanwhile(embedded_url: str, name: str) -> None:
    """If KFP is upgraded, the adapter detects from the first answer that names and display names are distinct now."""
    backend = connect(embedded_url)
    backend.pipelines._uploader._has_names = False
    result = _store(backend.pipelines, UploadPipelineMetadata(name, display_name="Shown"))
    assert (result.pipeline.name, result.pipeline.display_name) == (name, "Shown")
    assert backend.pipelines.get(PipelineRef(name=name), View.BASIC, call()) == result.pipeline
    backend.close()


def test_names_of_versions(repository: Pipelines, name: str) -> None:
    """The first is named like the pipeline, a later one gets the highest number plus 1, a given name is used."""
    for given_name in ("", "", "7", "", "beta"):
        result = _store(repository, UploadPipelineMetadata(name, given_name, display_name="Shown"))
    assert (result.pipeline_created, result.version.name) == (False, "beta")
    assert _versions(repository, name) == sorted([name, "2", "7", "8", "beta"])
    with pytest.raises(errors.VersionExistsError):
        _store(repository, UploadPipelineMetadata(name, "BETA"))


def test_fail(repository: Pipelines, name: str) -> None:
    """IF_EXISTS_FAIL stores a new name and rejects a taken one."""
    request = UploadPipelineMetadata(name, if_exists=IfExists.FAIL)
    assert _store(repository, request).pipeline_created
    with pytest.raises(errors.PipelineExistsError):
        _store(repository, request)
    assert _versions(repository, name) == [name]


@pytest.mark.parametrize(
    "request_",
    [UploadPipelineMetadata("", if_exists=IfExists.SKIP_IF_SAME), UploadPipelineMetadata("", request_id="id-1")],
    ids=["skip-if-same", "request-id"],
)
def test_what_cannot_be_checked_is_stored_and_said(
    repository: Pipelines, name: str, request_: UploadPipelineMetadata
) -> None:
    """Without tags it is unknown whether these bytes, or this request, were uploaded before."""
    request = UploadPipelineMetadata(name, if_exists=request_.if_exists, request_id=request_.request_id)
    results = [_store(repository, request) for _ in range(2)]
    assert [result.duplicate_check_skipped for result in results] == [False, True]
    assert [result.version_created for result in results] == [True, True]
    assert _versions(repository, name) == sorted([name, "2"])


def _tagless(scripted: ScriptedKfp, versions: Behaviour) -> None:
    """A KFP with a pipeline that breaks uploads and answers filters of versions like this."""
    pipeline = {"pipeline_id": str(uuid.uuid4()), "display_name": "p"}
    scripted.on("GET", "/names/", answers(200, pipeline)).on("POST", "/upload_version", resets())
    scripted.on("GET", "/apis/v1beta1/", answers(200, {"versions": [{"id": "v", "name": "p"}], "total_size": 1}))
    scripted.on("GET", "/versions", versions).on("POST", "/pipelines$", answers(409, {"code": 6, "message": "taken"}))


def test_a_broken_upload_is_not_to_be_repeated_blindly(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """If the request id cannot be looked up, a retry would store the file twice: the error says what to do."""
    step = next(step for step in load("kfp-2.5/seams").steps if step.note == "versions filtered by tag")
    _tagless(scripted, answers(400, step.response["json"]))
    with pytest.raises(errors.KfpUnavailableError, match="ListVersions") as caught:
        before_scripted.upload(UploadPipelineMetadata("p", request_id="id-1"), pipeline_file(), call())
    assert "same request_id" not in caught.value.message
    assert len([path for path in scripted.paths("POST") if "upload_version" in path]) == 1


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_pipeline_by_name_and_by_id(repository: Pipelines, name: str) -> None:
    """Both work, and FULL has the latest version's parameters."""
    made = _store(repository, UploadPipelineMetadata(name, description="설명")).pipeline
    _store(repository, UploadPipelineMetadata(name), (PIPELINES / "all_parameter_types.yaml").read_bytes())
    for ref in (PipelineRef(name=name), PipelineRef(pipeline_id=made.pipeline_id)):
        basic = repository.get(ref, View.BASIC, call())
        assert (basic.name, basic.display_name, basic.description, dict(basic.tags)) == (name, name, "설명", {})
        full = repository.get(ref, View.FULL, call())
        assert full.version_count == 2
        assert full.latest_version is not None
        assert full.latest_version.name == "2"
        assert full.latest_version.spec is not None
        assert [p.default for p in full.latest_version.spec.parameters if p.name == "i"] == [7]
    for missing in (PipelineRef(name=f"{name} missing"), PipelineRef(pipeline_id=str(uuid.uuid4()))):
        with pytest.raises(errors.PipelineNotFoundError):
            repository.get(missing, View.FULL, call())


def test_names_that_do_not_fit_into_a_path(repository: Pipelines, name: str) -> None:
    """They are found with a list, with the filter that 2.5 supports."""
    odd = f"{name}/100% + {{}}?"
    made = _store(repository, UploadPipelineMetadata(odd)).pipeline
    assert repository.get(PipelineRef(name=odd), View.BASIC, call()) == made


def test_lists(repository: Pipelines, name: str) -> None:
    """Lists are filtered and sorted by name, page by page, to the last one."""
    for number in range(5):
        _store(repository, UploadPipelineMetadata(f"{name} {number}"))
    where, order, token, listed = ListPipelinesRequest(name), Order("name", descending=True), "", []
    for _ in range(3):
        page = repository.list(where, PageRequest(2, token, order), call())
        listed += [pipeline.name.removeprefix(name) for pipeline in page.items]
        token = page.next_token
    assert (listed, token) == ([" 4", " 3", " 2", " 1", " 0"], "")
    with pytest.raises(errors.InvalidPageTokenError):
        repository.list(where, PageRequest(2, "garbage"), call())


def test_a_filter_on_tags(repository: Pipelines) -> None:
    """UNSUPPORTED_BY_KFP, and what to do."""
    with pytest.raises(errors.UnsupportedByKfpError, match="leave the filter on tags out"):
        repository.list(ListPipelinesRequest(tags={"team": "ml"}), PageRequest(), call())


@pytest.mark.parametrize("view", View)
def test_versions(repository: Pipelines, name: str, view: View) -> None:
    """BASIC and FULL, page by page; a v1 workflow is reported as one."""
    argo = (PIPELINES / "argo_v1_workflow.yaml").read_bytes()
    for data in (HELLO, argo, HELLO):
        _store(repository, UploadPipelineMetadata(name), data)
    ref, order = PipelineRef(name=name), Order("name", descending=False)
    first = repository.list_versions(ref, view, PageRequest(2, order=order), call())
    rest = repository.list_versions(ref, view, PageRequest(2, first.next_token, order), call())
    assert (first.total_size, rest.total_size, rest.next_token) == (3, 3, "")
    versions = [*first.items, *rest.items]
    assert [version.name for version in versions] == ["2", "3", name]
    formats = [version.spec and version.spec.format for version in versions]
    known = [PipelineFormat.ARGO_V1, PipelineFormat.KFP_V2, PipelineFormat.KFP_V2]
    assert formats == (known if view is View.FULL else [None] * 3)


# --- deleting -----------------------------------------------------------------------------------------------------


def test_deleting(repository: Pipelines, name: str) -> None:
    """A single version is deleted without force, more need it, and what is deleted is not found."""
    ref = PipelineRef(name=name)
    _store(repository, UploadPipelineMetadata(name))
    assert repository.delete(ref, call(), force=False, allow_missing=False).versions_deleted == 1
    for _ in range(3):
        _store(repository, UploadPipelineMetadata(name))
    with pytest.raises(errors.PipelineHasVersionsError, match="has 3 versions; set force"):
        repository.delete(ref, call(), force=False, allow_missing=False)
    assert _versions(repository, name) == sorted([name, "2", "3"])
    assert repository.delete(ref, call(), force=True, allow_missing=False).versions_deleted == 3
    with pytest.raises(errors.PipelineNotFoundError):
        repository.delete(ref, call(), force=True, allow_missing=False)
    assert repository.delete(ref, call(), force=False, allow_missing=True).pipeline_id == ""


# --- files that are no pipelines ------------------------------------------------------------------------------------

_ANSWERED = (
    "pipeline without name",
    "pipeline without root",
    "unknown schema version",
    "capitals in the spec's name",
    "JSON file",
    "100 characters in name are fine; see status",
    "the wrapper of two specs, uploaded as a file",
)
"""Files that are a YAML mapping, so KFP has to judge them."""
_REFUSED_BEFORE = ("empty file", "not YAML", "YAML but not a pipeline", "YAML list", "binary", BROKEN_OFF, "broken zip")
"""Files that never reach KFP."""


@pytest.mark.parametrize("version_name", ["", "v"])
@pytest.mark.parametrize("note", [*_ANSWERED, *_REFUSED_BEFORE])
def test_bad_files(repository: Pipelines, old: OldKfp, name: str, note: str, version_name: str) -> None:
    """INVALID_PIPELINE_FILE, nothing is left behind, and files that would hang KFP are not sent to it."""
    before = len(old.paths("POST"))
    with pytest.raises(errors.InvalidPipelineFileError) as caught:
        _store(repository, UploadPipelineMetadata(name, version_name), made_file(note))
    assert "main.go" not in caught.value.message
    assert (len(old.paths("POST")) == before) == (note in _REFUSED_BEFORE)
    assert repository.list(ListPipelinesRequest(name), PageRequest(), call()).items == ()
    assert (old.never_answered, old.broken_off) == ([], [])


def _zip(member: str, data: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(member, data)
    return target.getvalue()


def _tar_gz(member: str, data: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        info = tarfile.TarInfo(member)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "bare": lambda data: data,
    "zip": lambda data: _zip("pipeline.yaml", data),
    "tar.gz": lambda data: _tar_gz("pipeline.yaml", data),
    "gzip without tar": gzip.compress,
    "second document": lambda data: HELLO + b"\n---\n" + data,
}
_CUT = st.integers(0, len(HELLO)).map(lambda at: HELLO[:at])
_SPOILT = st.tuples(st.integers(0, len(HELLO)), st.binary(min_size=1, max_size=4)).map(
    lambda spot: HELLO[: spot[0]] + spot[1] + HELLO[spot[0] :]
)
_YAML_LIKE = st.text("{}[]:,-?!&*#|>'\"%@`\\/ \n\tab1", max_size=30).map(str.encode)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), _YAML_LIKE, _CUT, _SPOILT), packing=st.sampled_from(sorted(PACKINGS)))
@example(data=b"{[}", packing="zip")
@example(data=b"{[}", packing="second document")
@example(data=bytes(range(256)), packing="tar.gz")
@example(data=HELLO.replace(b"\n", b"\0"), packing="bare")
@example(data=_zip("a.yaml", b"{[}"), packing="zip")
@example(data=b"%YAML 1.2\n---\na: b", packing="bare")
@example(data=b'{"a": "\\/"}', packing="bare")
@example(data=b"a: *b", packing="bare")
def test_what_it_cannot_bear_never_reaches_it(repository: Pipelines, old: OldKfp, data: bytes, packing: str) -> None:
    """Random bytes, corrupt and truncated YAML, bare or packed: rejected as INVALID_PIPELINE_FILE, or sent to KFP."""
    name = f"spoilt {uuid.uuid4().hex}"
    try:
        _store(repository, UploadPipelineMetadata(name), PACKINGS[packing](data))
    except (errors.InvalidPipelineFileError, errors.InvalidUploadError):
        with pytest.raises(errors.PipelineNotFoundError):
            repository.get(PipelineRef(name=name), View.BASIC, call())
    assert (old.never_answered, old.broken_off) == ([], [])

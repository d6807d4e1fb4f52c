"""Downloads return the exact bytes of KFP's answer, as one document or two, or an exact error; no file is left over."""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.connecting import connect
from tests.old_kfp import OldKfp
from tests.repository.conftest import call
from tests.repository.test_faults import FOUND, GONE, ID, VERSION, VERSION_JSON
from tests.scripted_kfp import ScriptedKfp, answers, head, resets, sends, stalls
from tests.transcripts import PIPELINES, load

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.pipelines import FileKind, PipelineFile, PipelineRef, UploadPipelineMetadata, VersionRef
from kfadapter_grpc.spool import SpoolPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.kfp.pipelines import Pipelines

REF, VERSION_REF = PipelineRef(pipeline_id=ID), VersionRef(VERSION)
GET = rf"/pipelines/{ID}/versions/{VERSION}$"
SPEC = {"pipelineInfo": {"name": "이름"}, "root": {"dag": {}}, "schemaVersion": "2.1.0"}
PLATFORM: dict[str, object] = {"platforms": {"kubernetes": {}}}
ROOT = Path(__file__).parents[2]
DESCRIPTORS = Path("/proc/self/fd")


@dataclass(frozen=True)
class Downloaded:
    """What was downloaded, read to the end."""

    data: bytes
    size: int
    sha256: bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of downloads in progress."""
    return tmp_path


@pytest.fixture
def spooling(scripted: ScriptedKfp, folder: Path) -> Iterator[Pipelines]:
    """The repository in front of the scripted KFP, with everything spooled to disk."""
    backend = connect(scripted.url, place=SpoolPlace(memory_bytes=0, directory=folder))
    yield backend.pipelines
    backend.close()


def download(
    repository: Pipelines, ref: PipelineRef = REF, version: VersionRef = VERSION_REF, step: int = 64 * 1024
) -> Downloaded:
    """Downloads a version."""
    with repository.download(ref, version, call()) as file:
        data = b"".join(iter(lambda: file.stream.read(step), b""))
        return Downloaded(data, file.size, file.sha256)


def version_json(spec: object, **more: object) -> bytes:
    """KFP's answer for a version."""
    return json.dumps({**VERSION_JSON, "pipeline_spec": spec, **more}, ensure_ascii=False).encode()


def documents(data: bytes) -> list[object]:
    """The documents of a file, as any YAML parser reads them."""
    return list(yaml.safe_load_all(data))


WRAPPER = {"pipeline_spec": SPEC, "platform_spec": PLATFORM}
SHAPES: dict[str, tuple[object, list[object] | None]] = {
    "a bare spec": (SPEC, [SPEC]),
    "a wrapper": (WRAPPER, [SPEC, PLATFORM]),
    "a wrapper the other way round": (dict(reversed(WRAPPER.items())), [SPEC, PLATFORM]),
    "a wrapper with an empty platform spec": ({**WRAPPER, "platform_spec": {}}, [SPEC]),
    "a wrapper with null": ({**WRAPPER, "platform_spec": None}, [SPEC]),
    "a wrapper without platform spec": ({"pipeline_spec": SPEC}, [SPEC]),
    "a Workflow": ({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}, None),
    "a spec with a member of a wrapper": ({**SPEC, "pipeline_spec": {}}, [{**SPEC, "pipeline_spec": {}}]),
    "an empty spec": ({}, [{}]),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("before", [True, False], ids=["facts before the spec", "facts behind the spec"])
def test_every_shape_of_answer(
    scripted: ScriptedKfp, spooling: Pipelines, folder: Path, shape: str, before: bool
) -> None:
    """In any order of keys: one document, or two with a separator, with the size and checksum of these very bytes."""
    spec, expected = SHAPES[shape]
    facts: dict[str, object] = dict(VERSION_JSON)
    whole = {**facts, "pipeline_spec": spec} if before else {"pipeline_spec": spec, **facts}
    scripted.on("GET", GET, answers(200, whole))
    found = download(spooling)
    assert documents(found.data) == (expected or [spec])
    assert found.data.count(b"\n---\n") == len(expected or [spec]) - 1
    assert (found.size, found.sha256) == (len(found.data), hashlib.sha256(found.data).digest())
    assert not list(folder.iterdir())


def test_bytes_are_those_of_kfp(scripted: ScriptedKfp, spooling: Pipelines) -> None:
    """Escapes as Go writes them, white space and the order of keys are unchanged."""
    raw = b'{ "root" : {"z":"\\u003ca \\u0026\\u2028b","a":1.50e3} ,\n "pipelineInfo":{"name":"\xed\x95\x9c"}}'
    body = b'{"pipeline_spec": ' + raw + b', "pipeline_id": "' + ID.encode() + b'"}'
    scripted.on("GET", GET, answers(200, body))
    assert download(spooling, step=7).data == raw


def test_recorded_answers(scripted: ScriptedKfp, spooling: Pipelines) -> None:
    """The recorded answers of KFP 2.17 and 2.5 are downloaded as the documents that they contain."""
    seen = 0
    for name in ("versions", "seams", "kfp-2.5/versions"):
        for step in load(name).steps:
            answer = step.response.get("json")
            spec = answer.get("pipeline_spec") if isinstance(answer, dict) else None
            if not isinstance(spec, dict) or not isinstance(answer, dict):
                continue
            scripted.first("GET", GET, answers(200, {**answer, "pipeline_id": ID}))
            wrapped = spec if "pipeline_spec" in spec else {"pipeline_spec": spec}
            assert documents(download(spooling).data) == list(wrapped.values())
            seen += 1
    assert seen > 10


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (version_json(SPEC)[:-1], "truncated"),
        (version_json(SPEC)[:-30], "not JSON"),
        (version_json(SPEC) + b"{}", "trailing"),
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"pipeline_id": "' + ID.encode() + b'", "pipeline_spec": {"a": [}}', "malformed"),
        (version_json(None), "without a pipeline spec"),
        (version_json("text"), "without a pipeline spec"),
        (version_json([SPEC]), "without a pipeline spec"),
        (version_json({"pipeline_spec": 1}), "without a pipeline spec"),
        (version_json({"pipeline_spec": SPEC, "platform_spec": "x"}), "without a pipeline spec"),
        (json.dumps(VERSION_JSON).encode(), "without a pipeline spec"),
        (version_json({"x": "\\"}).replace(b"\\\\", b"\xff"), "UTF-8"),
        (version_json({"x": "\\"}).replace(b"\\\\", b"\xed\x95"), "UTF-8"),
        (version_json("x").replace(b'"x"', b"[" * 99_999 + b"]" * 99_999), "nested too deeply"),
        (version_json({"x": 1}).replace(b'{"x"', b'{"x\x01"'), "malformed"),
    ],
)
def test_an_answer_that_is_none_is_an_error(
    scripted: ScriptedKfp, spooling: Pipelines, folder: Path, body: bytes, fault: str
) -> None:
    """A truncated or garbled answer, or one without a spec, is KFP_ERROR with the details, before any byte is sent."""
    scripted.on("GET", GET, answers(200, body))
    with pytest.raises(errors.KfpError, match=fault):
        download(spooling)
    assert not list(folder.iterdir())


WHOLE = version_json(SPEC)
CUT = head(200, {"Content-Length": str(len(WHOLE) + 5)}) + WHOLE
CHUNKED = head(200, {"Transfer-Encoding": "chunked"}) + f"{len(WHOLE):x}\r\n".encode() + WHOLE


@pytest.mark.parametrize("cut", [CUT, CHUNKED], ids=["by length", "chunked"])
def test_a_line_that_breaks_is_tried_again_from_the_start(
    scripted: ScriptedKfp, spooling: Pipelines, cut: bytes
) -> None:
    """After a truncated body the read is retried, and no byte of the first attempt is in the second one's content."""
    again = answers(200, version_json({**SPEC, "again": True}))
    scripted.on("GET", GET, sends(cut, then_close=True), answers(503), again)
    assert documents(download(spooling).data) == [{**SPEC, "again": True}]
    assert len(scripted.requests) == 3


def test_a_line_that_stays_broken_is_told(scripted: ScriptedKfp, spooling: Pipelines, folder: Path) -> None:
    """After three attempts the error is KFP_UNAVAILABLE."""
    scripted.on("GET", GET, resets(CUT))
    with pytest.raises(errors.KfpUnavailableError):
        download(spooling)
    assert len(scripted.requests) == 3
    assert not list(folder.iterdir())


def test_a_connection_is_used_again(scripted: ScriptedKfp, spooling: Pipelines) -> None:
    """Two downloads use one connection: after a body was read to its end, the connection is reused."""
    sockets: list[object] = []
    whole = answers(200, version_json(SPEC))
    scripted.on("GET", GET, lambda line, received: sockets.append(line.sock) or whole(line, received))  # type: ignore[func-returns-value]
    assert download(spooling) == download(spooling)
    assert sockets[0] is sockets[1]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, errors.KfpRejectedCredentialsError),
        (403, errors.KfpRejectedCredentialsError),
        (500, errors.KfpError),
        (503, errors.KfpUnavailableError),
    ],
)
def test_what_kfp_refuses(
    scripted: ScriptedKfp, spooling: Pipelines, status: int, error: type[errors.AdapterError]
) -> None:
    """KFP's errors are mapped as for other calls, also if they have a long body."""
    scripted.on("GET", GET, answers(status, {"code": 2, "message": "x" * 100_000, "details": []}))
    with pytest.raises(error):
        download(spooling)


def test_a_page_for_people_is_no_answer(scripted: ScriptedKfp, spooling: Pipelines) -> None:
    """A login page with status 200 is not read as a version."""
    scripted.on("GET", GET, answers(200, b"<html></html>", content_type="text/html"))
    with pytest.raises(errors.AdapterError):
        download(spooling)


def test_what_is_not_there(scripted: ScriptedKfp, spooling: Pipelines) -> None:
    """Unknown versions, unknown pipelines and versions of another pipeline are distinguished as for other calls."""
    gone = answers(404, {"code": 5, "message": "x", "details": [{"message": f"PipelineVersion {VERSION} not found"}]})
    scripted.on("GET", GET, gone, gone, answers(200, version_json(SPEC, pipeline_id=VERSION)))
    scripted.on("GET", rf"/pipelines/{ID}$", FOUND, GONE)
    with pytest.raises(errors.VersionNotFoundError):
        download(spooling)
    with pytest.raises(errors.PipelineNotFoundError):
        download(spooling)
    with pytest.raises(errors.VersionNotFoundError):
        download(spooling)


def test_the_latest_that_vanishes_is_looked_for_again(scripted: ScriptedKfp, spooling: Pipelines) -> None:
    """If the latest version is deleted during the call, the version that is the latest now is downloaded."""
    other = VERSION.replace("2222-", "3333-", 1)
    listed = [answers(200, {"versions": [{"id": one, "name": "p"}], "total_size": 1}) for one in (other, VERSION)]
    gone = answers(404, {"code": 5, "message": "x", "details": [{"message": f"PipelineVersion {other} not found"}]})
    scripted.on("GET", r"/apis/v1beta1/", *listed).on("GET", f"{other}$", gone)
    scripted.on("GET", GET, answers(200, version_json(SPEC)))
    assert documents(download(spooling, version=VersionRef()).data) == [SPEC]


def test_without_versions(scripted: ScriptedKfp, spooling: Pipelines) -> None:
    """A pipeline without versions has nothing to download."""
    scripted.on("GET", r"/apis/v1beta1/", answers(200, {}))
    with pytest.raises(errors.VersionNotFoundError, match="no version yet"):
        download(spooling, version=VersionRef())


def test_an_answer_without_end_is_given_up(
    scripted: ScriptedKfp, spooling: Pipelines, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer above the limit is discarded, and its disk space is released."""
    monkeypatch.setattr("kfadapter_grpc.kfp.versions.MAX_FETCHED_BYTES", 100_000)
    scripted.on("GET", GET, answers(200, version_json({"x": "y" * 200_000})))
    with pytest.raises(errors.KfpError, match="more than 100000 bytes"):
        download(spooling)
    assert not list(folder.iterdir())


def test_a_silent_kfp_ends_with_the_deadline(scripted: ScriptedKfp, spooling: Pipelines) -> None:
    """If the body stalls, the download ends at its deadline."""
    scripted.on("GET", GET, stalls(CUT))
    with pytest.raises(errors.KfpTimeoutError), spooling.download(REF, VERSION_REF, call(0.5)):
        pass


def test_a_caller_who_goes_ends_it(scripted: ScriptedKfp, spooling: Pipelines) -> None:
    """A client that disconnects while KFP answers ends the read."""
    the_call = call(60)
    stalling = stalls(CUT)
    scripted.on("GET", GET, lambda line, received: the_call.cancel() or stalling(line, received))  # type: ignore[func-returns-value]
    with pytest.raises(errors.CallCancelledError), spooling.download(REF, VERSION_REF, the_call):
        pass


def test_a_full_disk_tells_no_paths(scripted: ScriptedKfp, folder: Path) -> None:
    """A disk error is reported as the adapter's own, without the path of its folder."""
    scripted.on("GET", GET, answers(200, version_json(SPEC)))
    backend = connect(scripted.url, place=SpoolPlace(memory_bytes=0, directory=folder / "missing"))
    with pytest.raises(errors.InternalError) as caught:
        download(backend.pipelines)
    backend.close()
    assert str(folder) not in caught.value.message


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc/self/fd")
def test_no_descriptor_is_left(scripted: ScriptedKfp, spooling: Pipelines) -> None:
    """After successes, failures and an error inside the block no file descriptor is left open."""
    bad = answers(200, b"{")
    scripted.on("GET", GET, answers(200, version_json(SPEC)), bad, answers(200, version_json(SPEC)), bad)
    download(spooling)
    before = len(list(DESCRIPTORS.iterdir()))
    with pytest.raises(errors.KfpError):
        download(spooling)
    with pytest.raises(ZeroDivisionError), spooling.download(REF, VERSION_REF, call()):
        raise ZeroDivisionError
    with pytest.raises(errors.KfpError):
        download(spooling)
    assert len(list(DESCRIPTORS.iterdir())) == before


@pytest.mark.parametrize(
    "path",
    sorted([*PIPELINES.glob("*.yaml"), *(ROOT / "examples").glob("*.yaml")]),
    ids=lambda path: path.stem,
)
@pytest.mark.parametrize("old", [False, True], ids=["2.17", "2.5"])
def test_what_goes_up_comes_down(embedded_url: str, name: str, path: Path, old: bool) -> None:
    """Upload, download, upload the result, download again: the same pipeline, by name, by id and as the latest."""
    with OldKfp(embedded_url) as old_kfp:
        backend = connect(old_kfp.url if old else embedded_url)
        try:
            made = backend.pipelines.upload(
                UploadPipelineMetadata(name), _file(path.read_bytes(), FileKind.YAML), call()
            )
            ref = PipelineRef(pipeline_id=made.pipeline.pipeline_id)
            first = download(backend.pipelines, ref, VersionRef(made.version.pipeline_version_id))
            uploaded = documents(path.read_bytes())
            assert list(map(_told, documents(first.data))) == list(map(_told, uploaded))
            assert first == download(backend.pipelines, PipelineRef(name=name), VersionRef(name=made.version.name))
            again = backend.pipelines.upload(UploadPipelineMetadata(name), _file(first.data, FileKind.JSON), call())
            assert again.version.pipeline_version_id != made.version.pipeline_version_id
            latest = download(backend.pipelines, PipelineRef(name=name), VersionRef())
            assert documents(latest.data) == documents(first.data)
        finally:
            backend.close()


def test_unusual_characters_go_up_again(embedded_url: str, name: str) -> None:
    """Characters that YAML cannot hold literally are downloaded as escapes, and uploaded again as the same text."""
    info = {"name": "x", "description": "\x7f\x85\x9f\u2028\u2029\ufeff 한글"}
    document = {"pipelineInfo": info, "root": {"dag": {}}, "schemaVersion": "2.1.0"}
    data = json.dumps(document).encode()
    with closing(connect(embedded_url)) as backend:
        for _ in range(3):
            backend.pipelines.upload(UploadPipelineMetadata(name), _file(data, FileKind.JSON), call())
            data = download(backend.pipelines, PipelineRef(name=name), VersionRef()).data
            assert documents(data) == [document]


def _told(document: object) -> object:
    """The content of a Workflow: KFP decodes it into Go's types, which write unset fields as null or empty."""
    return _without_empty(document) if isinstance(document, dict) and document.get("kind") == "Workflow" else document


def _without_empty(value: object) -> object:
    if isinstance(value, dict):
        kept = {key: _without_empty(one) for key, one in value.items()}
        return {key: one for key, one in kept.items() if one not in (None, "", {}, [])}
    return [_without_empty(one) for one in value] if isinstance(value, list) else value


def _file(data: bytes, kind: FileKind) -> PipelineFile:
    return PipelineFile(io.BytesIO(data), len(data), hashlib.sha256(data).digest(), kind)

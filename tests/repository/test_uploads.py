"""Uploads against an embedded KFP: names, contents, repetitions, races."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import urllib3
from tests.connecting import connect
from tests.repository.conftest import call, pipeline_file
from tests.scripted_kfp import answers
from tests.transcripts import DATA

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.listing import PageRequest, View
from kfadapter_grpc.contract.pipelines import (
    FileKind,
    IfExists,
    PipelineFile,
    PipelineRef,
    UploadPipelineMetadata,
    UploadResult,
)
from kfadapter_grpc.kfp.tags import encode_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted_kfp import ScriptedKfp

    from kfadapter_grpc.kfp.pipelines import Pipelines


def _version_names(repository: Pipelines, name: str) -> list[str]:
    found = repository.list_versions(PipelineRef(name=name), View.BASIC, PageRequest(1000), call())
    return sorted(version.name for version in found.items)


def test_names_of_versions(repository: Pipelines, name: str) -> None:
    """The first is named like the pipeline, a later one gets the highest number plus 1, a given name is used."""
    for given in ("", "", "7", "", "beta", ""):
        repository.upload(UploadPipelineMetadata(name, version_name=given), pipeline_file(), call())
    assert _version_names(repository, name) == sorted([name, "2", "7", "8", "beta", "9"])


def test_a_pipeline_named_as_a_number(repository: Pipelines) -> None:
    """The pipeline's own name does not count as a version's number."""
    number = str(uuid.uuid4().int)[:12]
    for _ in range(2):
        repository.upload(UploadPipelineMetadata(number), pipeline_file(), call())
    assert _version_names(repository, number) == sorted([number, "2"])


def test_what_is_given_is_kept(repository: Pipelines, name: str) -> None:
    """Texts and tags are stored with the version, and with a new pipeline; our own tags are not returned."""
    request = UploadPipelineMetadata(
        name,
        version_name="첫째",
        display_name="보기 좋은 이름",
        description="설명",
        tags={"team": "ml", "값": "한글"},
        code_source_url="https://example.org/src",
        request_id="req-1",
    )
    file = pipeline_file()
    result = repository.upload(request, file, call())
    assert (result.pipeline_created, result.version_created, result.duplicate_check_skipped) == (True, True, False)
    for made in (result.pipeline, result.version):
        assert (made.display_name, made.description) == ("보기 좋은 이름", "설명")
        assert made.tags == {"team": "ml", "값": "한글"}
    assert (result.version.name, result.version.sha256) == ("첫째", file.sha256.hex())
    assert result.version.code_source_url == "https://example.org/src"
    assert result.version.pipeline_id == result.pipeline.pipeline_id


@pytest.mark.parametrize(
    ("server", "lost"),
    [
        ("master", ()),
        ("2.17.0", ("code_source_url",)),
        ("2.5.0", ("display_name", "tags", "code_source_url")),
    ],
)
def test_what_kfp_did_not_keep_is_reported(
    scripted: ScriptedKfp, before_scripted: Pipelines, server: str, lost: tuple[str, ...]
) -> None:
    """Fields that were sent and are missing in the recorded answer of a server are reported; unset fields are not."""
    recorded = json.loads((DATA / "kept_fields.json").read_text())["servers"][server]
    version = {key: value for key, value in recorded["response"].items() if key != "created_at"}
    pipeline = {"pipeline_id": "p", "name": "other pipeline", "display_name": "other pipeline"}
    scripted.on("POST", "/pipelines$", answers(409, {"code": 6, "message": "taken"}))
    scripted.on("GET", "/names/", answers(200, pipeline)).on("GET", "/versions", answers(200, {}))
    scripted.on("POST", "/upload_version", answers(200, version))
    sent = UploadPipelineMetadata(
        "other pipeline",
        version_name=recorded["query"]["name"],
        display_name=recorded["query"]["display_name"],
        code_source_url=recorded["query"]["code_source_url"],
        tags=json.loads(recorded["query"]["tags"]),
    )
    assert before_scripted.upload(sent, pipeline_file(), call()).not_kept == lost
    plain = UploadPipelineMetadata("other pipeline", version_name="other")
    assert before_scripted.upload(plain, pipeline_file(), call()).not_kept == ()


@pytest.mark.parametrize(
    "first",
    [UploadPipelineMetadata("", request_id="one"), UploadPipelineMetadata("", version_name="v", request_id="two")],
)
def test_a_repeated_request_gets_the_first_ones_answer(
    repository: Pipelines, name: str, first: UploadPipelineMetadata
) -> None:
    """The same request id and bytes create nothing; other bytes with the same id are rejected."""
    request = UploadPipelineMetadata(name, version_name=first.version_name, request_id=first.request_id)
    answers = [repository.upload(request, pipeline_file(), call()) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].pipeline_created
    assert len(_version_names(repository, name)) == 1
    with pytest.raises(errors.RequestIdReusedError):
        repository.upload(request, pipeline_file("sleeps"), call())
    later = UploadPipelineMetadata(name, request_id="later")
    second = [repository.upload(later, pipeline_file("sleeps"), call()) for _ in range(2)]
    assert second[0] == second[1]
    assert (second[0].pipeline_created, second[0].version_created) == (False, True)
    assert len(_version_names(repository, name)) == 2


def test_a_repeated_request_whose_version_is_deleted_meanwhile(
    scripted: ScriptedKfp, before_scripted: Pipelines
) -> None:
    """The version that was found is the answer, although a later search would find none."""
    file = pipeline_file()
    stored = {"kfadapter_request": "one", "kfadapter_sha256": encode_digest(file.sha256)}
    version = {"pipeline_id": "p", "pipeline_version_id": "v", "name": "1", "tags": stored}
    scripted.on("POST", "/pipelines$", answers(409, {"code": 6, "message": "taken"}))
    scripted.on("GET", "/names/", answers(200, {"pipeline_id": "p", "name": "x", "tags": {}}))
    scripted.on("GET", "/versions", answers(200, {"pipeline_versions": [version]}), answers(200, {}))
    request = UploadPipelineMetadata("x", version_name="1", request_id="one")
    result = before_scripted.upload(request, file, call())
    assert (result.version.pipeline_version_id, result.version_created) == ("v", True)


def test_skip_if_same(repository: Pipelines, name: str) -> None:
    """The version with these bytes is returned, even if later ones exist."""
    skip = UploadPipelineMetadata(name, if_exists=IfExists.SKIP_IF_SAME)
    first = repository.upload(skip, pipeline_file(), call())
    other = repository.upload(skip, pipeline_file("sleeps"), call())
    again = repository.upload(skip, pipeline_file(), call())
    assert (first.version_created, other.version_created, again.version_created) == (True, True, False)
    assert again.version.pipeline_version_id == first.version.pipeline_version_id
    assert len(_version_names(repository, name)) == 2


def test_fail_if_exists(repository: Pipelines, name: str) -> None:
    """FAIL rejects a version of an existing pipeline and names that pipeline."""
    made = repository.upload(UploadPipelineMetadata(name, if_exists=IfExists.FAIL), pipeline_file(), call())
    with pytest.raises(errors.PipelineExistsError) as caught:
        repository.upload(UploadPipelineMetadata(name, if_exists=IfExists.FAIL), pipeline_file("sleeps"), call())
    assert caught.value.metadata["pipeline_id"] == made.pipeline.pipeline_id
    assert _version_names(repository, name) == [name]


def test_a_taken_version_name(repository: Pipelines, name: str) -> None:
    """VERSION_EXISTS with the name, regardless of letter case."""
    repository.upload(UploadPipelineMetadata(name, version_name="Beta"), pipeline_file(), call())
    with pytest.raises(errors.VersionExistsError, match="'bETA'"):
        repository.upload(UploadPipelineMetadata(name, version_name="bETA"), pipeline_file("sleeps"), call())


def _at_once(makers: list[Callable[[], UploadResult]]) -> list[UploadResult | errors.AdapterError]:
    def attempt(make: Callable[[], UploadResult]) -> UploadResult | errors.AdapterError:
        try:
            return make()
        except errors.AdapterError as error:
            return error

    with ThreadPoolExecutor(len(makers)) as pool:
        return list(pool.map(attempt, makers))


@pytest.mark.parametrize("round_", range(5))
def test_two_uploads_of_a_new_name_both_succeed(embedded_url: str, name: str, round_: int) -> None:
    """NEW_VERSION at the same time, from two adapters: one pipeline, a first version and a second."""
    del round_
    adapters = [connect(embedded_url) for _ in range(2)]
    results = _at_once(
        [lambda a=a: a.pipelines.upload(UploadPipelineMetadata(name), pipeline_file(), call()) for a in adapters]  # type: ignore[misc]
    )
    assert all(isinstance(result, UploadResult) for result in results), results
    assert _version_names(adapters[0].pipelines, name) == sorted([name, "2"])
    for adapter in adapters:
        adapter.close()


@pytest.mark.parametrize("round_", range(5))
def test_of_two_uploads_under_fail_one_gets_pipeline_exists(embedded_url: str, name: str, round_: int) -> None:
    """FAIL at the same time, from two adapters: exactly one of them creates the pipeline."""
    del round_
    adapters = [connect(embedded_url) for _ in range(2)]
    request = UploadPipelineMetadata(name, if_exists=IfExists.FAIL)
    results = _at_once([lambda a=a: a.pipelines.upload(request, pipeline_file(), call()) for a in adapters])  # type: ignore[misc]
    assert sorted(type(result).__name__ for result in results) == ["PipelineExistsError", "UploadResult"], results
    assert _version_names(adapters[0].pipelines, name) == [name]
    for adapter in adapters:
        adapter.close()


def test_ten_copies_of_a_request_at_once_make_one_version(repository: Pipelines, name: str) -> None:
    """In one adapter, copies of a request wait for each other."""
    request = UploadPipelineMetadata(name, request_id="same")
    results = _at_once([lambda: repository.upload(request, pipeline_file(), call()) for _ in range(10)])
    assert len({result.version.pipeline_version_id for result in results if isinstance(result, UploadResult)}) == 1
    assert len(_version_names(repository, name)) == 1


@pytest.mark.parametrize("version_name", ["", "v9"])
@pytest.mark.parametrize("exists", [False, True])
def test_copies_in_two_adapters_make_one_version(embedded_url: str, name: str, version_name: str, exists: bool) -> None:
    """Copies of a request at the same time, in two adapters: KFP's unique key makes the losers look again."""
    adapters = [connect(embedded_url) for _ in range(2)]
    if exists:
        adapters[0].pipelines.upload(UploadPipelineMetadata(name), pipeline_file("sleeps"), call())
    request = UploadPipelineMetadata(name, version_name=version_name, request_id="same")
    results = _at_once([partial(adapters[n % 2].pipelines.upload, request, pipeline_file(), call()) for n in range(6)])
    ids = {result.version.pipeline_version_id for result in results if isinstance(result, UploadResult)}
    lost = [result for result in results if not isinstance(result, UploadResult)]
    assert (len(ids), lost) == (1, [])
    assert len(_version_names(adapters[0].pipelines, name)) == 1 + exists
    for adapter in adapters:
        adapter.close()


def test_builds_at_once_do_not_pile_up_versions(embedded_url: str, name: str) -> None:
    """SKIP_IF_SAME of the same bytes at the same time, in two adapters, stores one version."""
    adapters = [connect(embedded_url) for _ in range(2)]
    adapters[0].pipelines.upload(UploadPipelineMetadata(name), pipeline_file("sleeps"), call())
    request = UploadPipelineMetadata(name, if_exists=IfExists.SKIP_IF_SAME)
    results = _at_once([partial(adapters[n % 2].pipelines.upload, request, pipeline_file(), call()) for n in range(6)])
    assert sorted(isinstance(result, UploadResult) and result.version_created for result in results) == [False] * 5 + [
        True
    ]
    assert _version_names(adapters[0].pipelines, name) == sorted([name, "2"])
    for adapter in adapters:
        adapter.close()


def test_under_fail_version_names_of_their_own_help_nobody(repository: Pipelines, name: str) -> None:
    """Two uploads of one new name under FAIL, each with a version name and a request id: one gets PIPELINE_EXISTS."""
    requests = [
        UploadPipelineMetadata(name, version_name=version, if_exists=IfExists.FAIL, request_id=version)
        for version in ("a", "b")
    ]
    results = _at_once([partial(repository.upload, request, pipeline_file(), call()) for request in requests])
    assert sorted(type(result).__name__ for result in results) == ["PipelineExistsError", "UploadResult"], results


@pytest.mark.parametrize("taken", ["2", "5", "999999999999999999"])
def test_numbers_that_are_taken_are_passed_over(repository: Pipelines, name: str, taken: str) -> None:
    """A version, or the pipeline itself, may be named with any number: the next free one is used."""
    repository.upload(UploadPipelineMetadata(name, version_name=taken), pipeline_file(), call())
    for _ in range(5):
        repository.upload(UploadPipelineMetadata(name), pipeline_file(), call())
    assert len(_version_names(repository, name)) == 6


def test_a_pipeline_named_two(repository: Pipelines) -> None:
    """Its second version cannot be named 2, as the first one is."""
    for _ in range(4):
        repository.upload(UploadPipelineMetadata("2"), pipeline_file(), call())
    assert _version_names(repository, "2") == ["2", "3", "4", "5"]
    repository.delete(PipelineRef(name="2"), call(), force=True, allow_missing=False)


def test_a_large_file_is_told_with_its_checksum(repository: Pipelines, name: str) -> None:
    """Even if the middle of KFP's answer is dropped, tags and checksum are returned."""
    data = pipeline_file().stream.read().replace(b"Greets someone", b"Greets " + b"x" * 600_000)
    file = PipelineFile(io.BytesIO(data), len(data), hashlib.sha256(data).digest(), FileKind.YAML)
    request = UploadPipelineMetadata(name, tags={"odd": 'a}{"b'}, if_exists=IfExists.SKIP_IF_SAME)
    for _ in range(2):
        version = repository.upload(request, file, call()).version
        assert (version.sha256, version.tags) == (file.sha256.hex(), {"odd": 'a}{"b'})


def test_racing_for_numbers(repository: Pipelines, name: str) -> None:
    """Concurrent uploads each get the next number, or NAME_CONTESTED after five conflicts."""
    repository.upload(UploadPipelineMetadata(name), pipeline_file(), call())
    results = _at_once(
        [lambda: repository.upload(UploadPipelineMetadata(name), pipeline_file(), call()) for _ in range(4)]
    )
    lost = [result for result in results if isinstance(result, errors.AdapterError)]
    assert all(isinstance(error, errors.NameContestedError) for error in lost), lost
    assert len(_version_names(repository, name)) == 1 + len(results) - len(lost)


def test_a_bad_file_leaves_nothing(repository: Pipelines, name: str) -> None:
    """What KFP rejects as a pipeline is rejected in KFP's words, and the pipeline created for it is deleted."""
    with pytest.raises(errors.InvalidPipelineFileError, match=r"9\.9\.9") as caught:
        repository.upload(UploadPipelineMetadata(name), _with_schema("9.9.9"), call())
    assert "Failed to" not in caught.value.message
    with pytest.raises(errors.PipelineNotFoundError):
        repository.get(PipelineRef(name=name), View.BASIC, call())


def _with_schema(version: str) -> PipelineFile:
    file = pipeline_file()
    data = file.stream.read().replace(b"schemaVersion: 2.1.0", f"schemaVersion: {version}".encode())
    return replace(file, stream=io.BytesIO(data), size=len(data), sha256=hashlib.sha256(data).digest())


def _make_empty(url: str, name: str) -> str:
    """Creates a pipeline without a version, as an upload leaves it that was killed between its two steps."""
    answer = urllib3.request("POST", f"{url}/apis/v2beta1/pipelines", json={"name": name})
    assert answer.status == 200, answer.data
    return str(answer.json()["pipeline_id"])


@pytest.mark.parametrize("if_exists", list(IfExists))
def test_an_empty_pipeline_is_adopted(repository: Pipelines, embedded_url: str, name: str, if_exists: IfExists) -> None:
    """It counts as missing: the upload takes it over, under FAIL too, and reports that it did not create it."""
    empty = _make_empty(embedded_url, name)
    result = repository.upload(UploadPipelineMetadata(name, if_exists=if_exists), pipeline_file(), call())
    assert (result.pipeline.pipeline_id, result.pipeline_created, result.version_created) == (empty, False, True)
    assert _version_names(repository, name) == [name]


def test_a_failed_upload_into_an_empty_pipeline_leaves_it(repository: Pipelines, embedded_url: str, name: str) -> None:
    """What another client created is not undone; Delete removes it without force."""
    empty = _make_empty(embedded_url, name)
    with pytest.raises(errors.InvalidPipelineFileError):
        repository.upload(UploadPipelineMetadata(name), _with_schema("9.9.9"), call())
    assert repository.get(PipelineRef(name=name), View.FULL, call()).version_count == 0
    gone = repository.delete(PipelineRef(name=name), call(), force=False, allow_missing=False)
    assert (gone.pipeline_id, gone.versions_deleted) == (empty, 0)

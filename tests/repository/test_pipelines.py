"""Get, list and delete, against an embedded KFP."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pytest
from tests.repository.conftest import call, pipeline_file

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.listing import Order, PageRequest, View
from kfadapter_grpc.contract.pipelines import ListPipelinesRequest, PipelineRef, UploadPipelineMetadata
from kfadapter_grpc.contract.spec import ParameterType, PipelineFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.contract.listing import Page
    from kfadapter_grpc.contract.pipelines import Pipeline, PipelineVersion
    from kfadapter_grpc.kfp.pipelines import Pipelines

T = TypeVar("T")


def test_a_pipeline_is_found_by_name_and_by_id(repository: Pipelines, name: str) -> None:
    """Both return the same pipeline, with its texts in any script."""
    made = repository.upload(
        UploadPipelineMetadata(name, description="인사한다\n두 줄", tags={"팀": "ml"}), pipeline_file(), call()
    )
    by_name = repository.get(PipelineRef(name=name), View.BASIC, call())
    by_id = repository.get(PipelineRef(pipeline_id=made.pipeline.pipeline_id), View.BASIC, call())
    assert by_name == by_id == made.pipeline
    assert (by_name.name, by_name.description, by_name.tags) == (name, "인사한다\n두 줄", {"팀": "ml"})
    assert by_name.created_at is not None
    assert by_name.latest_version is None


@pytest.mark.parametrize(
    "text", ["a/b", "../../etc/passwd", "..", ".", "a?b#c", "100%", "1+1", "%2e%2e", "a:b", "a\\b", "'; --", "a b "]
)
def test_a_name_is_never_a_path(repository: Pipelines, name: str, text: str) -> None:
    """Names with a meaning in a URL or a file system are plain names: stored, found and deleted unchanged."""
    odd = text if text in {"..", "."} else f"{text} {name}"
    repository.upload(UploadPipelineMetadata(odd), pipeline_file(), call())
    assert repository.get(PipelineRef(name=odd), View.BASIC, call()).name == odd
    assert repository.delete(PipelineRef(name=odd), call(), force=False, allow_missing=False).name == odd
    with pytest.raises(errors.PipelineNotFoundError):
        repository.get(PipelineRef(name=odd), View.BASIC, call())


def test_what_is_not_there_is_named(repository: Pipelines, name: str) -> None:
    """PIPELINE_NOT_FOUND names what was requested."""
    with pytest.raises(errors.PipelineNotFoundError) as caught:
        repository.get(PipelineRef(name=name, namespace="team-a"), View.BASIC, call())
    assert name in caught.value.message
    assert caught.value.metadata == {"name": name, "namespace": "team-a"}
    with pytest.raises(errors.PipelineNotFoundError) as caught:
        repository.get(PipelineRef(pipeline_id=str(uuid.uuid4())), View.FULL, call())
    assert caught.value.resource_name == caught.value.metadata["pipeline_id"]


def test_full_tells_the_latest_version_with_typed_parameters(repository: Pipelines, name: str) -> None:
    """Uploads within one second are ordered by their numbers, and the spec's parameters are typed."""
    repository.upload(UploadPipelineMetadata(name), pipeline_file(), call())
    repository.upload(UploadPipelineMetadata(name), pipeline_file("all_parameter_types"), call())
    full = repository.get(PipelineRef(name=name), View.FULL, call())
    assert full.version_count == 2
    assert full.latest_version is not None
    assert full.latest_version.name == "2"
    spec = full.latest_version.spec
    assert spec is not None
    assert (spec.format, spec.schema_version, spec.sdk_version) == (PipelineFormat.KFP_V2, "2.1.0", "kfp-2.17.0")
    by_name = {parameter.name: parameter for parameter in spec.parameters}
    assert (by_name["i"].type, by_name["i"].default) == (ParameterType.NUMBER_INTEGER, 7)
    assert (by_name["s"].optional, by_name["s"].has_default) == (False, False)
    assert (by_name["maybe"].optional, by_name["maybe"].has_default) == (True, False)


def test_full_of_a_v1_workflow(repository: Pipelines, name: str) -> None:
    """A KFP v1 file is reported as one, with its parameters."""
    repository.upload(UploadPipelineMetadata(name), pipeline_file("argo_v1_workflow"), call())
    latest = repository.get(PipelineRef(name=name), View.FULL, call()).latest_version
    assert latest is not None
    assert latest.spec is not None
    assert latest.spec.format is PipelineFormat.ARGO_V1
    assert [(p.name, p.type, p.default) for p in latest.spec.parameters] == [
        ("a", ParameterType.NUMBER_INTEGER, 1),
        ("b", ParameterType.NUMBER_INTEGER, None),
    ]


def _walk(get: Callable[[str], Page[T]], between: Callable[[int], None] = lambda _: None) -> list[T]:
    items: list[T] = []
    token, pages = "", 0
    while True:
        page = get(token)
        items += page.items
        token, pages = page.next_token, pages + 1
        if not token:
            return items
        between(pages)


def _page(repository: Pipelines, where: ListPipelinesRequest, size: int, token: str) -> Page[Pipeline]:
    return repository.list(where, PageRequest(size, token), call())


def _make_many(make: Callable[[int], object], count: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(count)))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_lists_of_450_pipelines_miss_nothing(repository: Pipelines, name: str) -> None:
    """Pages of any size, with deletions between them: what exists from start to end is listed exactly once."""
    ids: dict[int, str] = {}

    def make(number: int) -> None:
        request = UploadPipelineMetadata(f"{name} {number}")
        ids[number] = repository.upload(request, pipeline_file(), call(60)).pipeline.pipeline_id

    _make_many(make, 450)
    where = ListPipelinesRequest(name_contains=name)
    for size in (1000, 250, 199):
        listed = _walk(partial(_page, repository, where, size))
        assert sorted(p.pipeline_id for p in listed) == sorted(ids.values())

    def delete_some(page: int) -> None:
        for number in (page, 450 - page):
            repository.delete(PipelineRef(pipeline_id=ids.pop(number)), call(), force=True, allow_missing=False)

    order = Order("name", descending=False)
    listed = _walk(lambda token: repository.list(where, PageRequest(60, token, order), call()), delete_some)
    seen = [p.pipeline_id for p in listed]
    assert len(seen) == len(set(seen))
    assert set(ids.values()) <= set(seen)


def _versions(repository: Pipelines, ref: PipelineRef, view: View, token: str) -> Page[PipelineVersion]:
    return repository.list_versions(ref, view, PageRequest(300, token), call(60))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_lists_of_450_versions_miss_nothing(repository: Pipelines, name: str) -> None:
    """BASIC and FULL alike; the total is returned."""
    pipeline = repository.upload(UploadPipelineMetadata(name), pipeline_file(), call()).pipeline

    def make(number: int) -> None:
        repository.upload(UploadPipelineMetadata(name, version_name=f"v{number}"), pipeline_file(), call(60))

    _make_many(make, 449)
    ref = PipelineRef(pipeline_id=pipeline.pipeline_id)
    for view in (View.BASIC, View.FULL):
        page = repository.list_versions(ref, view, PageRequest(300), call(60))
        assert page.total_size == 450
        listed = _walk(partial(_versions, repository, ref, view))
        assert {v.name for v in listed} == {name, *(f"v{number}" for number in range(449))}
        assert len(listed) == 450
        assert all((v.spec is not None) == (view is View.FULL) for v in listed)


def test_filters_combine_and_compare_exactly(repository: Pipelines, name: str) -> None:
    """KFP's LIKE takes `_` for any character and ignores letter case; the adapter compares again."""
    for suffix, tags in (("a_b", {"k": "1"}), ("axb", {"k": "1"}), ("A_B c", {"k": "2"}), ("a_b two", {"k": "2"})):
        repository.upload(UploadPipelineMetadata(f"{name} {suffix}", tags=tags), pipeline_file(), call())

    def names(where: ListPipelinesRequest) -> set[str]:
        return {p.name.removeprefix(name).strip() for p in repository.list(where, PageRequest(), call()).items}

    assert names(ListPipelinesRequest(f"{name} a_b")) == {"a_b", "a_b two"}
    assert names(ListPipelinesRequest(name, tags={"k": "2"})) == {"A_B c", "a_b two"}
    now = datetime.now(timezone.utc)
    assert names(ListPipelinesRequest(name, created_after=now + timedelta(hours=1))) == set()
    assert len(names(ListPipelinesRequest(name, created_after=now - timedelta(hours=1)))) == 4


def test_the_total_is_told_only_where_it_is_known(repository: Pipelines, name: str) -> None:
    """KFP's total counts what its LIKE matches, so with name_contains no total is returned."""
    repository.upload(UploadPipelineMetadata(name, tags={"only": "this"}), pipeline_file(), call())
    assert repository.list(ListPipelinesRequest(tags={"only": "this"}), PageRequest(), call()).total_size == 1
    assert repository.list(ListPipelinesRequest(name_contains=name), PageRequest(), call()).total_size is None


def test_a_foreign_token_is_refused(repository: Pipelines) -> None:
    """A token unknown to KFP is INVALID_PAGE_TOKEN."""
    with pytest.raises(errors.InvalidPageTokenError) as caught:
        repository.list(ListPipelinesRequest(), PageRequest(100, "garbage"), call())
    assert [violation.field for violation in caught.value.violations] == ["page_token"]


def test_a_pipeline_with_one_version_goes_without_force(repository: Pipelines, name: str) -> None:
    """With more versions force is required, and the error has their number."""
    repository.upload(UploadPipelineMetadata(name), pipeline_file(), call())
    for _ in range(2):
        repository.upload(UploadPipelineMetadata(name), pipeline_file(), call())
    ref = PipelineRef(name=name)
    with pytest.raises(errors.PipelineHasVersionsError, match="has 3 versions; set force") as caught:
        repository.delete(ref, call(), force=False, allow_missing=True)
    assert caught.value.metadata["version_count"] == "3"
    assert repository.delete(ref, call(), force=True, allow_missing=False).versions_deleted == 3
    repository.upload(UploadPipelineMetadata(name), pipeline_file(), call())
    assert repository.delete(ref, call(), force=False, allow_missing=False).versions_deleted == 1
    with pytest.raises(errors.PipelineNotFoundError):
        repository.delete(ref, call(), force=True, allow_missing=False)
    assert repository.delete(ref, call(), force=False, allow_missing=True).pipeline_id == ""


def test_versions_of_what_is_not_there(repository: Pipelines) -> None:
    """Both lists of versions report that the pipeline is missing."""
    ref = PipelineRef(pipeline_id=str(uuid.uuid4()))
    for view in View:
        with pytest.raises(errors.PipelineNotFoundError):
            repository.list_versions(ref, view, PageRequest(), call())

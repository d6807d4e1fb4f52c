"""KFP counts the bytes of a name, people count characters: the error says so."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from tests.repository.conftest import call, pipeline_file

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.listing import PageRequest, View
from kfadapter_grpc.contract.pipelines import ListPipelinesRequest, PipelineRef, UploadPipelineMetadata

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.pipelines import Pipelines


def _name(characters: int) -> str:
    """A unique name of Korean characters only."""
    digits = uuid.uuid4().int
    return "".join(chr(ord("가") + (digits >> 4 * place & 15)) for place in range(characters))


def test_korean_names_that_fit(repository: Pipelines) -> None:
    """42 Korean characters are 126 bytes, and fit a pipeline and a version."""
    name, version_name = _name(42), _name(42)
    _upload(repository, UploadPipelineMetadata(name))
    _upload(repository, UploadPipelineMetadata(name, version_name))
    page = repository.list_versions(PipelineRef(name=name), View.BASIC, PageRequest(), call())
    assert {version.name for version in page.items} == {name, version_name}


@pytest.mark.parametrize("characters", [43, 50, 127])
def test_a_korean_name_that_does_not_fit(repository: Pipelines, characters: int) -> None:
    """INVALID_FIELD on the name, with how KFP counts, and nothing is left behind."""
    name = _name(characters)
    _refused(repository, UploadPipelineMetadata(name), "metadata.name")
    assert _listed(repository, name) == ()


def test_a_name_that_fits_a_pipeline_but_not_its_version(repository: Pipelines) -> None:
    """128 bytes fit a pipeline: with a shorter version name it is stored, without one its creation is undone."""
    name = _name(42) + "ab"
    error = _refused(repository, UploadPipelineMetadata(name), "metadata.version_name")
    assert "the pipeline's, if a first version has none" in error.message
    assert _listed(repository, name) == ()
    _upload(repository, UploadPipelineMetadata(name, "1"))
    assert _listed(repository, name) == (name,)


def test_a_korean_version_name_that_does_not_fit(repository: Pipelines) -> None:
    """INVALID_FIELD on the version's name; the pipeline is unchanged, and no new one is created."""
    name = _name(20)
    request = UploadPipelineMetadata(name, _name(50))
    _refused(repository, request, "metadata.version_name")
    assert _listed(repository, name) == ()
    _upload(repository, UploadPipelineMetadata(name))
    _refused(repository, request, "metadata.version_name")
    page = repository.list_versions(PipelineRef(name=name), View.BASIC, PageRequest(), call())
    assert [version.name for version in page.items] == [name]


def _upload(repository: Pipelines, request: UploadPipelineMetadata) -> None:
    repository.upload(request, pipeline_file(), call())


def _refused(repository: Pipelines, request: UploadPipelineMetadata, field: str) -> errors.AdapterError:
    with pytest.raises(errors.InvalidFieldError) as caught:
        _upload(repository, request)
    error = caught.value
    assert [violation.field for violation in error.violations] == [field]
    assert "counts bytes of UTF-8, not characters, and a Korean character is 3 bytes" in error.message
    return error


def _listed(repository: Pipelines, name: str) -> tuple[str, ...]:
    page = repository.list(ListPipelinesRequest(name), PageRequest(), call())
    return tuple(pipeline.name for pipeline in page.items)

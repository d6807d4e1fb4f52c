"""A KFP with users: what it was recorded to answer to nobody, to a stranger and to a member of a namespace."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from tests.repository.conftest import call, pipeline_file
from tests.repository.played import played

from kfadapter_grpc.domain import errors
from kfadapter_grpc.domain.models import PageRequest, PipelineFilter, PipelineRef, UploadRequest, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted_kfp import Behaviour, ScriptedKfp

    from kfadapter_grpc.kfp_backend.pipelines import KfpPipelineRepository

TEAM_A = PipelineFilter(namespace="team-a")
MINE = PipelineRef(name="mine", namespace="team-a")
BY_ID = PipelineRef(pipeline_id=str(uuid.uuid4()))
BY_NAME = r"/pipelines/names/"
LIST = r"/pipelines\?"
VERSIONS = r"/versions\?"
CHEAP = r"/apis/v1beta1/"
UPLOAD = r"/pipelines/upload\?"


def _played(note: str, transcript: str = "multi_user") -> Behaviour:
    return played(note, transcript)


UNKNOWN_NAME = _played("get unknown name", "pipelines")

READS: dict[str, Callable[[KfpPipelineRepository], object]] = {
    "list": lambda kfp: kfp.list(TEAM_A, PageRequest(), call()),
    "get by name": lambda kfp: kfp.get(MINE, View.BASIC, call()),
    "get by id": lambda kfp: kfp.get(BY_ID, View.BASIC, call()),
    "cheap versions": lambda kfp: kfp.list_versions(BY_ID, View.BASIC, PageRequest(), call()),
    "versions": lambda kfp: kfp.list_versions(BY_ID, View.FULL, PageRequest(), call()),
}


@pytest.mark.parametrize("read", READS)
def test_a_stranger_may_not_read(scripted: ScriptedKfp, before_scripted: KfpPipelineRepository, read: str) -> None:
    """KFP's 403 to the adapter is KFP_REJECTED_CREDENTIALS, which is for its operator, not for the caller."""
    scripted.on("GET", CHEAP, _played("cheap versions as bob")).on("GET", VERSIONS, _played("versions as bob"))
    scripted.on("GET", BY_NAME, _played("by name in team-a as bob")).on("GET", LIST, _played("list team-a as bob"))
    scripted.on("GET", r"/pipelines/", _played("get by id as bob"))
    with pytest.raises(errors.KfpRejectedCredentialsError, match=r"\(403\)") as caught:
        READS[read](before_scripted)
    assert "bob@example.org" not in caught.value.message


@pytest.mark.parametrize("who", ["nobody", "a bad token"])
def test_nobody_may_list(scripted: ScriptedKfp, before_scripted: KfpPipelineRepository, who: str) -> None:
    """KFP's 401 to the adapter is KFP_REJECTED_CREDENTIALS."""
    scripted.on("GET", LIST, _played(f"list team-a as {who}"))
    with pytest.raises(errors.KfpRejectedCredentialsError, match=r"\(401\)"):
        before_scripted.list(TEAM_A, PageRequest(), call())


@pytest.mark.parametrize(("who", "status"), [("nobody", "401"), ("a bad token", "401"), ("bob", "403")])
def test_a_blurred_refusal_of_an_upload(
    scripted: ScriptedKfp, before_scripted: KfpPipelineRepository, who: str, status: str
) -> None:
    """KFP says 400 "Failed to create a pipeline" to all of them; a list of the namespace tells which it was."""
    scripted.on("GET", BY_NAME, UNKNOWN_NAME).on("GET", LIST, _played(f"list team-a as {who}"))
    scripted.on("POST", UPLOAD, _played(f"upload to team-a as {who}"))
    before_scripted._uploader._keeps_tags = False  # then the one upload is all, as it was recorded
    with pytest.raises(errors.KfpRejectedCredentialsError, match=rf"\({status}\)"):
        before_scripted.upload(UploadRequest("x", namespace="team-a"), pipeline_file(), call())
    assert scripted.paths("DELETE") == []


def test_a_member_reads_and_uploads(scripted: ScriptedKfp, before_scripted: KfpPipelineRepository) -> None:
    """Alice's pipelines are hers by namespace, which every call names."""
    scripted.on("GET", CHEAP, _played("cheap versions as alice")).on("GET", LIST, _played("list team-a as alice"))
    scripted.on("GET", BY_NAME, UNKNOWN_NAME, _played("by name in team-a"))
    scripted.on("POST", UPLOAD, _played("upload to team-a as alice"))
    before_scripted._uploader._keeps_tags = False
    made = before_scripted.upload(UploadRequest("mine", namespace="team-a"), pipeline_file(), call())
    assert (made.pipeline.namespace, made.pipeline.name, made.version.name) == ("team-a", "mine", "mine")
    assert before_scripted.get(MINE, View.BASIC, call()) == made.pipeline
    listed = before_scripted.list(TEAM_A, PageRequest(), call()).items
    assert [(pipeline.namespace, pipeline.name) for pipeline in listed] == [("team-a", "mine"), ("team-a", "mine2")]
    asked = [path for path in (*scripted.paths("GET"), *scripted.paths("POST")) if "/apis/v1beta1/" not in path]
    assert len(asked) == 4
    assert all("namespace=team-a" in path for path in asked)


def test_the_shared_space_is_the_second_choice(scripted: ScriptedKfp, before_scripted: KfpPipelineRepository) -> None:
    """A name that is not in the namespace is looked up among the shared pipelines."""
    scripted.on("GET", rf"{BY_NAME}shared\?namespace=team-a", UNKNOWN_NAME)
    scripted.on("GET", rf"{BY_NAME}shared$", _played("upload without a namespace: the shared space"))
    found = before_scripted.get(PipelineRef(name="shared", namespace="team-a"), View.BASIC, call())
    assert (found.name, found.namespace) == ("shared", "")


def test_somebody_elses_pipeline_is_not_shared(scripted: ScriptedKfp, before_scripted: KfpPipelineRepository) -> None:
    """Without a namespace KFP gives any namespace's pipeline of that name; it is not taken for a shared one."""
    scripted.on("GET", rf"{BY_NAME}mine\?namespace=team-b", UNKNOWN_NAME)
    scripted.on("GET", rf"{BY_NAME}mine$", _played("by name without a namespace"))
    scripted.on("GET", LIST, _played("filter by name, no match", "pipelines"))
    with pytest.raises(errors.PipelineNotFoundError):
        before_scripted.get(PipelineRef(name="mine", namespace="team-b"), View.BASIC, call())
    assert "namespace=" not in scripted.paths("GET")[-1]

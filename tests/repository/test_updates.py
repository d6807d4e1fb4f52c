"""Updates of pipelines and versions: against recordings of KFP, faults, and the embedded KFP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.repository.conftest import call, pipeline_file
from tests.repository.played import BROKEN, placed, played
from tests.scripted_kfp import answers

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.pipelines import (
    IfExists,
    PipelineRef,
    UpdatePipelineRequest,
    UpdatePipelineVersionRequest,
    UploadPipelineMetadata,
    VersionRef,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.scripted_kfp import ScriptedKfp

    from kfadapter_grpc.contract.pipelines import Pipeline
    from kfadapter_grpc.kfp.pipelines import Pipelines

P6, PIPELINE, V2 = placed("P6"), placed("PIPELINE"), placed("V2")
OWN = {"kfadapter_sha256": "A" * 43, "kfadapter_request": "r-1"}
OF_PIPELINE = "update tags and display name"
OF_VERSION = "patch a version: display name and tags change"


def with_pipeline(scripted: ScriptedKfp, **fields: object) -> None:
    """Makes KFP serve the recorded pipeline before its update."""
    scripted.on("GET", rf"/pipelines/{P6}$", answers(200, {"pipeline_id": P6, "name": "tagged", **fields}))


def with_version(scripted: ScriptedKfp, **fields: object) -> None:
    """Makes KFP serve the recorded version before its update."""
    ids = {"pipeline_id": PIPELINE, "pipeline_version_id": V2}
    scripted.on("GET", rf"/versions/{V2}$", answers(200, {**ids, "name": "2", **fields}))


def update(before: Pipelines, mask: Sequence[str] = (), **fields: object) -> Pipeline:
    """Updates the recorded pipeline."""
    wanted = UpdatePipelineRequest(PipelineRef(P6), update_mask=mask, **fields)  # type: ignore[arg-type]
    return before.update(wanted, call())


def sent(scripted: ScriptedKfp) -> list[dict[str, object]]:
    """The bodies of the updates that arrived."""
    return [json.loads(one.body) for one in scripted.requests if one.method == "PATCH"]


def test_a_pipeline_as_recorded(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """The request is the recorded one, and the record has what KFP returned."""
    with_pipeline(scripted)
    scripted.on("PATCH", rf"/pipelines/{P6}$", played(OF_PIPELINE, "pipelines"))
    made = update(before_scripted, display_name="Tagged", tags={"team": "ops"})
    assert sent(scripted) == [{"pipeline_id": P6, "display_name": "Tagged", "tags": {"team": "ops"}}]
    assert (made.pipeline_id, made.name, made.display_name, made.tags) == (P6, "tagged", "Tagged", {"team": "ops"})


def test_a_version_as_recorded(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """So it is for a version, whose spec in the response is not read."""
    with_version(scripted)
    scripted.on("PATCH", rf"/versions/{V2}$", played(OF_VERSION, "seams"))
    wanted = UpdatePipelineVersionRequest(
        PipelineRef(PIPELINE), VersionRef(V2), display_name="Two", tags={"x": "y"}, update_mask=("*",)
    )
    made = before_scripted.update_version(wanted, call())
    ids = {"pipeline_id": PIPELINE, "pipeline_version_id": V2}
    assert sent(scripted) == [{**ids, "display_name": "Two", "tags": {"x": "y"}}]
    assert (made.name, made.display_name, made.tags, made.spec) == ("2", "Two", {"x": "y"}, None)


@pytest.mark.parametrize("kind", ["pipeline", "version"])
def test_kfp_2_5_has_no_updates(scripted: ScriptedKfp, before_scripted: Pipelines, kind: str) -> None:
    """Its response to PATCH becomes UNSUPPORTED_BY_KFP, which says what to do."""
    with_pipeline(scripted)
    with_version(scripted)
    scripted.on("PATCH", r"/versions/", played(OF_VERSION, "kfp-2.5/seams"))
    scripted.on("PATCH", r"/pipelines/[^/]*$", played(OF_PIPELINE, "kfp-2.5/pipelines"))
    of_version = UpdatePipelineVersionRequest(PipelineRef(PIPELINE), VersionRef(V2), display_name="x")
    calls: dict[str, Callable[[], object]] = {
        "pipeline": lambda: update(before_scripted, display_name="x"),
        "version": lambda: before_scripted.update_version(of_version, call()),
    }
    with pytest.raises(errors.UnsupportedByKfpError, match=r"2\.17.*upload a new version"):
        calls[kind]()


@pytest.mark.parametrize(
    ("mask", "fields", "expected"),
    [
        ((), {"display_name": "새 이름"}, {"display_name": "새 이름"}),
        ((), {"tags": {"a": "1"}}, {"tags": {**OWN, "a": "1"}}),
        (("display_name",), {"display_name": "x", "tags": {"a": "1"}}, {"display_name": "x"}),
        (("display_name",), {}, {"display_name": "tagged"}),
        (("tags",), {}, {"tags": OWN}),
        (("*",), {}, {"display_name": "tagged", "tags": OWN}),
    ],
)
def test_the_mask_decides(
    scripted: ScriptedKfp,
    before_scripted: Pipelines,
    mask: tuple[str, ...],
    fields: dict[str, object],
    expected: dict[str, object],
) -> None:
    """Only what the mask names is sent; an empty one names what is set; the adapter's own tags are sent again."""
    with_pipeline(scripted, tags={**OWN, "old": "tag"})
    scripted.on("PATCH", r"/pipelines/", answers(200, {"pipeline_id": P6, "name": "tagged", "tags": OWN}))
    assert update(before_scripted, mask, **fields).tags == {}
    assert sent(scripted) == [{"pipeline_id": P6, **expected}]


def test_tags_without_any_are_sent_as_kfp_needs_it(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """KFP clears tags if their JSON is `{}`, without a space in between."""
    with_pipeline(scripted, tags={"old": "tag"})
    scripted.on("PATCH", r"/pipelines/", answers(200, {"pipeline_id": P6, "name": "tagged"}))
    update(before_scripted, ("tags",))
    (request,) = [one for one in scripted.requests if one.method == "PATCH"]
    assert b'"tags": {}' in request.body


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("is_done", [True, False])
def test_a_broken_response(scripted: ScriptedKfp, before_scripted: Pipelines, broken: str, *, is_done: bool) -> None:
    """After a broken response, an update that took effect succeeds, and another one fails; neither is sent again."""
    found = [
        {"pipeline_id": P6, "name": "tagged", "display_name": name} for name in ("old", "new" if is_done else "old")
    ]
    scripted.on("GET", rf"/pipelines/{P6}$", *(answers(200, one) for one in found))
    scripted.on("PATCH", r"/pipelines/", BROKEN[broken])
    if is_done:
        assert update(before_scripted, display_name="new").display_name == "new"
    else:
        with pytest.raises(errors.KfpUnavailableError):
            update(before_scripted, display_name="new")
    assert len(sent(scripted)) == 1


def test_the_embedded_kfp(repository: Pipelines, name: str) -> None:
    """Updates are stored, also what clears; the file's checksum survives, so the same bytes make no new version."""
    first = UploadPipelineMetadata(name, tags={"팀": "ml"}, request_id="r-1")
    made = repository.upload(first, pipeline_file(), call())
    ref, version = PipelineRef(name=name), VersionRef(name=name)
    changed = repository.update(UpdatePipelineRequest(ref, display_name="학습", tags={"a": "b"}), call())
    assert (changed.display_name, changed.tags) == ("학습", {"a": "b"})
    assert changed == repository.get(ref, View.BASIC, call())
    wanted = UpdatePipelineVersionRequest(ref, version, update_mask=("*",))
    plain = repository.update_version(wanted, call())
    assert (plain.display_name, plain.tags, plain.sha256) == (name, {}, made.version.sha256)
    again = UploadPipelineMetadata(name, if_exists=IfExists.SKIP_IF_SAME)
    assert not repository.upload(again, pipeline_file(), call()).version_created
    assert repository.upload(first, pipeline_file(), call()).version == plain


def test_what_does_not_exist(repository: Pipelines, name: str) -> None:
    """A missing pipeline and a missing version have their own reasons."""
    ref = PipelineRef(name=name)
    with pytest.raises(errors.PipelineNotFoundError):
        repository.update(UpdatePipelineRequest(ref, display_name="x"), call())
    repository.upload(UploadPipelineMetadata(name), pipeline_file(), call())
    wanted = UpdatePipelineVersionRequest(ref, VersionRef(name="nope"), display_name="x")
    with pytest.raises(errors.VersionNotFoundError):
        repository.update_version(wanted, call())

"""A multi-user KFP: its recorded answers to an anonymous user, a user without access and a member of a namespace."""

from __future__ import annotations

import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.connecting import connect
from tests.repository.conftest import call, pipeline_file
from tests.repository.played import placed, played
from tests.scripted_kfp import Connection, Received, answers

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Authorization, Call, Grant, Limits, Role
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import PageRequest, View
from kfadapter_grpc.contract.pipelines import ListPipelinesRequest, PipelineRef, UploadPipelineMetadata
from kfadapter_grpc.kfp.backend import KfpBackend
from kfadapter_grpc.kfp.credentials import ForwardedCredentials, TokenFile
from kfadapter_grpc.kfp.transport import TransportSettings
from kfadapter_grpc.spool import SpoolPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.scripted_kfp import Behaviour, ScriptedKfp

    from kfadapter_grpc.kfp.pipelines import Pipelines

TEAM_A = ListPipelinesRequest(namespace="team-a")
MINE = PipelineRef(name="mine", namespace="team-a")
BY_ID = PipelineRef(pipeline_id=str(uuid.uuid4()))
BY_NAME = r"/pipelines/names/"
LIST = r"/pipelines\?"
VERSIONS = r"/versions\?"
CHEAP = r"/apis/v1beta1/"
CREATE = r"/pipelines$"
UPLOAD = r"/pipelines/upload_version\?"
MADE = {"pipeline_id": str(uuid.uuid4()), "name": "x", "display_name": "x", "namespace": "team-a"}


def _played(note: str, transcript: str = "multi_user") -> Behaviour:
    return played(note, transcript)


UNKNOWN_NAME = _played("get unknown name", "pipelines")

READS: dict[str, Callable[[Pipelines], object]] = {
    "list": lambda kfp: kfp.list(TEAM_A, PageRequest(), call()),
    "get by name": lambda kfp: kfp.get(MINE, View.BASIC, call()),
    "get by id": lambda kfp: kfp.get(BY_ID, View.BASIC, call()),
    "cheap versions": lambda kfp: kfp.list_versions(BY_ID, View.BASIC, PageRequest(), call()),
    "versions": lambda kfp: kfp.list_versions(BY_ID, View.FULL, PageRequest(), call()),
}


@pytest.mark.parametrize("read", READS)
def test_a_stranger_may_not_read(scripted: ScriptedKfp, before_scripted: Pipelines, read: str) -> None:
    """KFP's 403 to the adapter is KFP_REJECTED_CREDENTIALS, an error for the operator, not for the caller."""
    scripted.on("GET", CHEAP, _played("cheap versions as bob")).on("GET", VERSIONS, _played("versions as bob"))
    scripted.on("GET", BY_NAME, _played("by name in team-a as bob")).on("GET", LIST, _played("list team-a as bob"))
    scripted.on("GET", r"/pipelines/", _played("get by id as bob"))
    with pytest.raises(errors.KfpRejectedCredentialsError, match=r"\(403, ") as caught:
        READS[read](before_scripted)
    assert "bob@example.org" not in caught.value.message


@pytest.mark.parametrize("who", ["nobody", "a bad token"])
def test_nobody_may_list(scripted: ScriptedKfp, before_scripted: Pipelines, who: str) -> None:
    """KFP's 401 to the adapter is KFP_REJECTED_CREDENTIALS."""
    scripted.on("GET", LIST, _played(f"list team-a as {who}"))
    with pytest.raises(errors.KfpRejectedCredentialsError, match=r"\(401\)"):
        before_scripted.list(TEAM_A, PageRequest(), call())


@pytest.mark.parametrize("how", ["with a token", "as alice"])
@pytest.mark.parametrize("forwarded", [False, True], ids=["the adapter's", "the caller's"])
def test_kubernetes_is_unreachable(scripted: ScriptedKfp, how: str, *, forwarded: bool) -> None:
    """KFP asks Kubernetes about users: its 401 or 500 without an answer says nothing about the credentials."""
    scripted.on("GET", LIST, _played(f"list team-a {how}, Kubernetes unreachable", "multi_user_roles"))
    credentials = ForwardedCredentials() if forwarded else None
    with (
        closing(connect(scripted.url, credentials=credentials)) as backend,
        pytest.raises(errors.KfpUnavailableError, match="cannot ask Kubernetes") as caught,
    ):
        backend.pipelines.list(TEAM_A, PageRequest(), bobs_call() if forwarded else call())
    assert "alice" not in caught.value.message


REFUSED = [("nobody", "401"), ("a bad token", "401"), ("bob", "403"), ("vera", "403")]
"""Whom KFP refuses an upload; vera may read in team-a."""


def _refuses_uploads(scripted: ScriptedKfp, who: str) -> None:
    """KFP's recorded answers to uploads, blurred, and to reads and requests without a file, which are not."""
    listed, found = f"list team-a as {who}", "get by id as bob" if who == "bob" else f"list team-a as {who}"
    if who == "vera":
        listed, found = "list team-a as alice", "by name in team-a"
    scripted.on("GET", BY_NAME, UNKNOWN_NAME).on("GET", LIST, _played(listed))
    scripted.on("GET", r"/pipelines/[\w-]+$", _played(found))
    scripted.on("POST", CREATE, answers(200, MADE)).on("DELETE", "", answers(200))
    scripted.on("POST", UPLOAD, _played(f"version upload to team-a as {who}", "multi_user_roles"))
    scripted.on("POST", r"/versions$", _played(f"version at no address as {who}", "multi_user_roles"))


@pytest.mark.parametrize(("who", "status"), REFUSED)
def test_a_blurred_refusal_of_a_version(
    scripted: ScriptedKfp, before_scripted: Pipelines, who: str, status: str
) -> None:
    """KFP returns 400 for all of them; the reason comes from reading the pipeline, or a request without a file."""
    _refuses_uploads(scripted, who)
    scripted.first("GET", BY_NAME, _played("by name in team-a")).on("GET", CHEAP, _played("cheap versions as alice"))
    with pytest.raises(errors.KfpRejectedCredentialsError, match=rf"\({status}[,)]"):
        before_scripted.upload(UploadPipelineMetadata("mine", namespace="team-a"), pipeline_file(), call())
    assert scripted.paths("POST")[-1].endswith("/versions") is (who == "vera")


def test_a_refusal_in_the_words_of_2_5(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """KFP 2.5.0 says that it is about authorization (by its source), and not whether about the user or its rights."""
    _refuses_uploads(scripted, "bob")
    text = "Failed to create a pipeline version due to authorization error: Authorization Failure: PermissionDenied"
    scripted.first("POST", UPLOAD, answers(400, {"error_message": text, "error_details": text}))
    with pytest.raises(errors.KfpRejectedCredentialsError, match=r"\(403, "):
        before_scripted.upload(UploadPipelineMetadata("x", namespace="team-a"), pipeline_file(), call())


def test_an_upload_refused_for_another_reason(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Where KFP lets the adapter upload, its blurred 400 is about something that it does not say."""
    _refuses_uploads(scripted, "vera")
    scripted.first("POST", r"/versions$", _played("version at no address as alice", "multi_user_roles"))
    with pytest.raises(errors.KfpError, match=r"Failed to create a pipeline version$"):
        before_scripted.upload(UploadPipelineMetadata("x", namespace="team-a"), pipeline_file(), call())


def test_a_member_reads_and_uploads(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Alice's pipelines are found by namespace, which every call sends."""
    scripted.on("GET", CHEAP, _played("cheap versions as alice")).on("GET", LIST, _played("list team-a as alice"))
    scripted.on("GET", BY_NAME, _played("by name in team-a"))
    scripted.on("POST", CREATE, _played("upload to team-a as alice"))
    scripted.on("POST", UPLOAD, answers(200, {"pipeline_version_id": str(uuid.uuid4()), "name": "mine"}))
    made = before_scripted.upload(UploadPipelineMetadata("mine", namespace="team-a"), pipeline_file(), call())
    assert (made.pipeline.namespace, made.pipeline.name, made.version.name) == ("team-a", "mine", "mine")
    assert before_scripted.get(MINE, View.BASIC, call()) == made.pipeline
    listed = before_scripted.list(TEAM_A, PageRequest(), call()).items
    assert {(pipeline.namespace, pipeline.name) for pipeline in listed} == {("team-a", "mine"), ("team-a", "mine2")}
    asked = [path for path in scripted.paths("GET") if "/apis/v1beta1/" not in path]
    assert len(asked) == 2
    assert all("namespace=team-a" in path for path in asked)
    assert b'"namespace": "team-a"' in scripted.requests[0].body


def test_the_shared_space_is_the_second_choice(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """A name that is unknown in the namespace is looked up among the shared pipelines."""
    scripted.on("GET", rf"{BY_NAME}shared\?namespace=team-a", UNKNOWN_NAME)
    scripted.on("GET", rf"{BY_NAME}shared$", _played("upload without a namespace: the shared space"))
    found = before_scripted.get(PipelineRef(name="shared", namespace="team-a"), View.BASIC, call())
    assert (found.name, found.namespace) == ("shared", "")


def test_somebody_elses_pipeline_is_not_shared(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Without a namespace KFP returns any namespace's pipeline of that name; it is not taken for a shared one."""
    scripted.on("GET", rf"{BY_NAME}mine\?namespace=team-b", UNKNOWN_NAME)
    scripted.on("GET", rf"{BY_NAME}mine$", _played("by name without a namespace"))
    scripted.on("GET", LIST, _played("filter by name, no match", "pipelines"))
    with pytest.raises(errors.PipelineNotFoundError):
        before_scripted.get(PipelineRef(name="mine", namespace="team-b"), View.BASIC, call())
    assert "namespace=" not in scripted.paths("GET")[-1]


# --- callers with credentials of their own --------------------------------------------------------------------------

BOB = Authorization("Bearer canary-of-bob")


@pytest.fixture
def as_callers(scripted: ScriptedKfp) -> Iterator[Pipelines]:
    """The repository in front of the scripted KFP, called with the callers' own credentials."""
    with closing(connect(scripted.url, credentials=ForwardedCredentials())) as backend:
        yield backend.pipelines


def bobs_call() -> Call:
    """A call of Bob's."""
    return Call("r-bob", 20, BOB)


def _asked_only_as_bob(scripted: ScriptedKfp) -> bool:
    return {request.headers.get("authorization") for request in scripted.requests} == {BOB.value}


@pytest.mark.parametrize(
    ("who", "error"),
    [("a bad token", errors.UnauthenticatedError), ("bob", errors.PermissionDeniedError)],
)
def test_a_refused_caller(
    scripted: ScriptedKfp, as_callers: Pipelines, who: str, error: type[errors.AdapterError]
) -> None:
    """If KFP rejects a caller's own credentials, the caller gets UNAUTHENTICATED or PERMISSION_DENIED."""
    scripted.on("GET", LIST, _played(f"list team-a as {who}"))
    with pytest.raises(error) as caught:
        as_callers.list(TEAM_A, PageRequest(), bobs_call())
    assert "canary" not in caught.value.message + repr(caught.value.metadata)
    assert " :" not in caught.value.message
    assert _asked_only_as_bob(scripted)


@pytest.mark.parametrize(("who", "status"), REFUSED)
def test_a_blurred_refusal_of_a_callers_upload(
    scripted: ScriptedKfp, as_callers: Pipelines, who: str, status: str
) -> None:
    """The requests after KFP's 400 use the caller's credentials, too, and finds the actual reason."""
    _refuses_uploads(scripted, who)
    with pytest.raises(errors.UnauthenticatedError if status == "401" else errors.PermissionDeniedError):
        as_callers.upload(UploadPipelineMetadata("x", namespace="team-a"), pipeline_file(), bobs_call())
    assert _asked_only_as_bob(scripted)


@pytest.mark.parametrize(("who", "status"), REFUSED)
def test_a_blurred_refusal_of_an_impersonated_upload(scripted: ScriptedKfp, who: str, status: str) -> None:
    """What KFP does not let a user do that the adapter names is about the user; an unknown one is about the adapter."""
    _refuses_uploads(scripted, who)
    settings = TransportSettings(scripted.url, user_header="kubeflow-userid")
    in_name_of_bob = Call("r-bob", 20, Authorization(user="bob@example.org"))
    expected = errors.KfpRejectedCredentialsError if status == "401" else errors.PermissionDeniedError
    with closing(KfpBackend(settings, SpoolPlace())) as backend, pytest.raises(expected):
        backend.pipelines.upload(UploadPipelineMetadata("x", namespace="team-a"), pipeline_file(), in_name_of_bob)


KINDS: dict[str, tuple[str, Callable[[KfpBackend, str, Call], object]]] = {
    "pipelines": ("PB", lambda kfp, one, call: kfp.pipelines.get(PipelineRef(pipeline_id=one), View.BASIC, call)),
    "experiments": ("EB", lambda kfp, one, call: kfp.experiments.get(ExperimentRef(experiment_id=one), call)),
    "runs": ("RB", lambda kfp, one, call: kfp.runs.get_complete(one, call)),
    "recurringruns": ("JB", lambda kfp, one, call: kfp.recurring_runs.get(one, call)),
}


@pytest.mark.parametrize("as_user", [False, True], ids=["as the adapter", "as the caller"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_kfp_refuses_where_rules_grant_nothing(scripted: ScriptedKfp, kind: str, *, as_user: bool) -> None:
    """KFP's 403 shows that an id exists; by the rules it is as unknown as any, unless they grant something there."""
    name, get = KINDS[kind]
    foreign = placed(name)
    unknown = "00000000-0000-4000-8000-000000000000"
    scripted.on("GET", f"/{kind}/{foreign}$", _played(f"{kind} of team-b as alice", "multi_user_roles"))
    scripted.on("GET", f"/{kind}/{unknown}$", _played(f"{kind} unknown as alice", "multi_user_roles"))
    settings = TransportSettings(scripted.url, user_header="kubeflow-userid" if as_user else "")

    def refusal(one: str, *namespaces: str) -> errors.AdapterError:
        limits = Limits("alice@example.org", tuple(Grant(each, Role.READER) for each in namespaces), Role.READER)
        who = Authorization(user="alice@example.org") if as_user else None
        with closing(KfpBackend(settings, SpoolPlace())) as backend, pytest.raises(errors.AdapterError) as caught:
            get(backend, one, Call("r-alice", 20, who, limits=limits))
        return caught.value

    hidden, missing = refusal(foreign, "team-a"), refusal(unknown, "team-a")
    assert hidden.reason.endswith("_NOT_FOUND")
    assert (type(hidden), hidden.message.replace(foreign, unknown)) == (type(missing), missing.message)
    denied = errors.PermissionDeniedError if as_user else errors.KfpRejectedCredentialsError
    assert type(refusal(foreign, "team-a", "team-b")) is denied


def test_undoing_is_the_callers_too(scripted: ScriptedKfp, as_callers: Pipelines) -> None:
    """A pipeline created for a version that KFP then rejected is deleted with the caller's credentials."""
    _refuses_uploads(scripted, "bob")
    with pytest.raises(errors.PermissionDeniedError):
        as_callers.upload(
            UploadPipelineMetadata("x", namespace="team-a", tags={"a": "b"}), pipeline_file(), bobs_call()
        )
    assert scripted.paths("DELETE") == [f"/apis/v2beta1/pipelines/{MADE['pipeline_id']}"]
    assert _asked_only_as_bob(scripted)


@pytest.mark.parametrize(
    ("page", "error"),
    [
        (answers(302, headers={"Location": "https://dex.example.org/auth?client_id=kf"}), errors.UnauthenticatedError),
        (answers(200, b"<html><title>Sign in</title>", content_type="text/html"), errors.UnauthenticatedError),
        (answers(301, headers={"Location": "/pipeline/"}), errors.KfpError),
        (answers(200, b"<html>dashboard</html>", content_type="text/html"), errors.KfpError),
    ],
    ids=["redirect to a login", "login page", "another redirect", "another page"],
)
def test_a_login_page_for_a_caller(
    scripted: ScriptedKfp, as_callers: Pipelines, page: Behaviour, error: type[errors.AdapterError]
) -> None:
    """A login page in front of KFP means that the caller is unknown; any other page means a wrong address."""
    scripted.on("GET", LIST, page)
    with pytest.raises(error):
        as_callers.list(TEAM_A, PageRequest(), bobs_call())


def test_nobody_is_asked_for_a_caller_without_credentials(scripted: ScriptedKfp, as_callers: Pipelines) -> None:
    """Where KFP is called with the caller's credentials, a call without credentials does not reach it."""
    with pytest.raises(errors.UnauthenticatedError):
        as_callers.list(TEAM_A, PageRequest(), call())
    assert scripted.requests == []


def test_an_upload_with_a_token_that_has_expired(scripted: ScriptedKfp, tmp_path: Path) -> None:
    """KFP's answer to an upload hides the 401; but the request before it loads the new token, which the upload uses."""
    token = tmp_path / "token"
    token.write_text("old")

    def renewing(connection: Connection, received: Received) -> bool:
        token.write_text("new")
        return _played("list team-a as a bad token")(connection, received)

    scripted.on("POST", CREATE, renewing, _played("upload with a token"))
    scripted.on("POST", UPLOAD, answers(200, {"pipeline_version_id": str(uuid.uuid4()), "name": "mine2"}))
    with closing(connect(scripted.url, credentials=TokenFile(token))) as backend:
        backend.pipelines.upload(UploadPipelineMetadata("mine2", namespace="team-a"), pipeline_file(), call())
    shown = [(one.method, one.headers["authorization"]) for one in scripted.requests]
    assert shown[:3] == [("POST", "Bearer old"), ("POST", "Bearer new"), ("POST", "Bearer new")]


def test_an_upload_that_a_proxy_refuses_for_its_token(scripted: ScriptedKfp, tmp_path: Path) -> None:
    """After a proxy's 401 the whole upload is sent again, with the token that is valid by then."""
    token = tmp_path / "token"
    token.write_text("old")

    def renewing(connection: Connection, received: Received) -> bool:
        token.write_text("new")
        return answers(401, b"expired", content_type="text/plain")(connection, received)

    stored = answers(200, {"pipeline_version_id": str(uuid.uuid4()), "name": "mine2"})
    scripted.on("POST", CREATE, answers(200, MADE)).on("POST", UPLOAD, renewing, stored)
    with closing(connect(scripted.url, credentials=TokenFile(token))) as backend:
        backend.pipelines.upload(UploadPipelineMetadata("mine2", namespace="team-a"), pipeline_file(), call())
    first, second = (request for request in scripted.requests if "/upload_version" in request.path)
    assert (first.headers["authorization"], second.headers["authorization"]) == ("Bearer old", "Bearer new")
    assert first.body == second.body
    assert len(first.body) > len(pipeline_file().stream.read())

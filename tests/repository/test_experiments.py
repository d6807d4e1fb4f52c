"""Experiments in front of a KFP that answers as recorded, and of one that misbehaves."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from tests.connecting import connect
from tests.repository.conftest import call
from tests.repository.played import BROKEN, placed, played, query_of
from tests.scripted_kfp import Behaviour, ScriptedKfp, answers, resets, stalls

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.experiments import (
    CreateExperimentRequest,
    Experiment,
    ExperimentRef,
    ListExperimentsRequest,
)
from kfadapter_grpc.contract.listing import Order, PageRequest, StorageState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfadapter_grpc.kfp.experiments import Experiments

ID = placed("EXPERIMENT")
LIST = r"/experiments(\?|$)"
ONE = rf"/experiments/{ID}$"
CREATE = r"/experiments$"
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
EXP = Experiment(ID, "exp", "실험", MADE, None, StorageState.AVAILABLE)


@pytest.fixture
def kfp(scripted: ScriptedKfp) -> Iterator[Experiments]:
    """The repository in front of the scripted KFP."""
    backend = connect(scripted.url)
    yield backend.experiments
    backend.close()


MORE = {"total_size": 201, "next_page_token": "more"}


def experiment_json(number: int = 0, **fields: object) -> dict[str, object]:
    """An experiment as KFP returns it."""
    made = {"display_name": "exp", "created_at": "2026-01-02T03:04:05Z", "storage_state": "AVAILABLE"}
    return {"experiment_id": f"00000000-0000-4000-8000-{number:012d}", **made, **fields}


def listing(*items: dict[str, object], **fields: object) -> Behaviour:
    """A list of experiments."""
    return answers(200, {"experiments": list(items), "total_size": len(items), **fields})


def predicates_of(path: str) -> list[dict[str, str]]:
    """The predicates of a request's filter."""
    found: list[dict[str, str]] = json.loads(query_of(path)["filter"])["predicates"]
    return found


@pytest.mark.parametrize("transcript", ["experiments", "kfp-2.5/experiments"])
def test_as_recorded(scripted: ScriptedKfp, kfp: Experiments, transcript: str) -> None:
    """Create, Get by id and name, archive, unarchive and delete, with the answers of both KFPs."""
    scripted.on("POST", CREATE, played("create", transcript), played("same name again", transcript))
    scripted.on("GET", ONE, played("get", transcript), played("archived state", transcript), played("get", transcript))
    scripted.on("GET", LIST, played("list by name (key name)", transcript))
    scripted.on("POST", r":archive$", played("archive", transcript))
    scripted.on("POST", r":unarchive$", played("unarchive", transcript))
    scripted.on("DELETE", ONE, played("delete", transcript), played("delete again", transcript))
    assert kfp.create(CreateExperimentRequest("exp", "실험"), call()) == EXP
    assert json.loads(scripted.requests[0].body) == {"display_name": "exp", "description": "실험"}
    with pytest.raises(errors.ExperimentExistsError, match="experiment 'exp' already") as exists:
        kfp.create(CreateExperimentRequest("exp"), call())
    assert exists.value.resource_name == "exp"
    assert kfp.get(ExperimentRef(ID), call()) == EXP
    assert kfp.get(ExperimentRef(name="exp"), call()) == EXP
    assert kfp.archive(ID, call()).storage_state is StorageState.ARCHIVED
    assert kfp.unarchive(ID, call()).storage_state is StorageState.AVAILABLE
    assert kfp.delete(ID, call(), allow_missing=False)
    with pytest.raises(errors.ExperimentNotFoundError, match=ID):
        kfp.delete(ID, call(), allow_missing=False)
    assert not kfp.delete(ID, call(), allow_missing=True)


def test_the_default_experiment_stays(embedded_url: str) -> None:
    """Deleting it is rejected by KFP and reported as the caller's error, with the field; it is not an error of KFP."""
    with closing(connect(embedded_url)) as backend:
        default = backend.experiments.get(ExperimentRef(name="Default"), call())
        with pytest.raises(errors.InvalidFieldError, match="never deletes") as caught:
            backend.experiments.delete(default.experiment_id, call(), allow_missing=True)
        assert [one.field for one in caught.value.violations] == ["experiment_id"]
        assert backend.experiments.get(ExperimentRef(default.experiment_id), call()) == default


GONE = answers(404, {"code": 5, "message": f"ResourceNotFoundError: Experiment {ID} not found"})
UNKNOWN: dict[str, Callable[[Experiments], object]] = {
    "get": lambda kfp: kfp.get(ExperimentRef(ID), call()),
    "get by name": lambda kfp: kfp.get(ExperimentRef(name="absent"), call()),
    "archive": lambda kfp: kfp.archive(ID, call()),
    "unarchive": lambda kfp: kfp.unarchive(ID, call()),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_there(scripted: ScriptedKfp, kfp: Experiments, what: str) -> None:
    """The error is EXPERIMENT_NOT_FOUND, also where KFP archives an unknown experiment without an error."""
    scripted.on("GET", ONE, GONE).on("GET", LIST, answers(200, {})).on("POST", r":(un)?archive$", answers(200, {}))
    with pytest.raises(errors.ExperimentNotFoundError) as caught:
        UNKNOWN[what](kfp)
    assert caught.value.resource_name in {ID, "absent"}


@pytest.mark.parametrize("name", ["100% _", "a/b", "실험 +1", '"', "\\", "?#&="])
def test_a_name_is_compared_exactly(scripted: ScriptedKfp, kfp: Experiments, name: str) -> None:
    """KFP's comparison ignores letter case, the adapter's does not; a name may contain any character."""
    other = experiment_json(1, display_name=name.upper() + "x")
    scripted.on("GET", LIST, listing(other, experiment_json(2, display_name=name)))
    assert kfp.get(ExperimentRef(name=name), call()).experiment_id.endswith("2")
    (predicate,) = predicates_of(scripted.paths("GET")[0])
    assert predicate == {"operation": "EQUALS", "key": "name", "string_value": name}


def test_another_letter_case_is_another_name(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """An experiment `EXP` is not found as `exp`."""
    scripted.on("GET", LIST, listing(experiment_json(display_name="EXP")))
    with pytest.raises(errors.ExperimentNotFoundError):
        kfp.get(ExperimentRef(name="exp"), call())


def test_several_of_one_name(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """The adapter does not guess: AMBIGUOUS_NAME lists the ids."""
    scripted.on("GET", LIST, listing(*(experiment_json(n, namespace=f"team-{n}") for n in range(7))))
    with pytest.raises(errors.AmbiguousNameError, match=r"7 experiments named 'exp' \(.*, …\)") as caught:
        kfp.get(ExperimentRef(name="exp"), call())
    assert str(experiment_json(0)["experiment_id"]) in caught.value.metadata["experiment_ids"]


def test_the_namespace_that_was_asked_for_wins(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """Of several experiments with the name, the requested namespace's is returned; the namespace is always sent."""
    scripted.on("GET", LIST, listing(*(experiment_json(n, namespace=f"team-{n}") for n in range(3))))
    found = kfp.get(ExperimentRef(name="exp", namespace="team-1"), call())
    assert found.namespace == "team-1"
    assert query_of(scripted.paths("GET")[0])["namespace"] == "team-1"


def test_several_users(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """A multi-user KFP gets the namespace; without one its error names the field; users without access are rejected."""
    scripted.on("POST", CREATE, played("experiment in team-a", "multi_user"))
    assert kfp.create(CreateExperimentRequest("exp", namespace="team-a"), call()).namespace == "team-a"
    assert json.loads(scripted.requests[0].body) == {"display_name": "exp", "namespace": "team-a"}
    scripted.first("POST", CREATE, played("experiment without a namespace", "multi_user"))
    with pytest.raises(errors.InvalidFieldError) as needed:
        kfp.create(CreateExperimentRequest("exp2"), call())
    assert [violation.field for violation in needed.value.violations] == ["namespace"]
    scripted.on("GET", LIST, played("experiments of team-a as bob", "multi_user"))
    with pytest.raises(errors.KfpRejectedCredentialsError, match=r"\(403, list experiments\)") as refused:
        kfp.list(ListExperimentsRequest(namespace="team-a"), PageRequest(), call())
    assert "bob" not in refused.value.message


@pytest.mark.parametrize("status", [400, 500])
def test_a_name_that_kfp_finds_too_long(scripted: ScriptedKfp, kfp: Experiments, status: int) -> None:
    """KFP counts bytes; a name that passes the adapter's check of characters is still the caller's invalid field."""
    words = "Invalid input error: Experiment.Name length cannot exceed 128"
    scripted.on("POST", CREATE, answers(status, {"code": 3, "message": words}))
    with pytest.raises(errors.InvalidFieldError, match="3 bytes") as caught:
        kfp.create(CreateExperimentRequest("실" * 100), call())
    assert [violation.field for violation in caught.value.violations] == ["name"]


# --- allow_existing -----------------------------------------------------------------------------------------------


def test_what_exists_is_returned(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """With allow_existing, an existing experiment is returned and none is created."""
    scripted.on("GET", LIST, listing(experiment_json(3)))
    assert kfp.create(CreateExperimentRequest("exp", allow_existing=True), call()).experiment_id.endswith("3")
    assert scripted.paths("POST") == []


def test_a_lost_race_is_no_error(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """With allow_existing, another client's experiment is returned, even if it was created after the lookup."""
    scripted.on("GET", LIST, answers(200, {}), listing(experiment_json(3)))
    scripted.on("POST", CREATE, played("same name again", "experiments"))
    assert kfp.create(CreateExperimentRequest("exp", allow_existing=True), call()).experiment_id.endswith("3")


def test_a_name_taken_in_another_letter_case(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """`EXP` is not returned for `exp`: KFP's error is reported."""
    scripted.on("GET", LIST, listing(experiment_json(display_name="EXP")))
    scripted.on("POST", CREATE, played("same name again", "experiments"))
    with pytest.raises(errors.ExperimentExistsError):
        kfp.create(CreateExperimentRequest("exp", allow_existing=True), call())


# --- broken answers -----------------------------------------------------------------------------------------------


def _now() -> str:
    return datetime.now(timezone.utc).replace(microsecond=0).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_create_is_looked_after(scripted: ScriptedKfp, kfp: Experiments, fault: str) -> None:
    """The create is never resent; an experiment that was created meanwhile with this description is taken as ours."""
    scripted.on("POST", CREATE, BROKEN[fault])
    scripted.on("GET", LIST, listing(experiment_json(4, description="d", created_at=_now())))
    assert kfp.create(CreateExperimentRequest("exp", "d"), call()).experiment_id.endswith("4")
    assert len(scripted.paths("POST")) == 1


@pytest.mark.parametrize(
    "found",
    [
        answers(200, {}),
        listing(experiment_json(description="d")),
        listing(experiment_json(description="of somebody else", created_at=_now())),
        answers(503),
    ],
    ids=["nothing", "an old one", "another one", "KFP is away"],
)
def test_a_broken_create_is_told(scripted: ScriptedKfp, kfp: Experiments, found: Behaviour) -> None:
    """If it is unknown whether the experiment is ours, the error is reported."""
    scripted.on("POST", CREATE, resets()).on("GET", LIST, found)
    with pytest.raises(errors.KfpUnavailableError):
        kfp.create(CreateExperimentRequest("exp", "d"), call())
    assert len(scripted.paths("POST")) == 1


def test_a_broken_create_under_allow_existing(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """The experiment exists, whoever created it, which is all that was requested."""
    scripted.on("POST", CREATE, resets()).on("GET", LIST, answers(200, {}), listing(experiment_json(5)))
    assert kfp.create(CreateExperimentRequest("exp", "d", allow_existing=True), call()).experiment_id.endswith("5")


def test_a_create_that_ends_with_the_deadline(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """The check also runs after the deadline, with a time limit of its own."""
    scripted.on("POST", CREATE, stalls())
    scripted.on("GET", LIST, listing(experiment_json(6, description="d", created_at=_now())))
    assert kfp.create(CreateExperimentRequest("exp", "d"), call(0.3)).experiment_id.endswith("6")


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_delete_is_looked_after(scripted: ScriptedKfp, kfp: Experiments, fault: str) -> None:
    """If it no longer exists it was deleted; if it still exists it was not, and the error is reported."""
    there = answers(200, experiment_json(experiment_id=ID))
    scripted.on("DELETE", ONE, BROKEN[fault]).on("GET", ONE, GONE, there)
    assert kfp.delete(ID, call(), allow_missing=False)
    with pytest.raises(errors.KfpUnavailableError):
        kfp.delete(ID, call(), allow_missing=True)
    assert len(scripted.paths("DELETE")) == 2


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_change_is_looked_after(scripted: ScriptedKfp, kfp: Experiments, fault: str) -> None:
    """Whether an experiment was archived or unarchived is read from the experiment."""
    away = answers(200, experiment_json(experiment_id=ID, storage_state="ARCHIVED"))
    scripted.on("POST", r":(un)?archive$", BROKEN[fault]).on("GET", ONE, away)
    assert kfp.archive(ID, call()).storage_state is StorageState.ARCHIVED
    with pytest.raises(errors.KfpUnavailableError):
        kfp.unarchive(ID, call())
    assert len(scripted.paths("POST")) == 2


# --- lists --------------------------------------------------------------------------------------------------------


def test_a_list_filters_and_sorts_in_kfp(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """KFP filters by state, text and namespace and sorts; what its LIKE matches too broadly is dropped here."""
    scripted.on("GET", LIST, listing(experiment_json(1, display_name="a_b"), experiment_json(2, display_name="aXb")))
    where = ListExperimentsRequest("_", archived=True, namespace="team-a")
    page = kfp.list(where, PageRequest(10, order=Order("name", descending=False)), call())
    assert [item.name for item in page.items] == ["a_b"]
    assert page.total_size is None
    (path,) = scripted.paths("GET")
    asked = query_of(path)
    assert (asked["page_size"], asked["sort_by"], asked["namespace"]) == ("10", "name asc", "team-a")
    assert predicates_of(path) == [
        {"operation": "EQUALS", "key": "storage_state", "string_value": "ARCHIVED"},
        {"operation": "IS_SUBSTRING", "key": "name", "string_value": "_"},
    ]


def test_a_list_leaves_out_what_is_put_away(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """Archived experiments are omitted by default; pages of KFP are merged, and the total is KFP's."""
    scripted.on(
        "GET",
        LIST,
        listing(*(experiment_json(n) for n in range(200)), **MORE),
        listing(experiment_json(200), total_size=201),
    )
    page = kfp.list(ListExperimentsRequest(), PageRequest(1000), call())
    assert (len(page.items), page.total_size, page.next_token) == (201, 201, "")
    first, second = scripted.paths("GET")
    assert predicates_of(first) == [{"operation": "NOT_EQUALS", "key": "storage_state", "string_value": "ARCHIVED"}]
    assert query_of(second).items() >= {"page_token": "more"}.items()


def test_a_token_that_kfp_refuses(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """The error is INVALID_PAGE_TOKEN, as for pipelines."""
    refused = {"code": 3, "message": "Invalid input error: Invalid page token: illegal base64 data"}
    scripted.on("GET", LIST, answers(400, refused))
    with pytest.raises(errors.InvalidPageTokenError):
        kfp.list(ListExperimentsRequest(), PageRequest(10, "x"), call())


def test_an_unknown_state_is_unknown(scripted: ScriptedKfp, kfp: Experiments) -> None:
    """A state of a newer KFP does not break the answer."""
    scripted.on("GET", ONE, answers(200, experiment_json(experiment_id=ID, storage_state="FROZEN")))
    assert kfp.get(ExperimentRef(ID), call()).storage_state is StorageState.UNKNOWN

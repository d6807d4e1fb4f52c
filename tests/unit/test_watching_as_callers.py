"""Watching with the callers' own credentials: a caller is never sent what only another may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.watched import Reader, Watching

from kfadapter_grpc.contract.call import Authorization
from kfadapter_grpc.contract.errors import (
    AdapterError,
    InvalidFieldError,
    KfpError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.runs import RunFilter, RunState
from kfadapter_grpc.watch import poller as poller_module

if TYPE_CHECKING:
    from collections.abc import Iterator

ALICE, BOB = Authorization("Bearer canary-alice"), Authorization("Bearer canary-bob")
SUCCEEDED = RunState.SUCCEEDED


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    """A poller of a fake KFP; its watches send a heartbeat as soon as there is no event."""
    monkeypatch.setattr(poller_module, "HEARTBEAT_SECONDS", 0)
    made = Watching()
    made.kfp.put("a")
    yield made
    made.close()


def watch(watching: Watching, who: Authorization | None, *, filtered: bool) -> Reader:
    """Watches the run, by its id or by a filter that it matches."""
    return watching.watch(where=RunFilter(), who=who) if filtered else watching.watch("a", who=who)


@pytest.mark.parametrize("filtered", [False, True])
def test_each_watch_uses_its_callers_credentials(watching: Watching, filtered: bool) -> None:
    """If two callers watch the same run, KFP is called with the credentials of each, and no others."""
    watches = [watch(watching, who, filtered=filtered) for who in (ALICE, BOB)]
    watching.poll()
    assert [one.reported() for one in watches] == [["a RUNNING"], ["a RUNNING"]]
    watching.kfp.put("a", SUCCEEDED)
    watching.poll(20)
    assert [one.reported()[0] for one in watches] == ["a SUCCEEDED", "a SUCCEEDED"]
    assert set(watching.kfp.asked_as) == {ALICE, BOB}


def test_an_update_reaches_no_cache_that_kfp_has_not_filled(watching: Watching) -> None:
    """What a call learns of a run goes to those watches only to whose callers KFP has shown the run."""
    watching.kfp.refused[BOB] = PermissionDeniedError("not yours")
    alice = watch(watching, ALICE, filtered=False)
    watching.poll()
    assert alice.reported() == ["a RUNNING"]
    bob = watch(watching, BOB, filtered=False)
    watching.poller.update(watching.kfp.put("a", SUCCEEDED))
    assert alice.reported()[0] == "a SUCCEEDED"
    assert "a SUCCEEDED" not in bob.reported()


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("bob_first", [False, True])
def test_a_caller_without_access_gets_no_events(watching: Watching, filtered: bool, bob_first: bool) -> None:
    """If KFP denies a run to Bob, his watch fails although Alice's cache has it; hers continues."""
    watching.kfp.refused[BOB] = PermissionDeniedError("not yours")
    if bob_first:
        bob, alice = (watch(watching, who, filtered=filtered) for who in (BOB, ALICE))
        watching.poll()
    else:
        alice = watch(watching, ALICE, filtered=filtered)
        watching.poll()
        bob = watch(watching, BOB, filtered=filtered)
        watching.poll()
    with pytest.raises(PermissionDeniedError):
        bob.reported()
    assert alice.reported() == ["a RUNNING"]
    watching.kfp.put("a", SUCCEEDED)
    watching.poll(2)
    assert alice.reported()[0] == "a SUCCEEDED"


def test_a_filter_that_names_an_experiment(watching: Watching) -> None:
    """The experiment of a filter is looked up with the caller's credentials too."""
    watching.kfp.refused[BOB] = PermissionDeniedError("not yours")
    with pytest.raises(PermissionDeniedError):
        watching.watch(where=RunFilter(experiment=ExperimentRef(name="e")), who=BOB)
    assert watching.kfp.asked_as == [BOB]


@pytest.mark.parametrize("tasks", [False, True])
def test_credentials_that_expire_end_the_watch(watching: Watching, tasks: bool) -> None:
    """When KFP rejects a caller's expired credentials, all watches with them end; others continue."""
    expired = [watching.watch("a", tasks=tasks, who=ALICE), watching.watch(where=RunFilter(), tasks=tasks, who=ALICE)]
    other = watching.watch("a", tasks=tasks, who=BOB)
    watching.poll()
    assert [one.reported() for one in (*expired, other)] == [["a RUNNING"]] * 3
    watching.kfp.refused[ALICE] = UnauthenticatedError("expired")
    watching.poll()
    for one in expired:
        with pytest.raises(UnauthenticatedError):
            one.reported()
    assert other.reported() == []  # a heartbeat, and KFP is not reported as unreachable
    assert "away" not in watch(watching, BOB, filtered=True).reported()


@pytest.mark.parametrize("error", [InvalidFieldError.of("namespace", "say which"), KfpError("a bad answer")])
def test_what_fails_for_one_is_not_reported_to_others(watching: Watching, error: AdapterError) -> None:
    """KFP is unreachable to those only whose requests failed, whoever else's did: a watch without a namespace, say."""
    alice = watch(watching, ALICE, filtered=False)
    watching.poll()
    assert alice.reported() == ["a RUNNING"]
    watching.kfp.refused[BOB] = error
    bob = watch(watching, BOB, filtered=False)
    watching.poll()
    later = watch(watching, ALICE, filtered=True)
    watching.poll()
    assert "away" not in (*alice.reported(), *later.reported())
    if isinstance(error, InvalidFieldError):
        with pytest.raises(InvalidFieldError):
            bob.reported()
    else:
        assert bob.reported() == ["away"]


def test_the_same_credentials_share(watching: Watching) -> None:
    """Many watches with the same credentials cost KFP as much as one."""
    watches = [watching.watch("a", who=Authorization(ALICE.value)) for _ in range(50)]
    assert watching.poll() == {"read": 1}
    assert {tuple(one.reported()) for one in watches} == {("a RUNNING",)}


def test_nothing_is_kept_after_the_last_watch() -> None:
    """When the last watch of a caller ends, its cache is dropped."""
    watching = Watching()
    watching.kfp.put("a")
    for filtered in (False, True):
        watch(watching, ALICE, filtered=filtered)
    watching.poll()
    registry = watching.poller._registry
    assert len(registry.caches()) == 1
    watching.close()
    assert not registry.caches()
    assert not registry.groups()


def test_a_scope_shows_no_secret(watching: Watching) -> None:
    """The repr of caches and groups shows no credentials."""
    watch(watching, ALICE, filtered=True)
    registry = watching.poller._registry
    assert "canary" not in repr(
        [[one.scope, one] for one in registry.caches()] + [[one.cache.scope] for one in registry.groups()]
    )

"""Every RPC x every role x every namespace: what a caller gets follows from one table, and nothing else leaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from tests.access.requests import CASES, Beyond
from tests.access.team_kfp import ABSENT, NAMESPACES, OTHER, OWN, SHARED, key, name
from tests.access.ways import GRANTS, STRANGER, WAYS, known_by

from kfadapter.v1 import identity_pb2
from kfadapter_grpc.contract.call import Role
from kfadapter_grpc.kfp import namespaces
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.access.ways import Adapter, Outcome

_WHERE = {"own": OWN, "shared": SHARED}
_CODES = {
    Beyond.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Beyond.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Beyond.OPEN: grpc.StatusCode.OK,
}
_KINDS = ("pipelines", "versions", "runs", "experiments", "recurringruns")


def test_roles() -> None:
    """The adapter requires the role that follows from the verb of an RPC."""
    assert {path: case.needs for path, case in CASES.items()} == {path: one.role for path, one in METHODS.items()}


def test_every_operation_has_a_rule() -> None:
    """A new request to KFP is refused for callers with limits until it has a rule, which only one place can give."""
    rules = (
        namespaces.OPEN,
        namespaces.LISTS,
        namespaces.IN_PATH,
        namespaces.IN_QUERY,
        namespaces.BY_NAMESPACE,
        namespaces.BY_EXPERIMENT,
    )
    assert sorted(one.name for rule in rules for one in rule) == sorted(one.name for one in Operation)


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow) if number else way for number, way in enumerate(WAYS)]
)
def test_matrix(tmp_path: Path, way: str) -> None:
    """All cells of all RPCs: a role suffices in its namespaces, a lower one nowhere, and others do not exist."""
    with known_by(way, tmp_path) as adapter:
        cells = [
            (path, role, where, namespace, by_name)
            for path, case in CASES.items()
            for role in (None, *Role)
            for where in (_WHERE if role else ("own",))
            for namespace in NAMESPACES
            for by_name in ((False, True) if case.by_name else (False,))
        ]
        wrong = []
        for path, role, where, namespace, by_name in cells:
            caller = f"{role.value}-in-{where}" if role else STRANGER
            found = adapter.about(path, caller, namespace, by_name=by_name)
            if not _is_right(path, role, found, namespace, where):
                by = "name" if by_name else "id"
                wrong.append(f"{path} as {caller}, by {by} in {namespace or 'shared'}: {found.code} {found.message}")
        wrong += [text for caller in (STRANGER, *GRANTS) for text in _wrongly_known(adapter, caller, way)]
    assert not wrong, wrong


def _wrongly_known(adapter: Adapter, caller: str, way: str) -> Iterator[str]:
    """What WhoAmI should show of a caller, and does not."""
    (who,) = adapter.about("/kfadapter.v1.IdentityService/WhoAmI", caller, OWN).responses
    assert isinstance(who, identity_pb2.WhoAmIResponse)
    if identity_pb2.Way.Name(who.way) != "WAY_" + way.partition(" ")[0].upper().replace("-", "_"):
        yield f"{caller} is known by {who.way}"
    granted = {one.namespace: identity_pb2.Role.Name(one.role) for one in who.grants}
    if granted != {where: f"ROLE_{role.upper()}" for where, role in GRANTS.get(caller, {}).items()}:
        yield f"{caller} has {granted}"


def _is_right(path: str, role: Role | None, found: Outcome, namespace: str, where: str) -> bool:
    case, own = CASES[path], _WHERE[where]
    if case.needs is not None and (role is None or not role.allows(case.needs)):
        return found.code is grpc.StatusCode.PERMISSION_DENIED
    if found.code is not grpc.StatusCode.OK or case.beyond is Beyond.OPEN:
        return (namespace != own or case.needs is None) and found.code is _CODES.get(case.beyond)
    if namespace == own:
        return any(one.ByteSize() for one in found.responses) and not _foreign(found, own)
    if case.beyond is Beyond.GONE:
        return [one.WhichOneof("event") for one in found.responses] == ["gone"]
    if namespace == SHARED:  # a list that names no namespace holds what is visible in all of them
        return not _foreign(found, own) and not _total(found)
    return case.beyond is Beyond.EMPTY and not any(map(len, _lists(found)))


def _lists(found: Outcome) -> list[Sequence[object]]:
    return [getattr(one, field.name) for one in found.responses for field in one.DESCRIPTOR.fields if field.is_repeated]


def _foreign(found: Outcome, namespace: str) -> bool:
    """Whether a response contains an id or the name of something outside of a namespace."""
    text = b"".join(one.SerializeToString() for one in found.responses)
    ids = [key(kind, one) for one in NAMESPACES if one != namespace for kind in _KINDS]
    return any(one.encode() in text for one in (*ids, *(name(one) for one in NAMESPACES if one != namespace)))


def _total(found: Outcome) -> bool:
    return any("total_size" in one.DESCRIPTOR.fields_by_name and one.HasField("total_size") for one in found.responses)


@pytest.mark.parametrize("path", [path for path, case in CASES.items() if case.beyond is not Beyond.OPEN])
def test_what_is_foreign_is_as_what_is_absent(adapter: Adapter, path: str) -> None:
    """Byte by byte the same response, whether an id or a name belongs to another namespace or to nothing."""
    for caller in ("reader-in-own", "writer-in-own", "admin-in-own"):
        for by_name in (False, True) if CASES[path].by_name else (False,):
            foreign = adapter.about(path, caller, OTHER, by_name=by_name)
            absent = adapter.about(path, caller, ABSENT, by_name=by_name)
            assert _neutral(foreign, OTHER) == _neutral(absent, ABSENT), caller


def _neutral(found: Outcome, namespace: str) -> tuple[object, ...]:
    """A response in which the ids and the name of a namespace stand for themselves."""
    for event in found.responses:
        event.ClearField("observed_at") if "observed_at" in event.DESCRIPTOR.fields_by_name else None
    texts = [found.status, *(one.SerializeToString(deterministic=True) for one in found.responses)]
    for number, kind in enumerate(_KINDS):
        texts = [one.replace(key(kind, namespace).encode(), b"%036d" % number) for one in texts]
    # Both names and namespaces have six letters, so that lengths are the same, too.
    return found.code, [one.replace(namespace.encode(), b"xxxxxx") for one in texts]

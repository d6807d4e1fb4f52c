"""An adapter with access rules, before a KFP with two namespaces, and one token for each caller of the matrix."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import grpc
import pytest
from tests.access.requests import CASES
from tests.access.team_kfp import OTHER, OWN, SHARED, TeamKfp

from kfadapter_grpc.auth.tokens import TokenEntry, digest
from kfadapter_grpc.contract.call import Role
from kfadapter_grpc.kfp import KfpBackend, TransportSettings
from kfadapter_grpc.kfp.artifact_bytes import ArtifactBytes
from kfadapter_grpc.methods import MESSAGES, METHODS
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.server.process import servicers
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.spool import SpoolPlace
from kfadapter_grpc.upload import UploadLimits
from kfadapter_grpc.watch import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.protobuf.message import Message

ROLES: tuple[Role | None, ...] = (None, *Role)
"""The roles of the callers of the matrix; None: no rule matches."""
GRANTS: dict[str, dict[str, str]] = {
    **{f"{role.value} in own": {OWN: role.value} for role in Role},
    **{f"{role.value} in shared": {SHARED: role.value} for role in Role},
    "mixed": {OWN: "reader", OTHER: "writer"},
    "typical": {OWN: "writer", SHARED: "reader"},
    "reader everywhere": {"*": "reader"},
    "admin everywhere": {"*": "admin"},
    "admin of teams": {"team-*": "admin", "*": "reader"},
}
"""What each caller may do by the rules."""
SECONDS = 60.0
REQUEST_ID = "the-same"


def caller_in(role: Role | None, where: str) -> str:
    """The name of the caller with a role in `own` or `shared`."""
    return f"{role.value} in {where}" if role else "stranger"


@dataclass(frozen=True)
class Outcome:
    """What a call got: its responses, or the code and the whole status of its failure."""

    code: grpc.StatusCode
    responses: tuple[Message, ...] = ()
    status: bytes = field(default=b"", repr=False)
    message: str = ""


@dataclass(frozen=True)
class Adapter:
    """A running adapter, and the KFP before which it stands."""

    channel: grpc.Channel
    kfp: TeamKfp

    def call(self, path: str, caller: str, messages: Iterable[Message]) -> Outcome:
        """Calls an RPC with the token of a caller."""
        return self.send(path, messages, token(caller))

    def send(self, path: str, messages: Iterable[Message], bearer: str = "") -> Outcome:
        """Calls an RPC, always with the same request id."""
        method, (request, response) = METHODS[path], MESSAGES[path]
        shown = (("authorization", f"Bearer {bearer}"),) if bearer else ()
        metadata = (*shown, ("x-request-id", REQUEST_ID))
        kinds = {False: "unary", True: "stream"}
        make = getattr(self.channel, f"{kinds[method.client_streaming]}_{kinds[method.server_streaming]}")
        stub = make(path, request_serializer=request.SerializeToString, response_deserializer=response.FromString)
        sent = iter(messages) if method.client_streaming else next(iter(messages))
        try:
            got = stub(sent, metadata=metadata, timeout=SECONDS)
            return Outcome(grpc.StatusCode.OK, tuple(got) if method.server_streaming else (got,))
        except grpc.RpcError as error:
            failed = cast("grpc.Call", error)
            status = dict(failed.trailing_metadata() or ())["grpc-status-details-bin"]
            return Outcome(failed.code(), status=cast("bytes", status), message=failed.details() or "")

    def about(self, path: str, caller: str, namespace: str, *, by_name: bool = False) -> Outcome:
        """Calls an RPC about what is in a namespace."""
        return self.call(path, caller, CASES[path].messages(namespace, by_name=by_name))


def token(caller: str) -> str:
    """The token of a caller."""
    return f"kfa_{caller.replace(' ', '-')}"


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    """The adapter; no call changes anything."""
    folder = tmp_path_factory.mktemp("access")
    tokens, rules = folder / "tokens", folder / "rules.yaml"
    names = [name.replace(" ", "-") for name in ("stranger", *GRANTS)]
    lines = [TokenEntry(name, Role.READER, digest(f"kfa_{name}")).line() for name in names]
    tokens.write_text("\n".join(lines), "utf-8")
    made = [{"match": {"token": name.replace(" ", "-")}, "grants": grants} for name, grants in GRANTS.items()]
    rules.write_text(json.dumps({"rules": made}), "utf-8")
    kfp = TeamKfp(folder)
    with (
        kfp.server,
        running(kfp, token_file=tokens, access_rules=rules) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield Adapter(channel, kfp)


@contextmanager
def running(kfp: TeamKfp, **settings: object) -> Iterator[AdapterServer]:
    """Runs an adapter before a KFP."""
    loaded = Settings.load(config=None, **{"listen": "127.0.0.1:0", **settings})
    backend = KfpBackend(TransportSettings(kfp.server.url), SpoolPlace(), None, ArtifactBytes(folder=kfp.folder))
    with closing(backend), closing(WatchPoller(backend.runs)) as watches:
        served = servicers(backend, watches, UploadLimits(), "")
        with AdapterServer(loaded, served, backend.is_alive, watches.drain) as server:
            yield server

"""Adapters with access rules, which know the callers of the matrix in each of the ways of authentication."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, cast

import grpc
from tests.access.requests import CASES
from tests.access.team_kfp import OTHER, OWN, SHARED, TeamKfp
from tests.certificates import CertificateAuthority
from tests.oidc import AUDIENCE, claims, issuers_file, serving, token
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter_grpc.auth.bearer_tokens import PATH
from kfadapter_grpc.auth.signed_tokens import read_token
from kfadapter_grpc.auth.tokens import TokenEntry, digest
from kfadapter_grpc.contract.call import Role
from kfadapter_grpc.kfp.artifact_bytes import ArtifactBytes
from kfadapter_grpc.kfp.backend import KfpBackend
from kfadapter_grpc.kfp.transport import TransportSettings
from kfadapter_grpc.methods import MESSAGES, METHODS
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.server.process import servicers
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.spool import SpoolPlace
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from google.protobuf.message import Message
    from tests.scripted_kfp import Connection, Received

STRANGER = "stranger"
"""The caller whom no rule matches."""
GRANTS: dict[str, dict[str, str]] = {
    **{f"{role.value}-in-own": {OWN: role.value} for role in Role},
    **{f"{role.value}-in-shared": {SHARED: role.value} for role in Role},
    "mixed": {OWN: "reader", OTHER: "writer"},
    "typical": {OWN: "writer", SHARED: "reader"},
    "reader-everywhere": {"*": "reader"},
    "admin-everywhere": {"*": "admin"},
    "admin-of-teams": {"team-*": "admin", "*": "reader"},
}
"""What each caller may do by the rules."""
CALLERS = (STRANGER, *GRANTS)
CLUSTER = "https://cluster.example"
SECONDS = 60.0
REQUEST_ID = "the-same"


@dataclass
class Known:
    """How callers are known: the adapter's settings, the match of a caller's rule, and what callers show."""

    settings: dict[str, object]
    match: Callable[[str], dict[str, object]]
    bearer: Callable[[str], str] = lambda _: ""
    certificates: Mapping[str, grpc.ChannelCredentials] = field(default_factory=dict)


def _token_file(folder: Path, _: ExitStack) -> Known:
    lines = [TokenEntry(name, Role.READER, digest(f"kfa_{name}")).line() for name in CALLERS]
    (folder / "tokens").write_text("\n".join(lines), "utf-8")
    return Known({"token_file": folder / "tokens"}, lambda name: {"token": name}, lambda name: f"kfa_{name}")


def _issuer(folder: Path, stack: ExitStack) -> Known:
    issuer = stack.enter_context(serving("rsa"))
    tokens = {name: token(claims(iss=issuer.url, sub=f"id-{name}", groups=["ml", name], level=3)) for name in CALLERS}
    return Known(
        {"issuers": issuers_file(folder, issuer.url)},
        lambda name: {"issuer": "http://*", "way": "issuer", "groups": name, "claims": {"level": 3}},
        tokens.__getitem__,
    )


def _token_review(folder: Path, stack: ExitStack) -> Known:
    def reviewed(connection: Connection, received: Received) -> bool:
        name = str(read_token(json.loads(received.body)["spec"]["token"]).claims["sub"])
        user = {"username": name, "groups": [f"system:serviceaccounts:{name.split(':')[2]}"]}
        status = {"authenticated": True, "user": user, "audiences": [AUDIENCE]}
        return answers(201, {"status": status})(connection, received)

    cluster = stack.enter_context(ScriptedKfp())
    cluster.on("POST", PATH, reviewed)
    (folder / "token").write_text("t")
    values = {"audiences": [AUDIENCE], "role": "admin", "url": cluster.url, "token_file": f"{folder}/token"}
    lines = ["[token_review]", 'ca_file = ""', *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    (folder / "issuers.toml").write_text("\n".join(lines))
    tokens = {name: token(claims(iss=CLUSTER, sub=f"system:serviceaccount:{name}:trainer")) for name in CALLERS}
    return Known(
        {"issuers": folder / "issuers.toml"},
        lambda name: {"issuer": CLUSTER, "subject": f"*:{name}:*", "groups": f"system:serviceaccounts:{name}"},
        tokens.__getitem__,
    )


def _certificate(folder: Path, _: ExitStack) -> Known:
    return _with_certificates(folder, "spiffe://cluster.local/ns/{}/sa/trainer")


def _both(folder: Path, stack: ExitStack) -> Known:
    """A token, and a certificate with the same name beside others."""
    tokens, known = _token_file(folder, stack), _with_certificates(folder, "{}")
    names = {"tls_client_names": ",".join(CALLERS)}
    return Known(
        known.settings | tokens.settings | names,
        lambda name: {"token": name, "certificate": name, "way": "token-file"},
        tokens.bearer,
        known.certificates,
    )


def _with_certificates(folder: Path, form: str) -> Known:
    ca = CertificateAuthority()
    certificate, key = ca.issue("localhost", "127.0.0.1").write(folder, "server")
    pairs = {name: ca.issue(form.format(name)) for name in CALLERS}
    return Known(
        {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": ca.write(folder)},
        lambda name: {"certificate": form.format(name)[:-1] + "*"},
        certificates={
            name: grpc.ssl_channel_credentials(ca.certificate, pair.key, pair.certificate)
            for name, pair in pairs.items()
        },
    )


def _impersonated(folder: Path, stack: ExitStack) -> Known:
    """KFP gets the caller's name, and refuses what is in other namespaces than the rules name."""
    known = _token_file(folder, stack)
    known.settings["kfp_user_header"] = "kubeflow-userid"
    return known


WAYS: dict[str, Callable[[Path, ExitStack], Known]] = {
    "token-file": _token_file,
    "issuer": _issuer,
    "token-review": _token_review,
    "certificate": _certificate,
    "token-file and certificate": _both,
    "token-file with impersonation": _impersonated,
}
"""Every way of authentication, and one in which KFP refuses more than the adapter."""


@dataclass(frozen=True)
class Outcome:
    """What a call got: its responses, or the code and the whole status of its failure."""

    code: grpc.StatusCode
    responses: tuple[Message, ...] = ()
    status: bytes = field(default=b"", repr=False)
    message: str = ""


@dataclass(frozen=True)
class Adapter:
    """A running adapter, the KFP before which it stands, and what each caller shows: a channel, and a token."""

    kfp: TeamKfp
    shown: Mapping[str, tuple[grpc.Channel, str]]

    def call(self, path: str, caller: str, messages: Iterable[Message]) -> Outcome:
        """Calls an RPC as a caller, always with the same request id."""
        method, (request, response) = METHODS[path], MESSAGES[path]
        channel, bearer = self.shown[caller]
        authorization = (("authorization", f"Bearer {bearer}"),) if bearer else ()
        metadata = (*authorization, ("x-request-id", REQUEST_ID))
        kinds = {False: "unary", True: "stream"}
        make = getattr(channel, f"{kinds[method.client_streaming]}_{kinds[method.server_streaming]}")
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


@contextmanager
def known_by(way: str, folder: Path) -> Iterator[Adapter]:
    """Runs an adapter to which all callers are known in a way, before a KFP that no call changes."""
    with ExitStack() as stack:
        known = WAYS[way](folder, stack)
        kfp = TeamKfp(folder, allows=_granted if "kfp_user_header" in known.settings else lambda _, __: True)
        rules = [{"match": known.match(name), "grants": grants} for name, grants in GRANTS.items()]
        (folder / "rules.yaml").write_text(json.dumps({"rules": rules}), "utf-8")
        stack.enter_context(kfp.server)
        server = stack.enter_context(running(kfp, access_rules=folder / "rules.yaml", **known.settings))
        channels = {
            name: stack.enter_context(connected(server, credentials))
            for name, credentials in known.certificates.items()
        }
        common = None if channels else stack.enter_context(connected(server))
        yield Adapter(kfp, {name: (common or channels[name], known.bearer(name)) for name in CALLERS})


def _granted(user: str, namespace: str) -> bool:
    return any(fnmatchcase(namespace, pattern) for pattern in GRANTS.get(user, {}) if pattern)


def connected(server: AdapterServer, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """Opens a connection of its own."""
    own = (("grpc.use_local_subchannel_pool", 1),)
    if credentials is None:
        return grpc.insecure_channel(server.address, own)
    return grpc.secure_channel(server.address, credentials, own)


@contextmanager
def running(kfp: TeamKfp, **settings: object) -> Iterator[AdapterServer]:
    """Runs an adapter before a KFP."""
    loaded = Settings.load(config=None, **{"listen": "127.0.0.1:0", **settings})
    transport = TransportSettings(kfp.server.url, user_header=loaded.kfp_user_header)
    backend = KfpBackend(transport, SpoolPlace(), None, ArtifactBytes(folder=kfp.folder))
    with closing(backend), closing(WatchPoller(backend.runs)) as watches:
        served = servicers(backend, watches, UploadLimits(), "")
        with AdapterServer(loaded, served, backend.is_alive, watches.drain) as server:
            yield server

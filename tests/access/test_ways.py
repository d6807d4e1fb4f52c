"""Rules by each way of authentication, on a real server: what was verified decides, and nothing that a caller says."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.access.conftest import Adapter, running
from tests.access.requests import CASES
from tests.access.team_kfp import OTHER, OWN, TeamKfp
from tests.certificates import CertificateAuthority
from tests.contract.running import eventually
from tests.oidc import AUDIENCE, claims, serving, token
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter.v1 import identity_pb2
from kfadapter_grpc.auth.token_review import PATH
from kfadapter_grpc.auth.tokens import TokenEntry, digest
from kfadapter_grpc.contract.call import Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.scripted_kfp import Behaviour

ACCOUNT = "system:serviceaccount:ml:trainer"
CLUSTER = "https://cluster.example"
NAME = "spiffe://cluster.local/ns/ml/sa/trainer"
SAMPLE = {
    "/kfadapter.v1.PipelineService/Get": (True, False),
    "/kfadapter.v1.RunService/Get": (True, False),
    "/kfadapter.v1.RunService/Terminate": (True, False),
    "/kfadapter.v1.RunService/ReadLogs": (True, False),
    "/kfadapter.v1.RunService/Delete": (False, False),
}
"""Whether a writer of the own namespace may call an RPC about the own and about the other one."""
MATCHES: dict[str, dict[str, object]] = {
    "token-file": {"token": "trainer"},
    "issuer": {"issuer": "*", "way": "issuer", "groups": "한국어", "claims": {"level": 3}},
    "token-review": {"issuer": CLUSTER, "subject": "system:serviceaccount:ml:*", "groups": "system:serviceaccounts:ml"},
    "certificate": {"certificate": "spiffe://cluster.local/ns/ml/*"},
}


@pytest.fixture(scope="module")
def kfp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamKfp]:
    """The KFP."""
    made = TeamKfp(tmp_path_factory.mktemp("kfp"))
    with made.server:
        yield made


@pytest.mark.parametrize("way", MATCHES)
def test_a_way(kfp: TeamKfp, tmp_path: Path, way: str) -> None:
    """A caller known in this way has the roles of the rule for it, WhoAmI shows them, and others have none."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(json.dumps({"rules": [{"match": MATCHES[way], "grants": {OWN: "writer"}}]}), "utf-8")
    settings: dict[str, object] = {"access_rules": rules}
    with ExitStack() as stack:
        known = unknown = ""
        channels: list[grpc.ChannelCredentials | None] = [None, None]
        if way == "certificate":
            ca = CertificateAuthority()
            certificate, key = ca.issue("localhost", "127.0.0.1").write(tmp_path, "server")
            settings |= {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": ca.write(tmp_path)}
            for number, names in enumerate((NAME, "spiffe://cluster.local/ns/other/sa/trainer")):
                pair = ca.issue(names)
                channels[number] = grpc.ssl_channel_credentials(ca.certificate, pair.key, pair.certificate)
        elif way == "token-file":
            known, unknown = "kfa_known", "kfa_unknown"
            lines = [
                TokenEntry("trainer", Role.READER, digest(known)),
                TokenEntry("other", Role.WRITER, digest(unknown)),
            ]
            settings["token_file"] = _written(tmp_path / "tokens", "\n".join(one.line() for one in lines))
        elif way == "issuer":
            issuer = stack.enter_context(serving("rsa"))
            known = token(claims(iss=issuer.url, level=3))
            unknown = token(claims(iss=issuer.url, level=3, groups=["other"]))
            text = f'[[issuers]]\nissuer = "{issuer.url}"\naudiences = ["{AUDIENCE}"]\n'
            settings["issuers"] = _written(tmp_path / "issuers.toml", text)
        else:
            cluster = stack.enter_context(ScriptedKfp())
            cluster.on("POST", PATH, _review(ACCOUNT), _review("system:serviceaccount:other:trainer"))
            known, unknown = (token(claims(iss=CLUSTER, sub=ACCOUNT, jti=one)) for one in "ab")
            (tmp_path / "token").write_text("t")
            values = {"audiences": [AUDIENCE], "url": cluster.url, "ca_file": "", "token_file": f"{tmp_path}/token"}
            lines_ = [f"{name} = {json.dumps(value)}" for name, value in values.items() if value]
            settings["issuers"] = _written(tmp_path / "issuers.toml", "\n".join(["[token_review]", *lines_]))
        server = stack.enter_context(running(kfp, **settings))
        for number, bearer in enumerate((known, unknown)):
            shown = channels[number]
            own = (("grpc.use_local_subchannel_pool", 1),)
            channel = stack.enter_context(
                grpc.secure_channel(server.address, shown, own) if shown else grpc.insecure_channel(server.address, own)
            )
            _check(Adapter(channel, kfp), way, bearer, is_known=not number)


def _check(adapter: Adapter, way: str, bearer: str, *, is_known: bool) -> None:
    (who,) = adapter.send("/kfadapter.v1.IdentityService/WhoAmI", [identity_pb2.WhoAmIRequest()], bearer).responses
    assert isinstance(who, identity_pb2.WhoAmIResponse)
    assert identity_pb2.Way.Name(who.way) == f"WAY_{way.upper().replace('-', '_')}"
    granted = [(one.namespace, identity_pb2.Role.Name(one.role)) for one in who.grants]
    assert granted == ([(OWN, "ROLE_WRITER")] if is_known else [])
    for path, allowed in SAMPLE.items():
        codes = [
            adapter.send(path, CASES[path].messages(one), bearer).code is grpc.StatusCode.OK for one in (OWN, OTHER)
        ]
        assert codes == (list(allowed) if is_known else [False, False]), path


def _written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def _review(name: str) -> Behaviour:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{name.split(':')[2]}"]
    user = {"username": name, "groups": groups}
    return answers(201, {"status": {"authenticated": True, "user": user, "audiences": [AUDIENCE]}})


def test_a_single_user_kfp(tmp_path: Path) -> None:
    """A KFP that ignores namespaces has everything in none, whatever a call names; nothing is created elsewhere."""
    kfp = TeamKfp(tmp_path, multi_user=False)
    tokens = _written(tmp_path / "tokens", TokenEntry("trainer", Role.READER, digest("kfa_known")).line())
    rule = {"match": "everyone", "grants": {OWN: "writer"}}
    rules = _written(tmp_path / "rules.yaml", json.dumps({"rules": [rule]}))
    with (
        kfp.server,
        running(kfp, token_file=tokens, access_rules=rules) as server,
        grpc.insecure_channel(server.address, (("grpc.use_local_subchannel_pool", 1),)) as channel,
    ):
        adapter = Adapter(channel, kfp)
        for path in ("/kfadapter.v1.PipelineService/Upload", "/kfadapter.v1.ExperimentService/Create"):
            found = adapter.send(path, CASES[path].messages(OWN), "kfa_known")
            assert found.code is grpc.StatusCode.PERMISSION_DENIED
        assert not kfp.server.paths("POST")


def test_a_changed_file(kfp: TeamKfp, tmp_path: Path) -> None:
    """Changes of the rules apply while the server runs; a mistake in them changes nothing, and is reported."""
    tokens = _written(tmp_path / "tokens", TokenEntry("trainer", Role.READER, digest("kfa_known")).line())

    def rules(role: str, namespace: str = OWN) -> str:
        return json.dumps({"rules": [{"match": {"token": "trainer"}, "grants": {namespace: role}}]})

    file, path = _written(tmp_path / "rules.yaml", rules("reader")), "/kfadapter.v1.RunService/Terminate"
    with (
        running(kfp, token_file=tokens, access_rules=file) as server,
        grpc.insecure_channel(server.address, (("grpc.use_local_subchannel_pool", 1),)) as channel,
    ):
        adapter = Adapter(channel, kfp)

        def code() -> str:
            return adapter.send(path, CASES[path].messages(OWN), "kfa_known").code.name

        assert code() == "PERMISSION_DENIED"
        file.write_text(rules("writer"))
        eventually(lambda: code() == "OK")
        file.write_text("rules: [")
        eventually(lambda: server.stale_files["access_rules"])
        assert code() == "OK"
        file.write_text(rules("writer", OTHER))
        eventually(lambda: code() == "NOT_FOUND")
        assert not server.stale_files["access_rules"]

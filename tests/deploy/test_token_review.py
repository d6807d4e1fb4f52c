"""Tokens of Kubernetes service accounts, against a real Kubernetes API server: by its issuer, and by TokenReview."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import grpc
import pytest
from scripts.manifests import ROOT
from tests.contract.running import eventually, failure
from tests.contract.test_authorization import OWN, guarded
from tests.contract.test_issuers import fails, refusal, who
from tests.contract.tokens import bearer
from tests.deploy.test_pod_logs import MISSING, SECONDS, free_port

from kfadapter.v1 import identity_pb2
from kfadapter_grpc.doctor.issuers import examine
from kfadapter_grpc.doctor.verdict import Status
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)

AUDIENCE = "kfadapter"


class Cluster:
    """A Kubernetes API server with the service accounts of the adapter, and of a caller."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"https://127.0.0.1:{port}"

    def kubectl(self, *words: str) -> str:
        """Runs kubectl as the cluster's administrator."""
        program = str(next((ROOT / ".tools").glob("kubernetes-*/kubectl")))
        command = [program, "--kubeconfig", str(self.folder / "kubeconfig"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def token(self, account: str, audience: str = AUDIENCE) -> str:
        """A token of a service account."""
        audiences = ("--audience", audience) if audience else ()
        return self.kubectl("-n", "ml", "create", "token", account, *audiences)


def free_pair() -> int:
    """A free port that is followed by another free one: etcd takes both."""
    while True:
        port = free_port()
        with suppress(OSError), socket.create_server(("127.0.0.1", port + 1)):
            return port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Starts it; the adapter may create TokenReviews."""
    etcd = free_pair()
    port = next(one for one in iter(free_port, 0) if one not in (etcd, etcd + 1))
    made = Cluster(tmp_path_factory.mktemp("kubernetes"), port)
    script = str(ROOT / "scripts" / "kubernetes")
    ports = {"PORT": str(port), "ETCD_PORT": str(etcd)}
    started = subprocess.run(
        [script, "start", str(made.folder)], env={**os.environ, **ports}, capture_output=True, text=True, check=False
    )
    if started.returncode == MISSING:
        pytest.skip(started.stderr.strip())
    try:
        assert started.returncode == 0, started.stderr
        made.kubectl("create", "namespace", "ml")
        for account in ("kfadapter", "trainer", "powerless"):
            made.kubectl("-n", "ml", "create", "serviceaccount", account)
        role = ("clusterrolebinding", "reviews", "--clusterrole=system:auth-delegator")
        made.kubectl("create", *role, "--serviceaccount=ml:kfadapter")
        for account in ("kfadapter", "powerless"):
            (made.folder / account).write_text(made.token(account, ""))
        yield made
    finally:
        subprocess.run([script, "stop", str(made.folder)], check=True)


def _file(cluster: Cluster, way: str, account: str = "kfadapter") -> Path:
    """Writes the file of issuers for one of the two ways."""
    where = {"ca_file": str(cluster.folder / "apiserver.crt"), "token_file": str(cluster.folder / account)}
    values: dict[str, object] = {**where, "audiences": [AUDIENCE], "role": "writer"}
    keys = f"{cluster.url}/openid/v1/jwks"  # discovery names an address on which it does not listen here
    values |= {"issuer": cluster.url, "jwks_url": keys} if way == "issuer" else {"url": cluster.url, "cache_seconds": 0}
    head = "[[issuers]]" if way == "issuer" else "[token_review]"
    path = cluster.folder / f"{way}-{account}.toml"
    path.write_text("\n".join([head, *(f"{name} = {json.dumps(value)}" for name, value in values.items())]))
    return path


@contextmanager
def adapter(cluster: Cluster, way: str, account: str = "kfadapter") -> Iterator[grpc.Channel]:
    """An adapter that accepts tokens of service accounts."""
    with (
        guarded(issuers=_file(cluster, way, account)) as made,
        grpc.insecure_channel(made.server.address, OWN) as channel,
    ):
        yield channel


@pytest.mark.parametrize("way", ["issuer", "review"])
def test_service_accounts(cluster: Cluster, way: str) -> None:
    """A service account is known by its full name; a token for another audience, or a forged one, is refused."""
    with adapter(cluster, way) as channel:
        valid = cluster.token("trainer")
        for _ in range(2):
            found = who(channel, valid)
            assert found.name == found.subject == "system:serviceaccount:ml:trainer"
            assert found.issuer == cluster.url
        assert found.way == (identity_pb2.WAY_ISSUER if way == "issuer" else identity_pb2.WAY_TOKEN_REVIEW)
        if way == "review":
            assert "system:serviceaccounts:ml" in found.groups
        refused = refusal(channel, *bearer(cluster.token("trainer", "other")))
        assert (refused.reason, refused.metadata["fault"]) == ("UNAUTHENTICATED", "AUDIENCE")
        header, claims, signature = valid.split(".")
        forged = f"{header}.{claims}.{signature[:-8]}AAAAAAAA"
        assert refusal(channel, *bearer(forged)).metadata["fault"] == ("SIGNATURE" if way == "issuer" else "REJECTED")
    settings = Settings.load(listen="127.0.0.1:0", issuers=_file(cluster, way))
    assert [one.status for one in examine(settings)] == [Status.OK]


def test_a_deleted_account(cluster: Cluster) -> None:
    """By TokenReview, the tokens of a deleted service account are refused as soon as the API server does so (10 s)."""
    cluster.kubectl("-n", "ml", "create", "serviceaccount", "gone")
    with adapter(cluster, "review") as channel:
        valid = cluster.token("gone")
        assert who(channel, valid).name == "system:serviceaccount:ml:gone"
        cluster.kubectl("-n", "ml", "delete", "serviceaccount", "gone")
        eventually(lambda: fails(channel, valid))
        assert refusal(channel, *bearer(valid)).metadata["fault"] == "REJECTED"


def test_without_the_right(cluster: Cluster) -> None:
    """An adapter that may not create TokenReviews reports that the token cannot be verified; the doctor reports why."""
    with adapter(cluster, "review", "powerless") as channel:
        what = failure(lambda: who(channel, cluster.token("trainer")))
        assert what.reason == "ISSUER_UNAVAILABLE"
    settings = Settings.load(listen="127.0.0.1:0", issuers=_file(cluster, "review", "powerless"))
    (verdict,) = examine(settings)
    assert (verdict.status, "HTTP 403" in verdict.what) == (Status.FAILED, True)

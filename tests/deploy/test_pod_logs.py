"""Logs of pods from a real Kubernetes API server, with and without the rights of deploy/components/pod-logs.

There is no kubelet: a fake one responds to the API server, which checks tokens and rights as usual.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml
from scripts import manifests
from scripts.manifests import ROOT
from tests.certificates import CertificateAuthority
from tests.scripted_kfp import ScriptedKfp, answers, head, sends

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.kfp.log_sources import PodLogError, PodLogs, kubernetes_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)

LOG = "한 줄\n두 줄\n".encode()
WAITING = 'container "main" in pod "train" is waiting to start: ContainerCreating'
SECONDS = 30.0
MISSING = 3
"""How scripts/kubernetes ends where a program that it needs is not there."""


@dataclass(frozen=True)
class Cluster:
    """A Kubernetes API server with one node, whose kubelet is a fake."""

    folder: Path
    kubelet: ScriptedKfp
    port: int

    def kubectl(self, *words: str, data: object = None) -> str:
        """Runs kubectl as the cluster's administrator."""
        program = str(next((ROOT / ".tools").glob("kubernetes-*/kubectl")))
        command = [program, "--kubeconfig", str(self.folder / "kubeconfig"), *words]
        text = None if data is None else json.dumps({"apiVersion": "v1", "kind": "List", "items": data})
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the Kubernetes API in a pod."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}


def free_port() -> int:
    """A port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def kubelet(folder: Path) -> Iterator[ScriptedKfp]:
    """A fake kubelet, with the logs of the node's pods."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*CertificateAuthority().issue("127.0.0.1").write(folder, "kubelet"))
    with ScriptedKfp(tls=context) as server:
        server.on("GET", "/containerLogs/kubeflow/train/main", answers(200, LOG, content_type="text/plain"))
        server.on(
            "GET", "/containerLogs/kubeflow/waits/main", answers(400, WAITING.encode(), content_type="text/plain")
        )
        yield server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with an installation's service account and three pods; without the rights of the component."""
    folder, port = tmp_path_factory.mktemp("kubernetes"), free_port()
    ports = {"PORT": str(port), "ETCD_PORT": str(free_port())}
    script = str(ROOT / "scripts" / "kubernetes")
    started = subprocess.run(
        [script, "start", str(folder)], env={**os.environ, **ports}, capture_output=True, text=True, check=False
    )
    if started.returncode == MISSING:
        pytest.skip(started.stderr.strip())
    try:
        assert started.returncode == 0, started.stderr
        with kubelet(folder) as server:
            made = Cluster(folder, server, port)
            made.kubectl(
                "apply",
                "-f",
                "-",
                data=[_named("Namespace", "kubeflow", namespace=None), *_installed("ServiceAccount")],
            )
            _add_node(made)
            made.kubectl("apply", "-f", "-", data=[_pod("train"), _pod("waits"), _pod("pending", node=None)])
            (folder / "token").write_text(made.kubectl("-n", "kubeflow", "create", "token", "kfadapter").strip())
            (folder / "ca.crt").write_bytes((folder / "apiserver.crt").read_bytes())
            yield made
    finally:
        subprocess.run([script, "stop", str(folder)], check=True)


@pytest.fixture
def logs(cluster: Cluster) -> Iterator[PodLogs]:
    """The logs of its pods, as the adapter's service account."""
    settings = kubernetes_api(cluster.environment, cluster.folder)
    assert settings is not None
    with closing(PodLogs(settings)) as found:
        yield found


def _named(kind: str, name: str, *, namespace: str | None = "kubeflow", **fields: object) -> dict[str, object]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}


def _installed(*kinds: str) -> list[manifests.Manifest]:
    """The manifests of some kinds in an installation with the component."""
    made = manifests.build_with(manifests.DEPLOY / "components" / "pod-logs")
    return [one for one in made if one["kind"] in kinds]


def _pod(name: str, *, node: str | None = "node") -> dict[str, object]:
    spec = {"serviceAccountName": "kfadapter", "containers": [{"name": "main", "image": "none"}]}
    return _named("Pod", name, spec={**spec, **({"nodeName": node} if node else {})})


def _add_node(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "-", data=[_named("Node", "node", namespace=None)])
    port = int(cluster.kubelet.url.rpartition(":")[2])
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    patch = yaml.safe_dump({"status": status})
    cluster.kubectl("patch", "node", "node", "--subresource", "status", "--type", "merge", "-p", patch)


def read(logs: PodLogs, pod: str = "train", **how: object) -> bytes:
    """The complete log of a pod."""
    return b"".join(logs.read("kubeflow", pod, Call("test", SECONDS), **how))  # type: ignore[arg-type]


def refusal(logs: PodLogs, pod: str = "train") -> tuple[int, str]:
    """Status and message of a rejected read of a log; 0 and empty if it succeeds."""
    try:
        read(logs, pod)
    except PodLogError as error:
        return error.status, error.why
    return 0, ""


@pytest.fixture
def granted(cluster: Cluster, logs: PodLogs) -> Iterator[None]:
    """Grants the rights of the component; yields once the API server applies them."""
    rights = _installed("Role", "RoleBinding")
    cluster.kubectl("apply", "-f", "-", data=rights)
    call = Call("test", SECONDS)
    while refusal(logs)[0] and call.remaining() > 0:
        pass
    yield
    cluster.kubectl("-n", "kubeflow", "delete", "role,rolebinding", "kfadapter-pod-logs")


def test_not_granted(logs: PodLogs) -> None:
    """Without the component the API server denies access, and names the missing right."""
    status, why = refusal(logs)
    assert status == 403
    assert 'cannot get resource "pods/log"' in why
    assert "system:serviceaccount:kubeflow:kfadapter" in why


@pytest.mark.usefixtures("granted")
def test_granted(cluster: Cluster, logs: PodLogs) -> None:
    """With the component logs are read and followed through the API server, and nothing else is allowed."""
    assert read(logs) == LOG
    assert read(logs, tail=20) == LOG
    can = cluster.kubectl(
        "auth", "can-i", "--list", "-n", "kubeflow", "--as", "system:serviceaccount:kubeflow:kfadapter"
    )
    assert [line.split()[0] for line in can.splitlines() if "pods" in line] == ["pods/log"]


@pytest.mark.usefixtures("granted")
def test_following(cluster: Cluster, logs: PodLogs) -> None:
    """A followed log is streamed while its container runs: the first line arrives before the last is written."""
    chunk = b"d\r\nfirst line 1\n\r\n"
    streamed = sends(head(200, {"Transfer-Encoding": "chunked", "Content-Type": "text/plain"}) + chunk)
    cluster.kubelet.first("GET", "/containerLogs/kubeflow/train/main.*follow=true", streamed)
    pieces = logs.read("kubeflow", "train", Call("test", SECONDS), follow=True)
    with closing(pieces):
        assert next(piece for piece in pieces if piece) == b"first line 1\n"


@pytest.mark.usefixtures("granted")
def test_what_is_missing(logs: PodLogs) -> None:
    """Pods that are deleted, waiting, or without a node are distinguished."""
    assert refusal(logs, "gone") == (404, 'pods "gone" not found')
    status, why = refusal(logs, "waits")
    assert (status, WAITING in why) == (400, True)
    assert read(logs, "pending") == b""

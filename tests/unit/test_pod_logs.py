"""Logs of pods from a Kubernetes API with TLS and service-account tokens."""

from __future__ import annotations

import ssl
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.certificates import CertificateAuthority
from tests.scripted_kfp import Connection, Received, ScriptedKfp, answers, head, sends

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import KfpUnavailableError
from kfadapter_grpc.doctor import sources as doctor
from kfadapter_grpc.doctor.verdict import Status
from kfadapter_grpc.kfp.log_sources import PodLogError, PodLogs, kubernetes_api
from kfadapter_grpc.server import kfp as server_kfp
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOG = "한 줄\n".encode()


class Cluster:
    """A Kubernetes API, and the folder with its service account as a pod has it."""

    def __init__(self, server: ScriptedKfp, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.take("first")

    def take(self, token: str) -> None:
        """Replaces certificate, authority and token, as on renewal."""
        authority = CertificateAuthority()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("127.0.0.1").write(self.folder, "server"))
        self.server.tls = context
        (self.folder / "ca.crt").write_bytes(authority.certificate)
        (self.folder / "token").write_text(token)
        (self.folder / "namespace").write_text("kubeflow")
        self.token = token

    def answer(self, connection: Connection, received: Received) -> bool:
        """Returns the log for the right token."""
        known = received.headers.get("authorization") == f"Bearer {self.token}"
        return (answers(200, LOG) if known else answers(401, {"message": "Unauthorized"}))(connection, received)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the Kubernetes API in a pod."""
        host, _, port = self.server.url.removeprefix("https://").partition(":")
        return {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster in which the adapter may read logs."""
    with ScriptedKfp(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as server:
        cluster = Cluster(server, tmp_path)
        server.on("GET", "/pods/train/log", cluster.answer)
        yield cluster


@pytest.fixture
def logs(cluster: Cluster) -> Iterator[PodLogs]:
    """The logs of its pods."""
    settings = kubernetes_api(cluster.environment, cluster.folder)
    assert settings is not None
    with closing(PodLogs(settings)) as found:
        yield found


def read(logs: PodLogs, **how: object) -> bytes:
    """The complete log of a pod."""
    return b"".join(logs.read("team-a", "train", Call("test", 30), **how))  # type: ignore[arg-type]


def test_requests(cluster: Cluster, logs: PodLogs) -> None:
    """The log of the task's container is requested; following and the number of lines are the client's choice."""
    assert read(logs) == read(logs, follow=True) == read(logs, tail=20) == LOG
    path = "/api/v1/namespaces/team-a/pods/train/log?container=main"
    assert cluster.server.paths("GET") == [path, f"{path}&follow=true", f"{path}&tailLines=20"]


def test_renewed_token_and_authority(cluster: Cluster, logs: PodLogs) -> None:
    """A changed token or authority is read again, without a restart."""
    assert read(logs) == LOG
    cluster.take("second")
    assert read(logs) == LOG
    assert cluster.server.requests[-1].headers["authorization"] == "Bearer second"


def test_pod_without_a_node(cluster: Cluster, logs: PodLogs) -> None:
    """The log of a pod without a node is empty."""
    cluster.server.first("GET", "/log", sends(head(204, {})))
    assert read(logs) == b""


def test_refusals(cluster: Cluster, logs: PodLogs) -> None:
    """Kubernetes' error is reported with its status."""
    waiting = 'container "main" in pod "train" is waiting to start: ContainerCreating'
    for status, message in ((404, 'pods "train" not found'), (403, "forbidden"), (400, waiting)):
        cluster.server.first("GET", "/pods/train/log", answers(status, {"message": message}))
        with pytest.raises(PodLogError) as caught:
            read(logs)
        assert (caught.value.status, caught.value.why) == (status, message)


@pytest.mark.parametrize("line", [b"", b"no HTTP"])
def test_no_response(cluster: Cluster, logs: PodLogs, line: bytes) -> None:
    """An unreachable API is distinguished from one that rejects requests."""
    cluster.server.first("GET", "/pods/train/log", sends(line, then_close=True))
    with pytest.raises(PodLogError) as caught:
        read(logs)
    assert caught.value.status == 0


def test_broken_response(cluster: Cluster, logs: PodLogs) -> None:
    """A line that breaks in the middle of a log is not the end of the log."""
    cluster.server.first("GET", "/log", sends(head(200, {"Content-Length": "100"}) + b"half", then_close=True))
    with pytest.raises(KfpUnavailableError, match="Kubernetes"):
        read(logs)


def test_outside_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """Without the variables of a pod, or without a token, Kubernetes is not called."""
    assert kubernetes_api({}, cluster.folder) is None
    assert kubernetes_api(cluster.environment, tmp_path / "empty") is None
    (cluster.folder / "token").unlink()
    assert kubernetes_api(cluster.environment, cluster.folder) is None
    ipv6 = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    cluster.take("third")
    found = kubernetes_api(ipv6, cluster.folder)
    assert found is not None
    assert found.url == "https://[fd00::1]:443"


# --- the doctor -------------------------------------------------------------------------------------------------


@pytest.fixture
def in_pod(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The doctor runs in a pod of the cluster."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    for module in (server_kfp, doctor):
        monkeypatch.setattr(module, "KUBERNETES_SERVICE_ACCOUNT", cluster.folder)
    return cluster


def pod_verdict(**settings: object) -> tuple[Status, str]:
    """What the doctor reports of the logs of pods."""
    found, *_ = doctor.examine(Settings.load(config=None, kfp_credentials="forward", **settings))
    assert found.check == doctor.PODS
    return found.status, f"{found.what} {found.next_step}"


def test_doctor(in_pod: Cluster) -> None:
    """The doctor reports whether the logs of pods can be read, and otherwise what to grant."""
    nobody = "/namespaces/kubeflow/pods/kfadapter-doctor/log"
    in_pod.server.on("GET", nobody, answers(404, {"message": 'pods "kfadapter-doctor" not found'}))
    assert pod_verdict() == (Status.OK, "the logs of running tasks can be read from the pods in 'kubeflow' ")
    in_pod.server.first("GET", nobody, answers(403, {"message": 'pods "kfadapter-doctor" is forbidden'}))
    status, text = pod_verdict()
    assert status is Status.WARNING
    assert "deploy/components/pod-logs" in text
    in_pod.server.first("GET", nobody, sends(b"", then_close=True))
    assert "NetworkPolicy" in pod_verdict()[1]


@pytest.mark.usefixtures("in_pod")
def test_switched_off() -> None:
    """If logs of pods are off, Kubernetes is not called, and the doctor reports the consequences."""
    status, text = pod_verdict(pod_logs="off")
    assert status is Status.OK
    assert "switched off" in text
    assert server_kfp.pod_log_settings(Settings.load(config=None, pod_logs="off")) is None


@pytest.mark.parametrize(("served", "status"), [(True, Status.OK), (False, Status.WARNING)])
def test_doctor_of_kfp(served: bool, status: Status) -> None:  # a parameter of the test
    """The doctor reports whether KFP serves logs at this address."""
    message = "BadRequestError: Failed to read logs for run kfadapter-doctor due to run fetching error: not found"
    body = f'{{"error_message":"{message}","error_details":"{message}"}}'.encode()
    with ScriptedKfp() as kfp:
        kfp.on("GET", "/healthz", answers(200, {}))
        kfp.on("GET", "/v2beta1/runs", answers(200, {}))
        kfp.on("GET", "/v1alpha1/", answers(200, body, content_type="text/plain" if served else "text/html"))
        first = next(doctor.examine(Settings.load(config=None, kfp_url=kfp.url)))
    assert (first.check, first.status) == (doctor.ROUTE, status)

"""The notifier in the installation with all components: consistent with the adapter, image and program."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scripts import manifests
from scripts.manifests import ROOT
from tests.contract.running import eventually

from kfadapter_grpc.setting_sources import CLIENT_VARIABLES, PREFIX
from kfadapter_oran.notices.command import HEADERS_VARIABLE, NotifyOptions, notify
from kfadapter_oran.notices.process import SENDER_SECONDS, WATCHER_SECONDS

if TYPE_CHECKING:
    from pathlib import PurePath

    from tests.deploy.conftest import Installation

NAME = "kfadapter-notify"
PROGRAM = str(Path(sys.executable).parent / "kfadapter")
SECONDS = 60


@pytest.fixture
def pod(everything: Installation) -> dict[str, Any]:
    """The spec of the notifier's pod."""
    found: dict[str, Any] = manifests.one(everything.made, "Deployment", NAME)["spec"]["template"]["spec"]
    return found


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    """Its container."""
    (found,) = pod["containers"]
    return dict(found)


@pytest.fixture
def variables(everything: Installation) -> dict[str, str]:
    """The variables in the ConfigMap."""
    return dict(manifests.one(everything.made, "ConfigMap", NAME)["data"])


def test_there_is_one_and_never_two(everything: Installation) -> None:
    """One pod has the outbox; a new pod starts after the old one has ended."""
    spec = manifests.one(everything.made, "Deployment", NAME)["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_pod_is_restricted(pod: dict[str, Any], container: dict[str, Any], everything: Installation) -> None:
    """It runs with the adapter's user and restrictions, and no token for Kubernetes."""
    same = ("securityContext", "enableServiceLinks", "serviceAccountName")
    assert {key: pod[key] for key in same} == {key: everything.pod[key] for key in same}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == everything.adapter["securityContext"]
    assert container["image"] == everything.adapter["image"]
    assert {"memory", "ephemeral-storage"} <= set(container["resources"]["limits"])


def test_it_runs_the_command(container: dict[str, Any]) -> None:
    """The container runs the notify command of the image."""
    assert '\nENTRYPOINT ["kfadapter"]\n' in (ROOT / "Dockerfile").read_text()
    assert container["args"] == [notify.__name__]


def test_its_variables_are_read(variables: dict[str, str]) -> None:
    """Every variable is read by the command."""
    own = {NotifyOptions.VARIABLES + one.name.upper() for one in fields(NotifyOptions)} | {HEADERS_VARIABLE}
    named = {name for name in variables if name.startswith(PREFIX)}
    assert named <= own | {PREFIX + name.upper() for name in CLIENT_VARIABLES}
    assert {name for name in variables if not name.startswith(PREFIX)} == {"TRAININGMGR_HOST", "TRAININGMGR_PORT"}


def test_its_outbox_outlives_the_pod(
    pod: dict[str, Any], container: dict[str, Any], variables: dict[str, str], everything: Installation
) -> None:
    """The outbox is on a PersistentVolumeClaim, not in the pod."""
    folder = variables["KFADAPTER_NOTIFY_OUTBOX"].rpartition("/")[0]
    (name,) = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == folder]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == name]
    claim = manifests.one(everything.made, "PersistentVolumeClaim", NAME)
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}


def test_its_ports_and_probes(container: dict[str, Any], variables: dict[str, str], everything: Installation) -> None:
    """Probes and Prometheus use the port that it listens on, and only Prometheus is allowed in."""
    port = int(variables["KFADAPTER_NOTIFY_METRICS_LISTEN"].rpartition(":")[2])
    assert container["ports"] == [{"name": "metrics", "containerPort": port}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    policy = manifests.one(everything.made, "NetworkPolicy", NAME)["spec"]
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"protocol": "TCP", "port": port}]]
    monitor = manifests.one(everything.made, "PodMonitor", NAME)["spec"]
    assert monitor["selector"]["matchLabels"] == policy["podSelector"]["matchLabels"]


def test_it_may_reach_its_receiver(variables: dict[str, str], everything: Installation) -> None:
    """The policy only allows calls to the adapter, notifications and DNS out."""
    policy = manifests.one(everything.made, "NetworkPolicy", NAME)["spec"]
    adapter = int(variables["KFADAPTER_TARGET"].rpartition(":")[2])
    assert adapter == everything.ports["grpc"]
    assert variables["KFADAPTER_TARGET"].rpartition(":")[0] in {
        service["metadata"]["name"] for service in everything.all("Service")
    }
    outward = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert outward == {adapter, int(variables["TRAININGMGR_PORT"]), 53}


def test_it_ends_in_time(pod: dict[str, Any]) -> None:
    """Kubernetes does not kill a notifier that is shutting down."""
    assert pod["terminationGracePeriodSeconds"] > WATCHER_SECONDS + SENDER_SECONDS + 5


def test_it_runs(variables: dict[str, str], tmp_path: Path) -> None:
    """With the image's and the ConfigMap's variables it starts, responds to probes, and exits with 0, without peers."""
    here = variables | {
        "KFADAPTER_NOTIFY_OUTBOX": str(moved(tmp_path, Path(variables["KFADAPTER_NOTIFY_OUTBOX"]))),
        "KFADAPTER_NOTIFY_METRICS_LISTEN": "127.0.0.1:0",
        "KFADAPTER_TARGET": "127.0.0.1:1",
    }
    log, environment = tmp_path / "log", {**manifests.image_variables(), **here}
    with (
        log.open("wb") as stderr,
        subprocess.Popen([PROGRAM, "notify"], env=environment, stdin=subprocess.DEVNULL, stderr=stderr) as process,
    ):
        try:
            found = eventually(lambda: re.findall(r'"metrics": "([\d.:]+)"', log.read_text()), SECONDS)
            with urllib.request.urlopen(f"http://{found[0]}/healthz", timeout=SECONDS) as answer:
                assert answer.status == 200
            process.terminate()
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()


def moved(root: Path, path: PurePath) -> Path:
    """A path of the container, in a folder of this machine."""
    return root / path.relative_to("/")

"""The page in the installation with all components: consistent with the adapter, image and program."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scripts import manifests
from scripts.manifests import ROOT

from kfadapter_console.command import ConsoleOptions, console
from kfadapter_console.security import HEALTH_PATH
from kfadapter_grpc.daemon.http import STOP_SECONDS
from kfadapter_grpc.setting_sources import CLIENT_VARIABLES, PREFIX

if TYPE_CHECKING:
    from tests.deploy.conftest import Installation

NAME = "kfadapter-console"
PROGRAM = str(Path(sys.executable).parent / "kfadapter")
SECONDS = 60


@pytest.fixture
def pod(everything: Installation) -> dict[str, Any]:
    """The spec of the page's pod."""
    found: dict[str, Any] = manifests.one(everything.made, "Deployment", NAME)["spec"]["template"]["spec"]
    return found


@pytest.fixture
def variables(everything: Installation) -> dict[str, str]:
    """The variables in the ConfigMap."""
    return dict(manifests.one(everything.made, "ConfigMap", NAME)["data"])


def test_the_pod_is_restricted(pod: dict[str, Any], everything: Installation) -> None:
    """It runs with the adapter's user, image and restrictions, and no token for Kubernetes."""
    same = ("securityContext", "enableServiceLinks", "serviceAccountName")
    assert {key: pod[key] for key in same} == {key: everything.pod[key] for key in same}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == everything.adapter["securityContext"]
    assert container["image"] == everything.adapter["image"]
    assert {"memory", "ephemeral-storage"} <= set(container["resources"]["limits"])
    assert container["args"] == [console.__name__]
    assert pod["terminationGracePeriodSeconds"] > 2 * STOP_SECONDS + 1


def test_the_image_has_what_it_needs() -> None:
    """The lock of the image has the packages of the extra."""
    lock = (ROOT / "requirements" / "server.txt").read_text()
    for package in ("jinja2", "markdown-it-py", "python-multipart", "starlette", "uvicorn"):
        assert f"\n{package}==" in lock


def test_its_variables_are_read(variables: dict[str, str]) -> None:
    """Every variable is read by the command; none is a token, as users log in with theirs."""
    own = {ConsoleOptions.VARIABLES + one.name.upper() for one in fields(ConsoleOptions)}
    assert set(variables) <= own | {PREFIX + name.upper() for name in CLIENT_VARIABLES}
    assert not [name for name in variables if "TOKEN" in name]


def test_ports_probes_and_policy(pod: dict[str, Any], variables: dict[str, str], everything: Installation) -> None:
    """Service and probes use the port that it listens on; only labelled namespaces come in."""
    (container,) = pod["containers"]
    port = int(variables["KFADAPTER_CONSOLE_LISTEN"].rpartition(":")[2])
    assert container["ports"] == [{"name": "http", "containerPort": port}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": HEALTH_PATH, "port": "http"}
    service = manifests.one(everything.made, "Service", NAME)["spec"]
    policy = manifests.one(everything.made, "NetworkPolicy", NAME)["spec"]
    labels = manifests.one(everything.made, "Deployment", NAME)["spec"]["selector"]["matchLabels"]
    assert (service["selector"], policy["podSelector"]["matchLabels"]) == (labels, labels)
    assert [(one["port"], one["targetPort"]) for one in service["ports"]] == [(port, "http")]
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"protocol": "TCP", "port": port}]]
    assert all("namespaceSelector" in peer for rule in policy["ingress"] for peer in rule["from"])
    host, _, adapter = variables["KFADAPTER_TARGET"].rpartition(":")
    assert int(adapter) == everything.ports["grpc"]
    assert host in {one["metadata"]["name"] for one in everything.services}
    assert {one["port"] for rule in policy["egress"] for one in rule["ports"]} == {int(adapter), 53}


def test_it_runs(variables: dict[str, str]) -> None:
    """With the image's and the ConfigMap's variables it starts, answers probes, and ends with exit code 0."""
    here = {**manifests.image_variables(), **variables, "KFADAPTER_CONSOLE_LISTEN": "127.0.0.1:0"}
    command = [PROGRAM, console.__name__]
    with subprocess.Popen(command, env=here, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with urllib.request.urlopen(url + HEALTH_PATH, timeout=SECONDS) as answer:  # noqa: S310  our own
                assert answer.status == 200
            process.terminate()
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()

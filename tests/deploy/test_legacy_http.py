"""The gateway for HTTP in the installation with all components: consistent with the adapter, image and program."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from scripts import manifests
from scripts.manifests import ROOT
from tests.deploy.conftest import Installation, installation

from kfadapter_grpc.setting_sources import CLIENT_VARIABLES, PREFIX
from kfadapter_oran.commands import COMMANDS
from kfadapter_oran.legacy_http.command import GatewayOptions

NAME = "legacy-http"


@pytest.fixture
def container(everything: Installation) -> dict[str, Any]:
    """Its container."""
    (found,) = [one for one in everything.containers if one["name"] == NAME]
    return dict(found)


@pytest.fixture
def variables(everything: Installation) -> dict[str, str]:
    """The variables in the ConfigMap."""
    return dict(manifests.one(everything.made, "ConfigMap", "kfadapter-legacy-http")["data"])


def test_it_is_there_with_its_component_alone(kustomize: None) -> None:
    """Without the component there is only one container."""
    del kustomize
    assert [one["name"] for one in installation("single-user").containers] == ["kfadapter"]


def test_it_runs_the_command(container: dict[str, Any], everything: Installation) -> None:
    """It is started by the adapter's image."""
    assert '\nENTRYPOINT ["kfadapter"]\n' in (ROOT / "Dockerfile").read_text()
    assert container["args"] == [NAME]
    assert NAME in COMMANDS
    assert container["image"] == everything.adapter["image"]


def test_its_variables_are_read(variables: dict[str, str], container: dict[str, Any]) -> None:
    """Every variable is read by the command, and comes from the ConfigMap."""
    own = {GatewayOptions.VARIABLES + one.name.upper() for one in fields(GatewayOptions)}
    assert set(variables) <= own | {PREFIX + name.upper() for name in CLIENT_VARIABLES}
    (source,) = container["envFrom"]
    assert source["configMapRef"]["name"].startswith("kfadapter-legacy-http-")


def test_it_calls_the_adapter_beside_it(variables: dict[str, str], everything: Installation) -> None:
    """It calls the adapter of its own pod, and stops accepting requests before that adapter stops accepting calls."""
    assert variables["KFADAPTER_TARGET"] == f"127.0.0.1:{everything.ports['grpc']}"
    assert float(variables["KFADAPTER_LEGACY_HTTP_DRAIN_SECONDS"]) < float(everything.setting("drain_seconds"))


def test_its_ports_and_probes(container: dict[str, Any], variables: dict[str, str], everything: Installation) -> None:
    """Clients, probes and Prometheus use the ports that it listens on."""
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["legacy-http"] == int(variables["KFADAPTER_LEGACY_HTTP_LISTEN"].rpartition(":")[2])
    assert ports["legacy-metrics"] == int(variables["KFADAPTER_LEGACY_HTTP_METRICS_LISTEN"].rpartition(":")[2])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/liveness", "port": "legacy-http"}
    monitor = manifests.one(everything.made, "PodMonitor", "kfadapter-legacy-http")["spec"]
    assert [one["port"] for one in monitor["podMetricsEndpoints"]] == ["legacy-metrics"]

"""The Helm chart makes the same objects as kustomize."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml
from scripts import manifests
from scripts.manifests import CHART, Manifest, ManifestError

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {
    "tls": "tls.enabled=true",
    "mutual-tls": "tls.clientCa=kfadapter-client-ca",
    "certificate": "tls.certificate.enabled=true",
    "tokens": "tokens.enabled=true",
    "issuers": "issuers=kfadapter-issuers",
    "access-rules": "accessRules=kfadapter-access-rules",
    "otel": "otel.endpoint=http://collector.observability:4317",
    "token-review": "tokenReview.enabled=true",
    "pod-logs": "podLogs.enabled=true",
    "artifact-stores": "artifactStores.enabled=true",
    "autoscaling": "autoscaling.enabled=true",
    "gateway": "gateway.enabled=true",
    "gateway-tls": "gateway.tls.enabled=true",
    "istio": "istio.enabled=true",
    "monitoring": "monitoring.enabled=true",
    "alerts": "alerts.enabled=true",
    "dashboards": "dashboard.enabled=true",
    "console": "console.enabled=true",
    "notify": "notify.enabled=true",
    "legacy-http": "legacyHttp.enabled=true",
}
"""The value of the chart for each component."""
OF_HELM = {"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "checksum/config"}
"""The labels that only the chart sets, and its annotation that makes new pods when a ConfigMap changes."""
SUFFIX = re.compile(r"^(kfadapter(?:-[a-z]+)*)(?:-[a-z0-9]{10}|:[\d.]+)$")
"""The hash by which kustomize makes new pods when a ConfigMap changes, and the chart's version as the image's tag."""


@pytest.fixture(scope="session", autouse=True)
def tools(kustomize: None, helm: None) -> None:
    """Provides both."""
    del kustomize, helm


@pytest.mark.parametrize("overlay", list(manifests.overlays()))
def test_overlays(overlay: str) -> None:
    """Each overlay has a file of values; its namespace is made by `helm install --create-namespace`."""
    made = manifests.build(overlay)
    namespace = manifests.one(made, "Deployment")["metadata"]["namespace"]
    values = CHART / f"{overlay}.yaml"
    arguments = ["--values", str(values)] if overlay != "single-user" else []
    same(manifests.chart(namespace, *arguments), made)


@pytest.mark.parametrize("component", list(manifests.components()), ids=lambda folder: str(folder.name))
def test_components(component: Path) -> None:
    """Each component is a value."""
    same(manifests.chart("kubeflow", "--set", VALUES[component.name]), manifests.build_with(component))


def test_everything() -> None:
    """All components together are all values."""
    values = ",".join(VALUES.values())
    same(manifests.chart("kubeflow", "--set", values), manifests.build_with(*manifests.components()))


def test_further_values() -> None:
    """Settings win over what other values set; a release of another name is named after itself throughout."""
    values = (
        "settings.KFADAPTER_MAX_UPLOADS=8,settings.KFADAPTER_KFP_URL=http://kfp,image.repository=here/it,image.tag=1"
    )
    made = manifests.chart("other", "--set-string", values, release="second")
    environment = manifests.one(made, "ConfigMap", "second")["data"]
    assert (environment["KFADAPTER_MAX_UPLOADS"], environment["KFADAPTER_KFP_URL"]) == ("8", "http://kfp")
    deployment = manifests.one(made, "Deployment", "second")["spec"]
    assert deployment["template"]["spec"]["containers"][0]["image"] == "here/it:1"
    assert deployment["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "second"
    assert {one["metadata"]["namespace"] for one in made} == {"other"}
    assert {one["metadata"]["name"].split("-")[0] for one in made} == {"second"}


def test_a_changed_setting_makes_new_pods() -> None:
    """The pods' template changes with the ConfigMap."""
    templates = [
        manifests.one(
            manifests.chart("kubeflow", "--set-string", f"settings.KFADAPTER_MAX_UPLOADS={number}"), "Deployment"
        )
        for number in (8, 9)
    ]
    assert templates[0]["spec"]["template"] != templates[1]["spec"]["template"]


@pytest.mark.parametrize(
    "value",
    [
        "replica=3",
        "kfp.url=ml-pipeline:8888",
        "tls.enabled=maybe",
        "networkPolicy.callers=null",
        "kfp.embedded=true",
        r"podLabels.app\.kubernetes\.io/name=other",
    ],
)
def test_mistakes_are_refused(value: str) -> None:
    """The schema refuses values that are unknown or of the wrong type, open rules, several KFPs, labels twice."""
    with pytest.raises(ManifestError, match="values don't meet the specifications"):
        manifests.chart("kubeflow", "--set", value)


def test_lint() -> None:
    """`helm lint --strict` accepts the chart with each file of values."""
    for values in ("values", "multi-user", "embedded"):
        manifests.run("helm", "lint", "--strict", str(CHART), "--values", str(CHART / f"{values}.yaml"))


def same(chart: list[Manifest], kustomize: list[Manifest]) -> None:
    """Compares object by object, but for OF_HELM, SUFFIX, the Namespace, and the order of lists of objects."""
    expected = {identity(one): plain(one) for one in kustomize if one["kind"] != "Namespace"}
    found = {identity(one): plain(one) for one in chart}
    assert sorted(found) == sorted(expected)
    for name, manifest in expected.items():
        assert yaml.safe_dump(found[name]).splitlines() == yaml.safe_dump(manifest).splitlines(), name


def identity(manifest: Manifest) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), SUFFIX.sub(r"\1", metadata["name"])


def plain(value: object) -> object:
    """The value without what differs on purpose; a list of objects as a sorted one, each object once."""
    if isinstance(value, dict):
        items = {key: plain(one) for key, one in value.items() if key not in OF_HELM}
        return {key: one for key, one in items.items() if one != {} or key not in ("labels", "annotations")}
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return sorted({json.dumps(plain(one), sort_keys=True) for one in value})
    return SUFFIX.sub(r"\1", value) if isinstance(value, str) else value

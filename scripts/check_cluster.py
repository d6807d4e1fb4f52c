"""Applies the installations to a real Kubernetes API server; called by scripts/check-deploy --cluster."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import yaml
from scripts import manifests
from scripts.manifests import ADAPTER, CHART, ROOT, Manifest, ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CRDS = {
    "sigs.k8s.io/gateway-api@v1.4.0": "config/crd/standard/*.yaml",
    "github.com/cert-manager/cert-manager@v1.19.0": "deploy/crds/cert-manager.io_certificates.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_*.yaml"
    ),
    "istio.io/api@v1.27.0": "kubernetes/customresourcedefinitions.gen.yaml",
}
"""The Go modules that carry definitions of custom resources, and where."""
NAMESPACE = "kubeflow"
SECONDS = 120
_EVERYWHERE = (
    "create tokenreviews.authentication.k8s.io",
    "create subjectaccessreviews.authorization.k8s.io",
)
_RIGHTS = {"Role": ("get pods/log",), "ClusterRoleBinding": _EVERYWHERE}
"""What the adapter's service account may do where an installation has an object of a kind."""

Kubectl: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"


def main() -> int:
    """Checks all installations; returns the exit code."""
    mistakes: list[str] = []
    with cluster() as kubectl:
        define(kubectl)
        for name, namespace, made in installations():
            found = list(mistakes_of(kubectl, namespace, made))
            sys.stdout.write(f"{name}: {len(made)} objects, {len(found)} mistakes\n")
            mistakes += [f"{name}: {line}" for line in found]
    sys.stderr.writelines(f"check-deploy: {line}\n" for line in mistakes)
    if not mistakes:
        sys.stdout.write("cluster: it accepts all objects, their pods as restricted ones, and grants what is needed\n")
    return bool(mistakes)


def installations() -> Iterator[tuple[str, str, list[Manifest]]]:
    """Yields name, namespace and objects: each overlay, one with all components, the examples, and the chart."""
    for overlay in manifests.overlays():
        made = manifests.build(overlay)
        namespace = manifests.one(made, "Deployment")["metadata"]["namespace"]
        yield f"overlays/{overlay}", namespace, made
        values = [] if overlay == "single-user" else ["--values", str(CHART / f"{overlay}.yaml")]
        yield f"chart, {overlay}", namespace, manifests.chart(namespace, *values)
    yield "single-user with all components", NAMESPACE, manifests.build_with(*manifests.components())
    every = "podLogs.enabled=true,tokenReview.enabled=true"
    yield "chart with rights", NAMESPACE, manifests.chart(NAMESPACE, "--set", every)
    for number, text in enumerate(manifests.examples(), start=1):
        yield f"example {number} of docs/deploy.md", NAMESPACE, manifests.build_text(text)


def mistakes_of(kubectl: Kubectl, namespace: str, made: list[Manifest]) -> Iterator[str]:
    """Applies an installation, creates its pods, checks its rights, and deletes it."""
    text = yaml.safe_dump_all(made)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    restricted = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=json.dumps(restricted))
    applied = kubectl("apply", "--server-side", "--validate=strict", "-n", namespace, "-f", "-", text=text)
    if applied.returncode or "would violate PodSecurity" in applied.stderr:
        yield from applied.stderr.splitlines()
    for deployment in (one for one in made if one["kind"] == "Deployment"):
        pod = {**deployment["spec"]["template"], "apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] = {**pod["metadata"], "name": deployment["metadata"]["name"], "namespace": namespace}
        created = kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", text=json.dumps(pod))
        if created.returncode or "Warning" in created.stderr:
            yield f"pod of {deployment['metadata']['name']}: {created.stderr.strip()}"
    if any(one["kind"] == "ServiceAccount" for one in made):
        yield from _rights(kubectl, namespace, made)
    own = yaml.safe_dump_all(one for one in made if one["kind"] != "Namespace")
    kubectl("delete", "-n", namespace, "--wait=false", "--ignore-not-found", "-f", "-", text=own)


def _rights(kubectl: Kubectl, namespace: str, made: list[Manifest]) -> Iterator[str]:
    """Compares the rights of the service account with those of every account, and with _RIGHTS."""
    due = {right for one in made for right in _RIGHTS.get(one["kind"], ())}
    for where in (namespace, "default"):
        own, every = (
            _allowed(kubectl, where, f"system:serviceaccount:{namespace}:{name}") for name in (ADAPTER, "none")
        )
        expected = {right for right in due if where == namespace or right in _EVERYWHERE}
        if own - every != expected:
            yield f"in the namespace {where}, its service account may {sorted(own - every)}, not {sorted(expected)}"


def _allowed(kubectl: Kubectl, namespace: str, account: str) -> set[str]:
    """Every resource that an account may use, with the verbs."""
    done = kubectl("auth", "can-i", "--list", "--no-headers", "-n", namespace, "--as", account)
    lines = (line.split("[") for line in done.stdout.splitlines() if not line.startswith(" "))
    return {f"{verb} {line[0].strip()}" for line in lines for verb in line[-1].strip("]").split()}


@contextmanager
def cluster() -> Iterator[Kubectl]:
    """Starts an API server; yields its kubectl."""
    script = str(ROOT / "scripts" / "kubernetes")
    with tempfile.TemporaryDirectory(prefix="kfadapter-cluster-") as folder:
        ports = {"PORT": str(_free_port()), "ETCD_PORT": str(_free_port())}
        try:
            started = subprocess.run([script, "start", folder], env={**os.environ, **ports}, check=False)  # noqa: S603
            if started.returncode:
                raise ManifestError("there is no API server")
            yield partial(_kubectl, folder)
        finally:
            subprocess.run([script, "stop", folder], check=True)  # noqa: S603


def _kubectl(folder: str, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    program = str(next((ROOT / ".tools").glob("kubernetes-*/kubectl")))
    command = [program, "--kubeconfig", f"{folder}/kubeconfig", *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603


def define(kubectl: Kubectl) -> None:
    """Adds the definitions of custom resources."""
    files = [word for path in definitions() for word in ("-f", str(path))]
    applied = kubectl("apply", "--server-side", *files)
    if applied.returncode:
        raise ManifestError(applied.stderr)
    kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={SECONDS}s")


def definitions() -> Iterator[Path]:
    """Yields the files with the definitions, downloaded by Go."""
    for module, files in CRDS.items():
        command = ["go", "mod", "download", "-json", module]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir(), check=False)  # noqa: S603
        if done.returncode:
            raise ManifestError(f"{module}: {done.stdout}{done.stderr}")
        yield from sorted(Path(json.loads(done.stdout)["Dir"]).glob(files))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ManifestError as error:
        sys.exit(f"check-deploy: {error}")

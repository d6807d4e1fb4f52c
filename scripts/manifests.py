"""Builds the manifests in deploy/ with kustomize and Helm."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart"
ADAPTER = "kfadapter"
"""What the adapter is called: its Deployment, its container, its Service, its ConfigMap."""
KUBERNETES = "1.37"
"""The newest release that there are schemas of."""
BUILD_SECONDS = 60
CLONE = "../kfadapter-grpc"
"""Where the example of docs/deploy.md expects this repository."""

_IMAGE_VARIABLE = re.compile(r"^ +(KFADAPTER_[A-Z_]+)=(\S+)", re.MULTILINE)
_KUSTOMIZATION = re.compile(r"^ *```yaml\n( *# kustomization\.yaml\n.*?)^ *```$", re.DOTALL | re.MULTILINE)

Manifest = dict[str, Any]
"""One resource of Kubernetes."""


class ManifestError(Exception):
    """Manifests cannot be built; the message has the reason."""


def overlays() -> Iterator[str]:
    """Yields the names of the overlays."""
    yield from sorted(path.parent.name for path in DEPLOY.glob("overlays/*/kustomization.yaml"))


def components() -> Iterator[Path]:
    """Yields the folders of the components that can be added to an overlay."""
    for path in sorted(DEPLOY.rglob("kustomization.yaml")):
        if yaml.safe_load(path.read_text())["kind"] == "Component":
            yield path.parent


def build(overlay: str) -> list[Manifest]:
    """Builds an overlay.

    Raises:
        ManifestError: It cannot be built.
    """
    return _build(DEPLOY / "overlays" / overlay)


def build_with(*added: Path) -> list[Manifest]:
    """Builds the overlay for a single user with components added, as an installation outside this repository does.

    Raises:
        ManifestError: It cannot be built.
    """
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "kubeflow",
        "resources": [f"{CLONE}/deploy/overlays/single-user"],
        "components": [f"{CLONE}/{folder.relative_to(ROOT)}" for folder in added],
    }
    return build_text(yaml.safe_dump(kustomization))


def build_text(kustomization: str) -> list[Manifest]:
    """Builds a kustomization whose text names this repository as `../kfadapter-grpc`.

    Raises:
        ManifestError: It cannot be built.
    """
    with tempfile.TemporaryDirectory(prefix="kfadapter-deploy-") as name:
        folder = Path(name).resolve()
        text = kustomization.replace(CLONE, os.path.relpath(ROOT, folder))
        (folder / "kustomization.yaml").write_text(text)
        return _build(folder)


def chart(namespace: str, *arguments: str, release: str = ADAPTER) -> list[Manifest]:
    """Builds the Helm chart; `arguments` choose the values.

    Raises:
        ManifestError: It cannot be built.
    """
    where = ("--namespace", namespace, "--kube-version", KUBERNETES)
    return list(filter(None, yaml.safe_load_all(run("helm", "template", release, str(CHART), *where, *arguments))))


def examples() -> list[str]:
    """Finds the kustomizations that docs/deploy.md shows."""
    text = (ROOT / "docs" / "deploy.md").read_text()
    return [textwrap.dedent(block) for block in _KUSTOMIZATION.findall(text)]


def one(manifests: list[Manifest], kind: str, name: str = ADAPTER) -> Manifest:
    """Returns the only manifest of a kind and a name, to which kustomize may have added a hash.

    Raises:
        ManifestError: None matches, or several do.
    """
    named = re.compile(re.escape(name) + r"(-[a-z0-9]{10})?" * (kind in ("ConfigMap", "Secret")))
    found = [one for one in manifests if one["kind"] == kind and named.fullmatch(one["metadata"]["name"])]
    if len(found) != 1:
        raise ManifestError(f"there are {len(found)} {kind} '{name}', not one")
    return found[0]


def variables(manifests: list[Manifest]) -> Mapping[str, str]:
    """Returns the environment variables of the adapter, besides those of its image.

    Raises:
        ManifestError: No ConfigMap matches, or several do.
    """
    data: dict[str, str] = one(manifests, "ConfigMap")["data"]
    return data


def image_variables() -> dict[str, str]:
    """The adapter's environment variables set by the Dockerfile."""
    return dict(_IMAGE_VARIABLE.findall((ROOT / "Dockerfile").read_text()))


def run(program: str, *arguments: str) -> str:
    """Runs a pinned program; returns its output.

    Raises:
        ManifestError: It cannot be installed, or fails.
    """
    here = {**os.environ, "HELM_CONFIG_HOME": "/nonexistent"}  # no settings of the user
    found = subprocess.run([ROOT / "scripts" / program], capture_output=True, text=True, check=False)  # noqa: S603
    if found.returncode:
        raise ManifestError(found.stderr.strip())
    command = [found.stdout.strip(), *arguments]
    done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)  # noqa: S603
    if done.returncode:
        raise ManifestError(f"{program} {' '.join(arguments)}: {done.stdout}{done.stderr}".strip())
    return done.stdout


def _build(folder: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(run("kustomize", "build", str(folder))))

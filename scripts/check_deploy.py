"""Validates what kustomize builds from deploy/ against complete schemas; called by scripts/check-deploy."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING

import kubernetes_validate
import pydantic
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from scripts import manifests
from scripts.manifests import Manifest, ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator

KUBERNETES = ("1.29", manifests.KUBERNETES)
"""The oldest release that we support, and the newest that there are schemas of."""
PROMETHEUS_OPERATOR = "monitoring.coreos.com/v1"
"""The API version whose resources are no part of Kubernetes."""
WITHOUT_SCHEMA = ("cert-manager.io", "gateway.networking.k8s.io", "security.istio.io")
"""API groups of which only the API server has schemas: `--cluster`."""
UNKNOWN = "fieldThatNobodyKnows"


def main() -> int:
    """Checks all installations; returns the exit code."""
    mistakes, kinds = [], set()
    try:
        for name, made in installations():
            for manifest in (one for one in made if not one["apiVersion"].startswith(WITHOUT_SCHEMA)):
                found = list(mistakes_in(manifest))
                if not found and manifest["kind"] not in kinds:
                    kinds.add(manifest["kind"])
                    found = list(laxness_towards(manifest))
                mistakes += [f"{name}: {line}" for line in found]
    except ManifestError as error:
        mistakes.append(str(error))
    sys.stderr.writelines(f"check-deploy: {line}\n" for line in mistakes)
    if not mistakes:
        releases = " and ".join(KUBERNETES)
        sys.stdout.write(f"deploy: {', '.join(sorted(kinds))} are as Kubernetes {releases} want them\n")
    return bool(mistakes)


def installations() -> Iterator[tuple[str, list[Manifest]]]:
    """Yields, by name, each overlay, one with all components, and the examples of the documentation."""
    for overlay in manifests.overlays():
        yield f"overlays/{overlay}", manifests.build(overlay)
    yield "single-user with all components", manifests.build_with(*manifests.components())
    for number, text in enumerate(manifests.examples(), start=1):
        yield f"example {number} of docs/deploy.md", manifests.build_text(text)


def mistakes_in(manifest: Manifest) -> Iterator[str]:
    """Yields a line for each error: a field that is missing, of the wrong type, or unknown."""
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    if manifest["apiVersion"] == PROMETHEUS_OPERATOR:
        fault = _prometheus_operator_fault(manifest)
        if fault:
            yield f"{name}: {fault}"
        return
    for release in KUBERNETES:
        try:
            kubernetes_validate.validate(manifest, release, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{name}, Kubernetes {release}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{name}: {error.message}"


def laxness_towards(manifest: Manifest) -> Iterator[str]:
    """Yields a line for each position where an unknown field would pass: then the check itself is broken."""
    for place in ("metadata", "spec"):
        broken = copy.deepcopy(manifest)
        if place in broken:
            broken[place][UNKNOWN] = True
            if not list(mistakes_in(broken)):
                yield f"{manifest['kind']}: an unknown field in its {place} is not noticed"


def _prometheus_operator_fault(manifest: Manifest) -> str:
    """Returns the errors of one of its resources. Its models ignore unknown fields, so these get lost."""
    model = getattr(prometheus_operator, manifest["kind"])
    try:
        kept = model.model_validate(manifest).model_dump(mode="json", by_alias=True, exclude_unset=True)
    except pydantic.ValidationError as error:
        return str(error)
    return "" if kept == manifest else f"fields that are not known: only this is: {kept}"


if __name__ == "__main__":
    sys.exit(main())

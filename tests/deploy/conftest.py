"""What kustomize builds from deploy/, for every test that requests it."""

from __future__ import annotations

import functools
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from scripts import manifests
from scripts.manifests import ADAPTER, ROOT, Manifest

from kfadapter_grpc.setting_sources import PREFIX
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EVERYTHING = "single-user with all components"


@dataclass(frozen=True)
class Installation:
    """The manifests of one `kubectl apply -k`."""

    name: str
    made: list[Manifest]

    def one(self, kind: str) -> Manifest:
        """Its manifest of a kind, with the adapter's name."""
        return manifests.one(self.made, kind)

    def all(self, kind: str) -> list[Manifest]:
        """All its manifests of a kind."""
        return [manifest for manifest in self.made if manifest["kind"] == kind]

    @property
    def services(self) -> list[Manifest]:
        """The Services of the adapter's pods."""
        return [one for one in self.all("Service") if one["metadata"]["name"] != "kfadapter-console"]

    @property
    def pod(self) -> dict[str, Any]:
        """The spec of its pods."""
        spec: dict[str, Any] = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All containers of a pod."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def adapter(self) -> dict[str, Any]:
        """The adapter's container."""
        (container,) = [one for one in self.containers if one["name"] == ADAPTER]
        return container

    @property
    def ports(self) -> dict[str, int]:
        """The ports of the containers, by name."""
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", [])}

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of the adapter: from the image, and from the manifests."""
        return {**manifests.image_variables(), **manifests.variables(self.made)}

    def setting(self, name: str) -> str:
        """The value of a setting, or its default."""
        return self.environment.get(PREFIX + name.upper()) or str(getattr(Settings(), name))

    def port_of(self, name: str) -> int:
        """The port of a setting that is an address; 0 if it has none."""
        return int(self.setting(name).rpartition(":")[2] or 0)


@functools.cache
def installation(name: str) -> Installation:
    """Builds an installation by its name."""
    if name == EVERYTHING:
        return Installation(name, manifests.build_with(*manifests.components()))
    if name.startswith("example"):
        return Installation(name, manifests.build_text(manifests.examples()[int(name.split()[1])]))
    return Installation(name, manifests.build(name))


def names() -> Iterator[str]:
    """Yields the names of all installations."""
    yield from manifests.overlays()
    yield EVERYTHING
    yield from (f"example {number}" for number in range(len(manifests.examples())))


@pytest.fixture(scope="session")
def kustomize() -> None:
    """Provides the pinned kustomize; if it cannot be installed, tests that need it are skipped, in CI they fail."""
    provide("kustomize")


@pytest.fixture(scope="session")
def helm() -> None:
    """Provides the pinned helm, likewise."""
    provide("helm")


def provide(tool: str) -> None:
    """Installs a pinned program, or skips."""
    found = subprocess.run([ROOT / "scripts" / tool], capture_output=True, text=True, check=False)
    if found.returncode != 0 and not os.environ.get("CI"):
        pytest.skip(found.stderr.strip())
    assert found.returncode == 0, found.stderr


@pytest.fixture(params=list(names()))
def installed(request: pytest.FixtureRequest, kustomize: None) -> Installation:
    """Each installation."""
    del kustomize
    return installation(request.param)


@pytest.fixture
def everything(kustomize: None) -> Installation:
    """The installation with all components."""
    del kustomize
    return installation(EVERYTHING)

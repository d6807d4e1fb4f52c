"""An adapter that runs with the environment of an installation, including files."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from scripts.manifests import DEPLOY
from tests.certificates import CertificateAuthority
from tests.contract.tokens import TOKENS, token_lines
from tests.deploy.conftest import EVERYTHING, installation

from kfadapter_grpc.client import Client, HealthStatus, Tls, UnauthenticatedError
from kfadapter_grpc.setting_checks import SERVICE_ACCOUNT_TOKEN, SERVICE_ACCOUNT_TOKEN_VARIABLE
from kfadapter_grpc.setting_sources import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.deploy.conftest import Installation

PROGRAM = str(Path(sys.executable).parent / "kfadapter")
SECONDS = 60
ADDRESS = re.compile(r"[\d.]+:(\d+)")


@pytest.mark.slow
def test_single_user(tmp_path: Path, embedded_url: str, kustomize: None) -> None:
    """Without TLS probes and calls are served at one address, without authentication; on SIGTERM it exits with 0."""
    del kustomize
    installed = installation("single-user")
    with serving(installed, tmp_path, embedded_url) as (process, target):
        with Client(target) as client:
            assert "Default" in {one.name for one in client.experiments.list()}
        process.terminate()
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("name", ["multi-user", EVERYTHING])
def test_with_tls(name: str, tmp_path: Path, embedded_url: str, kustomize: None) -> None:
    """With TLS, tokens and optionally client certificates probes succeed, calls need all, and clients find the name."""
    del kustomize
    installed, authority = installation(name), CertificateAuthority()
    mount(tmp_path, authority, *certificate_names(installed))
    certificate, key = authority.issue("training-manager").write(tmp_path, "caller")
    tls = Tls(ca=authority.write(tmp_path), certificate=certificate, key=key)
    with serving(installed, tmp_path, embedded_url) as (_, target):
        with Client(target, tls=tls) as nobody, pytest.raises(UnauthenticatedError):
            next(nobody.pipelines.list())
        with Client(target, tls=tls, token=TOKENS["reader"]) as client:
            assert "Default" in {one.name for one in client.experiments.list()}
        for host in hosts_called(installed):
            with Client(target, tls=replace(tls, server_name=host)) as client:
                assert client.health() is HealthStatus.SERVING


def certificate_names(installed: Installation) -> list[str]:
    """The names of the certificate: those of its Certificate, or one that the test has made."""
    for one in installed.all("Certificate"):
        return [*one["spec"]["dnsNames"], *one["spec"]["ipAddresses"]]
    return ["127.0.0.1"]


def hosts_called(installed: Installation) -> set[str]:
    """The hosts by which notifier, page and gateway call the adapter."""
    targets = (one["data"].get("KFADAPTER_TARGET", "") for one in installed.all("ConfigMap"))
    return {target.rpartition(":")[0] for target in targets if target}


def mount(folder: Path, authority: CertificateAuthority, *names: str) -> None:
    """Mounts Secrets and ConfigMaps as Kubernetes does: files are links into a folder that is replaced as a whole."""
    pair = authority.issue(*names)
    contents = {
        "tls": {"tls.crt": pair.certificate, "tls.key": pair.key},
        "client-ca": {"ca.crt": authority.certificate},
        "tokens": {"tokens": token_lines("reader").encode()},
        "issuers": {"issuers.toml": b'[[issuers]]\nissuer = "https://login.example"\naudiences = ["kfadapter"]\n'},
        "access-rules": {"rules.yaml": b'rules: [{match: everyone, grants: {"*": reader}}]'},
        "artifact-stores": {"stores.yaml": (DEPLOY / "components" / "artifact-stores" / "stores.yaml").read_bytes()},
    }
    volumes = {folder / "etc" / "kfadapter" / name: files for name, files in contents.items()}
    volumes[token_of_service_account(folder).parent] = {SERVICE_ACCOUNT_TOKEN.name: b"a-token-for-kfp"}
    for volume, files in volumes.items():
        (volume / "..now").mkdir(parents=True)
        (volume / "..data").symlink_to("..now")
        for file, content in files.items():
            (volume / "..now" / file).write_bytes(content)
            (volume / file).symlink_to(f"..data/{file}")


def token_of_service_account(root: Path) -> Path:
    """The path of the service account token."""
    return root / SERVICE_ACCOUNT_TOKEN.relative_to("/")


def free_addresses(installed: Installation) -> dict[str, str]:
    """A free address on this machine for each port of the container."""
    ports = [found[1] for value in installed.environment.values() if (found := ADDRESS.fullmatch(value))]
    with ExitStack() as probes:
        return {port: _free(probes.enter_context(socket.socket())) for port in ports}


def _free(probe: socket.socket) -> str:
    probe.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{probe.getsockname()[1]}"


def environment(installed: Installation, addresses: Mapping[str, str], root: Path, kfp_url: str) -> dict[str, str]:
    """The environment of the adapter's container, with addresses and files on this machine."""
    here = {}
    for name, value in installed.environment.items():
        if name.startswith(PREFIX):
            found = ADDRESS.fullmatch(value)
            here[name] = addresses[found[1]] if found else f"{root}{value}" if value.startswith("/etc/") else value
    return {
        **here,
        "KFADAPTER_KFP_URL": kfp_url,
        "KFADAPTER_UPLOAD_DIR": str(root),
        SERVICE_ACCOUNT_TOKEN_VARIABLE: str(token_of_service_account(root)),
    }


@contextmanager
def serving(installed: Installation, root: Path, kfp_url: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Runs the adapter's command; yields it, and the address for calls, once it is ready."""
    addresses = free_addresses(installed)
    probed = addresses[str(installed.adapter["readinessProbe"]["grpc"]["port"])]
    variables = environment(installed, addresses, root, kfp_url)
    with subprocess.Popen([PROGRAM, "serve"], env=variables, stdin=subprocess.DEVNULL) as process:
        try:
            with grpc.insecure_channel(probed) as channel:
                grpc.channel_ready_future(channel).result(SECONDS)
            with Client(probed) as client:
                assert client.health() is HealthStatus.SERVING
            yield process, addresses[str(installed.ports["grpc"])]
        finally:
            process.kill()

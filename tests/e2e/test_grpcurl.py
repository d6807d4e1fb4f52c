"""The adapter as users of grpcurl see it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import SECONDS

from kfadapter_grpc.methods import METHODS, SERVICES

if TYPE_CHECKING:
    from tests.e2e.conftest import Adapter

SERVICE = SERVICES[0]


def run(grpcurl: str, adapter: Adapter, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs grpcurl, with the address in place of `TARGET`."""
    words = [adapter.target if word == "TARGET" else word for word in arguments]
    return subprocess.run(
        [grpcurl, "-plaintext", *words], input=stdin, capture_output=True, timeout=SECONDS, check=False
    )


def answer(grpcurl: str, adapter: Adapter, method: str, request: str) -> dict[str, object]:
    """Makes a call that must succeed."""
    done = run(grpcurl, adapter, "-d", request, "TARGET", f"{SERVICE}/{method}")
    assert done.returncode == 0, done.stderr
    parsed: dict[str, object] = json.loads(done.stdout)
    return parsed


def test_list_shows_the_services(grpcurl: str, adapter: Adapter) -> None:
    """Reflection lists our services, with all of their methods, and health."""
    listed = run(grpcurl, adapter, "TARGET", "list").stdout.decode().split()
    assert {*SERVICES, "grpc.health.v1.Health"} <= set(listed)
    found = [run(grpcurl, adapter, "TARGET", "list", service).stdout.decode().split() for service in SERVICES]
    methods = [method for of_service in found for method in of_service]
    assert sorted(methods) == sorted(path.strip("/").replace("/", ".") for path in METHODS)


def test_describe_shows_service_and_message(grpcurl: str, adapter: Adapter) -> None:
    """A service with its methods, a message with its fields."""
    service = run(grpcurl, adapter, "TARGET", "describe", SERVICE).stdout.decode()
    assert "rpc Upload ( stream .kfadapter.v1.UploadPipelineRequest )" in service
    message = run(grpcurl, adapter, "TARGET", "describe", "kfadapter.v1.GetPipelineRequest").stdout.decode()
    assert "oneof pipeline {" in message
    assert "string name = 2;" in message


def test_upload_from_stdin_then_get_and_list_versions(grpcurl: str, adapter: Adapter, name: str) -> None:
    """What `kfadapter payload` prints is an upload; Get and ListVersions show it."""
    stream = adapter.run("payload", "examples/train.yaml", "--name", name).stdout
    done = run(grpcurl, adapter, "-d", "@", "TARGET", f"{SERVICE}/Upload", stdin=stream)
    assert done.returncode == 0, done.stderr
    uploaded = json.loads(done.stdout)
    assert (uploaded["pipeline_created"], uploaded["pipeline"]["name"]) == (True, name)
    full = answer(grpcurl, adapter, "Get", json.dumps({"name": name, "view": "VIEW_FULL"}))
    assert full["version_count"] == 1
    listed = answer(grpcurl, adapter, "ListVersions", json.dumps({"name": name}))
    assert [version["name"] for version in listed["versions"]] == [name]  # type: ignore[attr-defined]


def test_an_upload_typed_by_hand(grpcurl: str, adapter: Adapter, name: str) -> None:
    """Two messages in a row are a stream."""
    chunk = "cGlwZWxpbmVJbmZvOiB7bmFtZTogeH0K"  # pipelineInfo: {name: x}
    typed = f'{{"metadata":{{"name":"{name}"}}}} {{"chunk":"{chunk}"}}'
    done = run(grpcurl, adapter, "-d", typed, "TARGET", f"{SERVICE}/Upload")
    assert b"INVALID_PIPELINE_FILE" in done.stderr
    assert b"rejects the file as a pipeline" in done.stderr


def test_an_update(grpcurl: str, adapter: Adapter, name: str) -> None:
    """Fields that are set are updated; a mask also clears."""
    assert adapter.run("upload", "examples/train.yaml", "--name", name, "--tag", "team=ml").returncode == 0
    made = answer(grpcurl, adapter, "Update", json.dumps({"name": name, "display_name": "학습"}))
    assert (made["display_name"], made["tags"]) == ("학습", {"team": "ml"})
    wanted = {"name": name, "version_name": name, "update_mask": {"paths": ["tags"]}}
    version = answer(grpcurl, adapter, "UpdateVersion", json.dumps(wanted))
    assert ("tags" in version, "sha256" in version, version["display_name"]) == (False, True, name)


def test_an_error_shows_its_reason(grpcurl: str, adapter: Adapter, name: str) -> None:
    """Code, message, ErrorInfo, ResourceInfo and request id are shown without any proto file."""
    done = run(
        grpcurl, adapter, "-H", "x-request-id: my-id-1", "-d", json.dumps({"name": name}), "TARGET", f"{SERVICE}/Get"
    )
    output = done.stderr.decode()
    assert done.returncode != 0
    for part in ("NotFound", "PIPELINE_NOT_FOUND", "google.rpc.ResourceInfo", '"request_id": "my-id-1"', name):
        assert part in output


@pytest.mark.parametrize("service", ["", "kfp", SERVICE])
def test_health_check(grpcurl: str, adapter: Adapter, service: str) -> None:
    """The server, its service and KFP are SERVING."""
    done = run(grpcurl, adapter, "-d", json.dumps({"service": service}), "TARGET", "grpc.health.v1.Health/Check")
    assert json.loads(done.stdout) == {"status": "SERVING"}, done.stderr

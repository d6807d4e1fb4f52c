"""Artifacts in object stores, with a fake store that fails in every way; the behavior of S3 is in test_s3."""

from __future__ import annotations

import json
import resource
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs
from tests.artifact_reading import read, unpacked
from tests.object_store import ObjectStore, Stored

from kfadapter_grpc.contract.artifacts import MAX_ENTRIES, ReadArtifactRequest
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import (
    AdapterError,
    ArtifactChangedError,
    ArtifactNotFoundError,
    ArtifactNotReadableError,
    ArtifactStoreUnavailableError,
    CallCancelledError,
    InvalidFieldError,
    KfpTimeoutError,
    OverloadedError,
)
from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.doctor import sources
from kfadapter_grpc.doctor.verdict import Status
from kfadapter_grpc.kfp import artifact_bytes, object_stores
from kfadapter_grpc.kfp.artifact_bytes import ArtifactBytes
from kfadapter_grpc.kfp.object_stores import ObjectStores
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "s3://models/v2"
SECRETS = ("AKIATHEKEY", "theverysecretkey")


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    """The fake store."""
    with ObjectStore() as store:
        yield store


@pytest.fixture
def settings(store: ObjectStore, tmp_path: Path) -> Path:
    """A file that allows one prefix of a bucket of it, for both providers, with credentials."""
    folder = tmp_path / "secrets" / "s3"
    folder.mkdir(parents=True)
    for name, value in zip(("accesskey", "secretkey"), SECRETS, strict=True):
        (folder / name).write_text(f"{value}\n")
    key = {
        "gcs_base_url": store.url,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    (folder / "key.json").write_text(json.dumps(key))
    s3 = {"secretRef": {"secretName": "s3"}}
    gs = {"secretRef": {"secretName": "s3", "tokenKey": "key.json"}}
    file = {
        "defaultPipelineRoot": ROOT,
        "readable": ["gs://models/v2"],
        "providers": {
            "s3": {"default": {"endpoint": store.url, "region": "us-east-1", "credentials": s3}},
            "gs": {"default": {"endpoint": store.url, "credentials": gs}},
        },
        "secrets": str(tmp_path / "secrets"),
    }
    path = tmp_path / "stores.json"
    path.write_text(json.dumps(file))
    return path


@pytest.fixture
def source(settings: Path) -> Iterator[ArtifactBytes]:
    """Reads from it."""
    source = ArtifactBytes(ObjectStores(settings))
    yield source
    source.close()


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_file(store: ObjectStore, source: ArtifactBytes, scheme: str) -> None:
    """A file is returned with its name, size, media type and bytes, also in part."""
    store.put("models/v2/한글/보고서", b"0123456789" * 100_000, "text/csv; charset=utf-8")
    content, data = read(source, f"{scheme}://models/v2/한글/보고서")
    assert (content.name, content.size, content.media_type) == ("보고서", 1_000_000, "text/csv")
    assert content.stored_at is not None
    assert data == b"0123456789" * 100_000
    assert read(source, f"{scheme}://models/v2/한글/보고서", offset=15, length=7)[1] == b"5678901"
    assert read(source, f"{scheme}://models/v2/한글/보고서", offset=1_000_000) == (content, b"")
    with pytest.raises(InvalidFieldError, match="1000000 bytes"):
        read(source, f"{scheme}://models/v2/한글/보고서", offset=1_000_001)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_folder(store: ObjectStore, source: ArtifactBytes, scheme: str) -> None:
    """A folder has the objects below `key/`, never those below `key2`; names are unchanged, markers are left out."""
    made = {"a.txt": b"a", "깊이/b #1?%20~.bin": b"b" * 300_000, "깊이/빈": b"", "x" * 200 + "/" + "y" * 200: b"y"}
    for name, data in made.items():
        store.put(f"models/v2/model/{name}", data)
    for name in ("model2", "model2/no", "model-no", "model/", "model/깊이/"):
        store.put(f"models/v2/{name}", b"")
    content, archive = read(source, f"{scheme}://models/v2/model")
    assert [(one.path, one.size) for one in content.entries] == sorted((name, len(data)) for name, data in made.items())
    assert (content.name, content.entry_count, content.is_directory) == ("model", 4, True)
    assert unpacked(archive) == made
    assert len(archive) % 10_240 == 0
    assert read(source, f"{scheme}://models/v2/model", path="깊이/b #1?%20~.bin")[1] == made["깊이/b #1?%20~.bin"]
    assert read(source, f"{scheme}://models/v2/model", length=700)[1] == archive[:700]
    with pytest.raises(InvalidFieldError, match="must be 0 for a folder"):
        read(source, f"{scheme}://models/v2/model", offset=1)


@pytest.mark.parametrize("path", ["../v1/secret", "a/../../../v1/secret", "/a", "a/", "a//b", ".", "a\0b"])
def test_paths_stay_inside(store: ObjectStore, source: ArtifactBytes, path: str) -> None:
    """A path that could lead out of the folder is never sent to the store."""
    store.put("models/v1/secret", b"secret")
    with pytest.raises(InvalidFieldError):
        read(source, f"{ROOT}/model", path=path)
    assert not store.requests


def test_nothing_stored(store: ObjectStore, source: ArtifactBytes) -> None:
    """A missing object, an endpoint without settings, metrics, and a missing file of a folder are reported."""
    store.put("models/v2/model/a", b"a")
    with pytest.raises(
        ArtifactNotFoundError, match=r"nothing is stored at 'v2/gone' .* wrote nothing, or it was deleted"
    ):
        read(source, f"{ROOT}/gone")
    with pytest.raises(ArtifactNotFoundError, match=r"recorded for the store minio-service\.kubeflow:9000"):
        read(source, f"{ROOT}/gone", session='{"Params": {"endpoint": "minio-service.kubeflow:9000"}}')
    with pytest.raises(ArtifactNotReadableError, match=r"^artifact '[^']*' cannot be read: it consists of metrics"):
        read(source, f"{ROOT}/gone", kind="system.ClassificationMetrics")
    with pytest.raises(ArtifactNotFoundError, match="has no file 'b'"):
        read(source, f"{ROOT}/model", path="b")
    with pytest.raises(ArtifactNotFoundError, match="has no file 'b'; it is a single file"):
        read(source, f"{ROOT}/model/a", path="b")


def test_only_what_is_allowed(store: ObjectStore, source: ArtifactBytes) -> None:
    """Other buckets and prefixes are rejected without a request to the store."""
    store.put("models/v1/a", b"secret")
    for uri in ("s3://models/v1/a", "s3://models/v22/a", "s3://other/v2/a", "minio://models/v2/a", "oci://models/v2/a"):
        with pytest.raises(ArtifactNotReadableError):
            read(source, uri)
    with pytest.raises(ArtifactNotReadableError, match="set artifact_stores"):
        read(ArtifactBytes(), "s3://models/v2/a")
    assert not store.requests


def test_denied(store: ObjectStore, source: ArtifactBytes) -> None:
    """Rejected credentials are the operator's to correct, and are not shown."""
    store.denied = True
    with capture_logs() as logs, pytest.raises(ArtifactNotReadableError, match="denied access") as error:
        read(source, f"{ROOT}/a")
    output = f"{error.value!r} {error.value.metadata} {logs}"
    assert not any(secret in output for secret in SECRETS)


def test_denied_listing(store: ObjectStore, source: ArtifactBytes) -> None:
    """If an object may be read but not listed, a missing one is not mistaken for an empty folder."""
    store.denied_listing = True
    with pytest.raises(ArtifactNotReadableError, match="the right to read and list"):
        read(source, f"{ROOT}/a")


def test_credentials_are_read_again(store: ObjectStore, source: ArtifactBytes, tmp_path: Path) -> None:
    """A changed Secret is used from the next read on; a missing one is an error without its content."""
    store.put("models/v2/a", b"a")
    read(source, f"{ROOT}/a")
    (tmp_path / "secrets" / "s3" / "accesskey").write_text("AKIAOTHER")
    read(source, f"{ROOT}/a")
    used = [one.headers["authorization"].partition("Credential=")[2].partition("/")[0] for one in store.requests]
    assert sorted(set(used)) == ["AKIAOTHER", SECRETS[0]]
    (tmp_path / "secrets" / "s3" / "secretkey").unlink()
    with pytest.raises(ArtifactNotReadableError, match="credentials cannot be read"):
        read(source, f"{ROOT}/a")


def test_the_file_is_read_again(store: ObjectStore, source: ArtifactBytes, settings: Path) -> None:
    """Changed settings apply from the next read on; an invalid file leaves the previous settings."""
    store.put("models/v3/a", b"a")
    with pytest.raises(ArtifactNotReadableError):
        read(source, "s3://models/v3/a")
    valid = settings.read_text()
    settings.write_text(valid.replace('"gs://models/v2"', '"s3://models/v3"'))
    assert read(source, "s3://models/v3/a")[1] == b"a"
    settings.write_text("[")
    assert read(source, "s3://models/v3/a")[1] == b"a"


def test_short_faults_are_repeated(store: ObjectStore, source: ArtifactBytes) -> None:
    """A store that is busy for a moment, and interrupted bodies, are retried successfully."""
    store.objects["models/v2/big"] = Stored(size=20_000_000)
    store.unavailable, store.cuts = 2, [7_000_000, 5_000_000, 3, 0, 2_000_000]
    content, data = read(source, f"{ROOT}/big")
    assert content.size == len(data) == 20_000_000
    assert data == b"".join(store.objects["models/v2/big"].pieces(0, 20_000_000))


def test_long_faults_are_reported(store: ObjectStore, source: ArtifactBytes, settings: Path) -> None:
    """A store that keeps failing, always interrupts bodies, or is unreachable is reported as unavailable."""
    store.objects["models/v2/big"] = Stored(size=20_000_000)
    store.cuts = [0] * 50
    with pytest.raises(ArtifactStoreUnavailableError):
        read(source, f"{ROOT}/big")
    store.unavailable = 50
    with pytest.raises(ArtifactStoreUnavailableError, match="HTTP 503"):
        read(source, f"{ROOT}/big")
    settings.write_text(settings.read_text().replace(store.url, "http://127.0.0.1:9"))
    with pytest.raises(ArtifactStoreUnavailableError, match="unreachable"):
        read(source, f"{ROOT}/big")


def test_a_store_that_stalls(store: ObjectStore, source: ArtifactBytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next chunk has a deadline, and so has the call."""
    store.objects["models/v2/big"] = Stored(size=20_000_000)
    store.stall_after = 5_000_000
    with pytest.raises(KfpTimeoutError):
        read(source, f"{ROOT}/big", call=Call("test", 0.5))
    monkeypatch.setattr(object_stores, "CHUNK_SECONDS", 0.5)
    with pytest.raises(ArtifactStoreUnavailableError, match="did not respond"):
        read(source, f"{ROOT}/big")


def test_a_caller_that_cancels(store: ObjectStore, source: ArtifactBytes) -> None:
    """A cancelled read ends at once, while the store still stalls, and so does its connection."""
    store.objects["models/v2/big"] = Stored(size=200_000_000)
    store.stall_after = 5_000_000
    call = Call("test", 30)
    timer = threading.Timer(0.2, call.cancel)
    with pytest.raises(CallCancelledError):
        read(source, f"{ROOT}/big", call=call, meanwhile=timer.start)
    store.resume.set()
    assert store.broken.wait(10)


@pytest.mark.parametrize("size", [20_000_000, 20_000_001])
def test_changed_while_read(store: ObjectStore, source: ArtifactBytes, size: int) -> None:
    """An object that is replaced during a read fails the read, and is not combined from two."""
    store.objects["models/v2/big"] = Stored(size=20_000_000, etag="one")
    store.changes["models/v2/big"] = Stored(size=size, etag="two")
    store.cuts = [5_000_000]
    with pytest.raises(ArtifactChangedError):
        read(source, f"{ROOT}/big")


def test_changed_in_a_folder(store: ObjectStore, source: ArtifactBytes) -> None:
    """A file that is replaced or deleted after the folder was listed fails the archive."""
    first, second = "models/v2/model/a", "models/v2/model/b"
    for change in (lambda: store.put(second, b"b2"), lambda: store.objects.pop(second)):
        store.objects = {first: Stored(size=2_000_000), second: Stored(b"b1")}
        with pytest.raises(ArtifactChangedError):
            read(source, f"{ROOT}/model", meanwhile=change)


def test_many_files(store: ObjectStore, source: ArtifactBytes) -> None:
    """The message names the first 10,000 files of a folder and counts them all."""
    store.objects = {f"models/v2/model/{number:05}": Stored(b"") for number in range(MAX_ENTRIES + 500)}
    content, archive = read(source, f"{ROOT}/model")
    assert (len(content.entries), content.entry_count) == (MAX_ENTRIES, MAX_ENTRIES + 500)
    assert len(unpacked(archive)) == MAX_ENTRIES + 500


def test_long_names(store: ObjectStore, source: ArtifactBytes) -> None:
    """Files with long names are only listed as far as they fit into a message."""
    store.objects = {f"models/v2/model/{number:04}{'이름/' * 120}": Stored(b"") for number in range(4000)}
    content, archive = read(source, f"{ROOT}/model")
    assert (2000 < len(content.entries) < 3000, content.entry_count) == (True, 4000)
    assert len(unpacked(archive)) == 4000


def test_at_once(store: ObjectStore, source: ArtifactBytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of concurrent reads is limited; one that has ended frees its slot."""
    monkeypatch.setattr(artifact_bytes, "MAX_READS", 1)
    store.objects["models/v2/big"] = Stored(size=2_000_000)
    with monkeypatch.context() as patched:
        patched.setattr(source, "_free", threading.BoundedSemaphore(1))
        with pytest.raises(OverloadedError):
            read(source, f"{ROOT}/big", meanwhile=lambda: read(source, f"{ROOT}/big"))
        assert read(source, f"{ROOT}/big")[0].size == 2_000_000


def test_what_html_is(store: ObjectStore, source: ArtifactBytes) -> None:
    """KFP's keys have no extension: the media type comes from the artifact's type, the store, or a file's name."""
    store.put("models/v2/report", b"<p>")
    store.put("models/v2/model/a.png", b"x")
    assert read(source, f"{ROOT}/report", kind="system.HTML")[0].media_type == "text/html"
    assert read(source, f"{ROOT}/report", kind="system.Markdown")[0].media_type == "text/markdown"
    assert read(source, f"{ROOT}/report")[0].media_type == "application/octet-stream"
    assert read(source, f"{ROOT}/model", path="a.png")[0].media_type == "image/png"


def test_errors_name_the_artifact(source: ArtifactBytes) -> None:
    """Every error names the artifact and its run."""
    with pytest.raises(AdapterError) as error:
        read(source, "s3://other/a")
    assert error.value.resource_name == "7"
    assert error.value.metadata == {"run_id": "r1", "artifact_id": "7"}
    assert error.value.message.startswith("artifact 'model' cannot be read: ")


@pytest.mark.slow
def test_a_gibibyte(store: ObjectStore, source: ArtifactBytes) -> None:
    """Reading 1 GiB takes no more memory than reading a little."""
    store.objects["models/v2/big"] = Stored(size=2**30)
    artifact = RunArtifact("system.Model", f"{ROOT}/big", artifact_id="7", name="model", run_id="r1")
    with source.read(artifact, ReadArtifactRequest("r1", "7"), Call("test", 100)) as parts:
        next(parts)
        begun, got = memory(), 0
        for part in parts:
            assert isinstance(part, bytes)
            got += len(part)
            assert memory() - begun < 32 * 2**20
    assert got == 2**30


def memory() -> int:
    """The memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# --- the doctor -----------------------------------------------------------------------------------------------------


def reported(**settings: object) -> dict[str, Status]:
    """What the doctor reports of the artifact stores."""
    return {found.what: found.status for found in sources.stores(Settings.load(config=None, **settings))}


def test_doctor(store: ObjectStore, settings: Path) -> None:
    """`doctor --server` has a row for each store, which checks the rights to read and to list."""
    assert list(reported().values()) == [Status.OK]
    assert "artifact_stores is unset" in next(iter(reported()))
    readable = {f"{place} can be read": Status.OK for place in (ROOT, "gs://models/v2")}
    assert reported(artifact_stores=settings) == readable
    store.denied_listing = True
    assert set(reported(artifact_stores=settings).values()) == {Status.WARNING}
    store.denied = True
    found = list(sources.stores(Settings.load(config=None, artifact_stores=settings)))
    assert found[0].what.startswith(f"{ROOT}: its store denied access to the adapter")
    assert "cannot be downloaded" in found[0].why
    assert str(settings) in str(found[0].next_step)
    assert not any(secret in str(found) for secret in SECRETS)

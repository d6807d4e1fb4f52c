"""Artifacts in S3 as moto implements it: signatures, listings, conditions and errors that the fake store lacks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import boto3
import pytest
from moto.server import ThreadedMotoServer
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tests.artifact_reading import read, unpacked

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import ArtifactChangedError, ArtifactNotFoundError, ArtifactNotReadableError
from kfadapter_grpc.kfp.artifact_bytes import ArtifactBytes
from kfadapter_grpc.kfp.object_stores import ObjectStores
from kfadapter_grpc.telemetry.traces import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

KEYS = ("minio", "minio123")
ROOT = "minio://mlpipeline/v2/artifacts"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where moto serves S3."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(url: str) -> Iterator[Any]:
    """A client of it; the bucket is created for each test."""
    keys = dict(zip(("aws_access_key_id", "aws_secret_access_key"), KEYS, strict=True))
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="mlpipeline")
    yield client
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="mlpipeline"):
        for one in page.get("Contents", []):
            client.delete_object(Bucket="mlpipeline", Key=one["Key"])
    client.close()


@pytest.fixture
def source(url: str, tmp_path: Path) -> Iterator[ArtifactBytes]:
    """An artifact source with KFP's own ConfigMap."""
    folder = tmp_path / "mlpipeline-minio-artifact"
    folder.mkdir()
    for name, value in zip(("accesskey", "secretkey"), KEYS, strict=True):
        (folder / name).write_text(value)
    default = {"endpoint": url, "region": "us-east-1", "credentials": {"secretRef": {"secretName": folder.name}}}
    path = tmp_path / "stores.json"
    file = {
        "defaultPipelineRoot": ROOT,
        "providers": {"minio": {"default": default}},
        "readable": ["minio://no-such-bucket"],
        "secrets": str(tmp_path),
    }
    path.write_text(json.dumps(file))
    source = ArtifactBytes(ObjectStores(path))
    yield source
    source.close()


def test_a_file(s3: Any, source: ArtifactBytes) -> None:  # noqa: ANN401  boto3 has no types
    """A file is read whole and in parts, with the media type that it was stored with."""
    s3.put_object(
        Bucket="mlpipeline", Key="v2/artifacts/학습/model", Body=b"0123456789" * 99_999, ContentType="text/csv"
    )
    content, data = read(source, f"{ROOT}/학습/model")
    assert (content.name, content.size, content.media_type) == ("model", 999_990, "text/csv")
    assert data == b"0123456789" * 99_999
    assert read(source, f"{ROOT}/학습/model", offset=999_985)[1] == b"56789"
    assert read(source, f"{ROOT}/학습/model", offset=3, length=4)[1] == b"3456"
    assert read(source, f"{ROOT}/학습/model", offset=999_990)[1] == b""


def test_spans(s3: Any, source: ArtifactBytes) -> None:  # noqa: ANN401
    """Each request for a traced call is a span, with bucket and key; a failed one has its error."""
    s3.put_object(Bucket="mlpipeline", Key="v2/artifacts/model", Body=b"0123456789")
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace = Trace(provider.get_tracer("test"), TraceContextTextMapPropagator(), Context())
    read(source, f"{ROOT}/model", call=Call("r", 10, trace=trace))
    with pytest.raises(ArtifactNotFoundError):
        read(source, f"{ROOT}/nothing", call=Call("r", 10, trace=trace))
    found = [(one.name, dict(one.attributes or {})) for one in spans.get_finished_spans()]
    of_model = {"kfadapter.bucket": "minio://mlpipeline", "kfadapter.key": "v2/artifacts/model"}
    assert found[:2] == [("HeadObject", of_model), ("GetObject", of_model)]
    name, attributes = found[2]
    assert (name, attributes["error.type"]) == ("HeadObject", "FileNotFoundError")


def test_an_empty_file(s3: Any, source: ArtifactBytes) -> None:  # noqa: ANN401
    """An artifact may be an empty file."""
    s3.put_object(Bucket="mlpipeline", Key="v2/artifacts/empty", Body=b"")
    content, data = read(source, f"{ROOT}/empty")
    assert (content.size, data) == (0, b"")


def test_a_folder(s3: Any, source: ArtifactBytes) -> None:  # noqa: ANN401
    """A folder is complete with more objects than a page of a listing, names in any characters, and a neighbor."""
    made = {f"{number:04}": b"" for number in range(1200)} | {"가 나/다+#%&=~.txt": "값".encode(), "é/e\u0301": b"x"}
    for name, data in made.items():
        s3.put_object(Bucket="mlpipeline", Key=f"v2/artifacts/data/{name}", Body=data)
    s3.put_object(Bucket="mlpipeline", Key="v2/artifacts/data2", Body=b"no")
    content, archive = read(source, f"{ROOT}/data")
    assert [one.path for one in content.entries] == sorted(made)
    assert unpacked(archive) == made
    assert read(source, f"{ROOT}/data", path="가 나/다+#%&=~.txt")[1] == "값".encode()


def test_changed(s3: Any, source: ArtifactBytes) -> None:  # noqa: ANN401
    """A file of a folder that is replaced after it was listed is not read."""
    for name in ("a", "b"):
        s3.put_object(Bucket="mlpipeline", Key=f"v2/artifacts/data/{name}", Body=name.encode() * 2_000_000)
    with pytest.raises(ArtifactChangedError):
        read(
            source,
            f"{ROOT}/data",
            meanwhile=lambda: s3.put_object(Bucket="mlpipeline", Key="v2/artifacts/data/b", Body=b"c" * 2_000_000),
        )


def test_missing(s3: Any, source: ArtifactBytes) -> None:  # noqa: ANN401
    """A missing object and a missing bucket are reported."""
    assert s3.list_buckets()["Buckets"]
    with pytest.raises(ArtifactNotFoundError, match="nothing is stored"):
        read(source, f"{ROOT}/gone")
    with pytest.raises(ArtifactNotReadableError, match="no bucket 'no-such-bucket'"):
        read(source, "minio://no-such-bucket/a")

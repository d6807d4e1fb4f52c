"""The file of object stores that the adapter may read: KFP's ConfigMap `kfp-launcher`, and two more keys."""

from __future__ import annotations

import json

import pytest

from kfadapter_grpc.contract.errors import ArtifactNotReadableError
from kfadapter_grpc.kfp.artifact_stores import (
    Credentials,
    Location,
    SecretRef,
    Store,
    choose,
    endpoint_of,
    read_store_entries,
)

FILE = """
defaultPipelineRoot: minio://mlpipeline/v2/artifacts
providers: |-
  minio:
    default:
      endpoint: seaweedfs.kubeflow:9000
      region: minio
      disableSSL: true
      credentials:
        fromEnv: false
        secretRef: {secretName: mlpipeline-minio-artifact, accessKeyKey: accesskey, secretKeyKey: secretkey}
  s3:
    default:
      region: eu-central-1
      disableSSL: true
      credentials: {fromEnv: true}
    Overrides:
      - {bucketName: models, keyPrefix: team-a/, endpoint: other.example:443, disableSSL: false}
      - {bucketName: models, keyPrefix: team-a/secret}
  gs:
    overrides:
      - bucketName: 데이터
        credentials: {fromEnv: false, secretRef: {secretName: gcs, tokenKey: key.json}}
readable:
  - s3://imports
secrets: /secrets
""".encode()


def test_the_config_map_of_kfp_is_read_as_it_is() -> None:
    """Root, defaults, overrides and Secrets mean what they mean to KFP; an override inherits the default."""
    places = {(one.scheme, one.bucket, one.prefix): one for one in read_store_entries(FILE)}
    assert set(places) == {
        ("minio", "mlpipeline", "v2/artifacts"),
        ("s3", "models", "team-a"),
        ("s3", "models", "team-a/secret"),
        ("gs", "데이터", ""),
        ("s3", "imports", ""),
    }
    root = places["minio", "mlpipeline", "v2/artifacts"]
    ref = SecretRef("mlpipeline-minio-artifact", "accesskey", "secretkey")
    assert root.store == Store("seaweedfs.kubeflow:9000", "minio", True, credentials=Credentials(secret_ref=ref))
    assert (root.store.url, root.secrets) == ("http://seaweedfs.kubeflow:9000", "/secrets")
    override = places["s3", "models", "team-a"].store
    assert (override.url, override.region) == ("https://other.example:443", "eu-central-1")
    assert override.credentials == Credentials(from_env=True)


def test_a_root_may_name_its_endpoint_in_its_query() -> None:
    """`s3://bucket/prefix?region=..&endpoint=..` is accepted, as by KFP."""
    [place] = read_store_entries(b'{"defaultPipelineRoot": "s3://b/q?region=us-west-2&endpoint=https://x.example"}')
    assert (place.bucket, place.prefix, place.store.url, place.store.region) == (
        "b",
        "q",
        "https://x.example",
        "us-west-2",
    )


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b"providers: [", "is no YAML"),
        (b"[]", "Expected `object`"),
        (b"defaultRoot: s3://b", "defaultRoot"),
        (b"defaultPipelineRoot: https://b/c", "does not begin with one of minio, s3, gs"),
        (b"defaultPipelineRoot: s3://", "and a bucket"),
        (b"providers: {azure: {}}", "'azure' is none of minio, s3, gs"),
        (b"providers: {s3: {overrides: [{keyPrefix: a}]}}", "bucketName is missing"),
        (b"defaultPipelineRoot: minio://b", "providers.minio: endpoint is missing"),
        (b"providers: {s3: {default: {credentials: {secretRef: {secretName: ../x}}}}}", "no name of a Secret"),
    ],
)
def test_mistakes_are_named(file: bytes, words: str) -> None:
    """An invalid file is rejected with a message that names the mistake."""
    with pytest.raises(ValueError, match=words):
        read_store_entries(file)


@pytest.mark.parametrize(
    "uri",
    [
        "minio://mlpipeline/v2/artifacts2/x",
        "minio://mlpipeline/other",
        "s3://mlpipeline/v2/artifacts/x",
        "minio://mlpipeline2/v2/artifacts/x",
        "s3://models/team-b/x",
    ],
)
def test_only_what_the_file_names_is_readable(uri: str) -> None:
    """Another bucket, another prefix, a longer name with the same beginning, and another scheme are rejected."""
    with pytest.raises(ArtifactNotReadableError, match=r"may not read .* in the file of the setting artifact_stores"):
        choose(read_store_entries(FILE), Location.of(uri), "")


@pytest.mark.parametrize(
    "uri",
    [
        "oci://registry/model",
        "https://example.org/a.csv",
        "http://169.254.169.254/latest",
        "mem://bucket/a",
        "/etc/passwd",
        "",
        "s3://bucket",
        "s3:///a",
        "s3://bucket/a/../../b",
        "s3://bucket//a",
    ],
)
def test_other_locations_are_refused(uri: str) -> None:
    """Registries, web pages and malformed locations are never opened."""
    with pytest.raises(ArtifactNotReadableError):
        Location.of(uri)


def test_the_longest_prefix_wins_unless_the_record_names_an_endpoint() -> None:
    """The longest prefix wins, unless the record names an endpoint: cached artifacts stay in their original store."""
    places, location = read_store_entries(FILE), Location.of("s3://models/team-a/secret/x")
    assert choose(places, location, "").prefix == "team-a/secret"
    session = json.dumps({"Provider": "s3", "Params": {"endpoint": "OTHER.example:443"}})
    assert choose(places, location, session).prefix == "team-a"
    assert choose(places, location, '{"Params": {"endpoint": "evil.example"}}').prefix == "team-a/secret"


@pytest.mark.parametrize(
    "session", ["mine", "[]", '{"Params": 1}', '{"Params": {"endpoint": ["[::"]}}', "{}", "\ud800"]
)
def test_a_record_may_hold_nonsense(session: str) -> None:
    """Metadata written by users may hold any value without an error."""
    assert endpoint_of(session) in ("", "['[::']")

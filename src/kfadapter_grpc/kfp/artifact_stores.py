"""Which object stores the adapter may read, and how: a file in the form of KFP's ConfigMap `kfp-launcher`.

What an artifact's record contains about its store is written by pods, so it never decides where credentials are sent:
endpoint and credentials come from this file alone, and only objects under a bucket and prefix that it names are read.
The record only chooses among several stores that have the same bucket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import msgspec
import yaml

from kfadapter_grpc.contract.errors import ArtifactNotReadableError

SCHEMES = ("minio", "s3", "gs")
"""The schemes of object stores: KFP's `minio` is S3, too."""
SECRETS = "/var/run/secrets/kfadapter"
"""Where Secrets are mounted, each in a folder with its name."""
_URI = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL | re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class SecretRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A Secret and its keys: two for S3, the JSON of a service account for Google's."""

    secret_name: str = ""
    access_key_key: str = "accesskey"
    secret_key_key: str = "secretkey"  # noqa: S105  the name of a key of a Secret
    token_key: str = ""

    def __post_init__(self) -> None:
        for name in (self.secret_name, self.access_key_key, self.secret_key_key, self.token_key or "-"):
            if not _NAME.fullmatch(name):
                raise ValueError(f"secretRef: {name!r} is no name of a Secret or of a key")


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The source of credentials; without a Secret, the identity of the pod, or the environment."""

    from_env: bool = False
    secret_ref: SecretRef | None = None


class Store(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How to reach a store; what an override leaves unset is as in the provider's default."""

    endpoint: str = ""
    region: str = ""
    disable_ssl: bool | None = msgspec.field(default=None, name="disableSSL")
    force_path_style: bool | None = None
    max_retries: int | None = None
    """Parsed but not used: the adapter has its own limits."""
    credentials: Credentials | None = None
    ca_file: str = ""
    """CAs for the endpoint's certificate, in addition to the usual ones. KFP has no such field."""

    @property
    def url(self) -> str:
        if not self.endpoint or "://" in self.endpoint:
            return self.endpoint.rstrip("/")
        return f"{'http' if self.disable_ssl else 'https'}://{self.endpoint.rstrip('/')}"


class _Override(Store, frozen=True, forbid_unknown_fields=True, rename="camel"):
    bucket_name: str = ""
    key_prefix: str = ""

    def over(self, default: Store) -> Store:
        own = {name: value for name in Store.__struct_fields__ if (value := getattr(self, name)) not in ("", None)}
        return msgspec.structs.replace(default, **own)


class _Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="lower"):
    default: Store = Store()
    overrides: tuple[_Override, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The file: the two keys of the ConfigMap and two of the adapter's own.

    Attributes:
        default_pipeline_root: Objects under it may be read.
        readable: Further URIs (`s3://bucket/prefix`) under which objects may be read.
        secrets: The folder in which Secrets are mounted, each in a folder with its name.
    """

    default_pipeline_root: str = ""
    providers: dict[str, _Provider] | str = {}
    readable: tuple[str, ...] = ()
    secrets: str = SECRETS


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """A bucket and prefix that may be read, and how.

    Attributes:
        prefix: Without slashes at its ends; empty for the whole bucket.
    """

    scheme: str
    bucket: str
    prefix: str
    store: Store
    secrets: str = SECRETS

    def contains(self, location: Location) -> bool:
        inside = not self.prefix or f"{location.key}/".startswith(f"{self.prefix}/")
        return (self.scheme, self.bucket) == (location.scheme, location.bucket) and inside


@dataclass(frozen=True, slots=True)
class Location:
    """The location of an artifact in an object store."""

    scheme: str
    bucket: str
    key: str

    @classmethod
    def of(cls, uri: str) -> Location:
        """Parses a URI as KFP writes them: without escapes."""
        scheme, rest = split_uri(uri)
        bucket, _, key = rest.partition("/")
        if scheme not in SCHEMES:
            schemes = ", ".join(f"{one}://" for one in SCHEMES)
            text = f"its location has the scheme {scheme}://, which the adapter does not read; it reads {schemes}"
            raise ArtifactNotReadableError(text if scheme else "its location is not a URI")
        if not bucket or not key or any(part in ("", ".", "..") for part in key.rstrip("/").split("/")):
            raise ArtifactNotReadableError("its location is malformed: it lacks bucket or key, or holds '..' or '//'")
        return cls(scheme, bucket, key.rstrip("/"))


def split_uri(uri: str) -> tuple[str, str]:
    """Splits a URI into its scheme and what follows the slashes; both empty if it is not a URI."""
    match = _URI.fullmatch(uri)
    return (match[1].lower(), match[2]) if match else ("", "")


StoreEntries: TypeAlias = "tuple[StoreEntry, ...]"


def read_store_entries(data: bytes) -> StoreEntries:
    """Reads the file; JSON is YAML, too. Raises ValueError with the reason if it is invalid."""
    try:
        file = msgspec.convert(_lower(yaml.safe_load(data)), _File)
        providers = file.providers
        if isinstance(providers, str):
            providers = msgspec.convert(_lower(yaml.safe_load(providers) or {}), dict[str, _Provider])
    except yaml.YAMLError as error:
        raise ValueError(f"is no YAML: {str(error).splitlines()[0]}") from None
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    if unknown := [name for name in providers if name not in SCHEMES]:
        raise ValueError(f"providers: {unknown[0]!r} is none of {', '.join(SCHEMES)}")
    entries = [
        StoreEntry(scheme, one.bucket_name, one.key_prefix.strip("/"), one.over(provider.default), file.secrets)
        for scheme, provider in providers.items()
        for one in provider.overrides
    ]
    if unnamed := [one for one in entries if not one.bucket]:
        raise ValueError(f"providers.{unnamed[0].scheme}.overrides: bucketName is missing")
    roots = [file.default_pipeline_root] if file.default_pipeline_root else []
    entries += [_root_entry(root, providers, file.secrets) for root in (*roots, *file.readable)]
    if any(one.scheme == "minio" and not one.store.endpoint for one in entries):
        raise ValueError("providers.minio: endpoint is missing")
    return tuple(entries)


def _lower(document: Any) -> Any:  # noqa: ANN401  a document of YAML
    """Renames `Overrides` to `overrides`: KFP, which reads JSON as Go does, accepts both."""
    if isinstance(document, dict):
        return {"overrides" if key == "Overrides" else key: _lower(value) for key, value in document.items()}
    return [_lower(item) for item in document] if isinstance(document, list) else document


def _root_entry(uri: str, providers: dict[str, _Provider], secrets: str) -> StoreEntry:
    scheme, rest = split_uri(uri)
    path, _, query = rest.partition("?")
    bucket, _, prefix = path.partition("/")
    if scheme not in SCHEMES or not bucket:
        raise ValueError(f"{uri!r} does not begin with one of {', '.join(SCHEMES)}, :// and a bucket")
    default = providers.get(scheme, _Provider()).default
    parameters = dict(parse_qsl(query))
    store = _Override(endpoint=parameters.get("endpoint", ""), region=parameters.get("region", "")).over(default)
    return StoreEntry(scheme, bucket, prefix.strip("/"), store, secrets)


def choose(entries: StoreEntries, location: Location, session: str) -> StoreEntry:
    """Finds the entry for a location: one with the record's endpoint first, then the one with the longest prefix.

    The record is ML Metadata's `store_session_info` as JSON, empty if there is none.
    """
    allowed = [entry for entry in entries if entry.contains(location)]
    if not allowed:
        raise ArtifactNotReadableError(
            f"the adapter may not read {location.scheme}://{location.bucket}/{location.key}; its operator can allow "
            "the bucket, or a prefix of it, in the file of the setting artifact_stores"
        )
    endpoint = endpoint_of(session)
    return max(
        allowed, key=lambda entry: (endpoint != "" and _host(entry.store.endpoint) == endpoint, len(entry.prefix))
    )


def endpoint_of(session: str) -> str:
    """Returns the endpoint in a session, HOST:PORT; empty if it has none. Sessions may contain anything users wrote."""
    try:
        decoded = msgspec.json.decode(session or b"{}", type=_Session)
    except (msgspec.DecodeError, UnicodeError):
        return ""
    return _host(str(decoded.params.get("endpoint") or ""))


def _host(endpoint: str) -> str:
    try:
        return urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").netloc.lower()
    except ValueError:
        return ""


class _Session(msgspec.Struct, rename="pascal"):
    params: dict[str, Any] = {}

"""The server's settings: from the environment, a TOML file and flags; the later wins."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from kfadapter_grpc.addresses import is_loopback, split_address
from kfadapter_grpc.auth.setting_checks import (
    CertificatePath,
    ClientCaPath,
    KeyPath,
    ReaderNames,
    TokenPath,
)
from kfadapter_grpc.kfp_access import (
    KfpCredentials,
    check_ca_file,
    check_client_certificate,
    check_credentials,
    check_token_file,
)
from kfadapter_grpc.settings_sources import (
    PREFIX,
    Sources,
    TomlFile,
    unknown_variables,
    variables_by_setting,
    what_to_do_instead,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

CONFIG_VARIABLE = PREFIX + "CONFIG"
"""Names the environment variable with the TOML file's path."""


class SettingsError(Exception):
    """The settings are wrong.

    Attributes:
        lines: One line for each mistake, all of them at once.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting, as documentation shows it; `default` is empty where the description tells it."""

    name: str
    variable: str
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """What a setting is, and who said so: a flag, the file, the environment, or nobody, so that it is the default."""

    name: str
    value: str
    origin: str


class _OldVariables(PydanticBaseSettingsSource):
    """The variables of the Flask adapter that this server replaces; anything else wins over them."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Finds the value of one field."""
        del field
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Finds all values: of `KUBEFLOW_HOST`, `KUBEFLOW_PORT` and `KF_NAMESPACE`."""
        values = {"namespace": os.environ.get("KF_NAMESPACE"), "kfp_url": self._kfp_url()}
        return {name: value for name, value in values.items() if value}

    @staticmethod
    def names() -> dict[str, str]:
        """The variable that gives a value, by the setting's name."""
        names = {"namespace": "KF_NAMESPACE", "kfp_url": "KUBEFLOW_HOST"}
        return {setting: variable for setting, variable in names.items() if os.environ.get(variable)}

    @staticmethod
    def _kfp_url() -> str | None:
        host, port = os.environ.get("KUBEFLOW_HOST"), os.environ.get("KUBEFLOW_PORT")
        if not host:
            return None
        return f"http://{host}:{port}/pipeline" if port else f"http://{host}/pipeline"


class Settings(BaseSettings):
    """What the server can be told. Immutable; make it with `load`.

    The environment names a setting in capitals behind `KFADAPTER_` (`KFADAPTER_LISTEN`), the TOML file as it is
    called here.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    listen: str = Field(
        default="127.0.0.1:50051",
        description="Address to serve gRPC on, HOST:PORT; port 0 takes a free one.",
    )
    tls_certificate: CertificatePath = Field(
        default=None,
        description="PEM file with the server's certificate, followed by those that lead to its CA. All files of "
        "certificates and tokens are read again when they change.",
    )
    tls_key: KeyPath = Field(
        default=None, validate_default=True, description="PEM file with the certificate's private key, not encrypted."
    )
    tls_client_ca: ClientCaPath = Field(
        default=None,
        description="PEM file with CAs. If set, only callers with a certificate of one of them can connect (mTLS).",
    )
    tls_client_names: str = Field(
        default="",
        description="Names in client certificates (DNS name, URI or common name) that may call, with commas in "
        "between; `*` stands for every name.",
    )
    tls_client_readers: ReaderNames = Field(
        default="",
        validate_default=True,
        description="Names in client certificates that may call, but only read; they need not be in tls_client_names.",
    )
    token_file: TokenPath = Field(
        default=None,
        description="File with the hashes of tokens, made by `kfadapter token`. If set, every call needs a token.",
    )
    health_listen: str = Field(
        default="",
        description="Address of a second listener without TLS that answers nothing but health checks, HOST:PORT: "
        "Kubernetes' gRPC probes know no TLS.",
    )
    insecure_listen: bool = Field(
        default=False,
        validate_default=True,
        description="Allows an address that others can reach without TLS, although calls and tokens can then be read "
        "and changed on their way.",
    )
    metrics_listen: str = Field(
        default="127.0.0.1:9090",
        description="Address to serve Prometheus metrics on, HOST:PORT; port 0 takes a free one, `off` serves none. "
        "Who can reach it learns numbers and names of RPCs, nothing of what they are about.",
    )
    kfp_url: str = Field(
        default="http://127.0.0.1:8888",
        description="Where Kubeflow Pipelines' REST API is; may have a path prefix. Without it, the old KUBEFLOW_HOST "
        "and KUBEFLOW_PORT make http://HOST:PORT/pipeline.",
    )
    kfp_credentials: KfpCredentials = Field(
        default="none",
        description="As whom KFP is asked: `none`; `token-file`, with the token in `kfp_token_file`; "
        "`service-account`, with the pod's token from /var/run/secrets/kubeflow/pipelines/token; `forward`, as each "
        "caller, whose `authorization` goes on to KFP.",
    )
    kfp_token_file: Path | None = Field(
        default=None,
        validate_default=True,
        description="File with a bearer token for KFP; read again when it changes.",
    )
    kfp_ca_file: Path | None = Field(
        default=None,
        description="Authorities, in PEM form, that KFP's certificate may come from; the usual ones if not set.",
    )
    kfp_client_certificate: Path | None = Field(
        default=None, description="Certificate to show to KFP, in PEM form, with the chain up to its authority."
    )
    kfp_client_key: Path | None = Field(
        default=None, validate_default=True, description="The key of `kfp_client_certificate`, not encrypted."
    )
    pod_logs: Literal["off", "auto"] = Field(
        default="auto",
        description="Whether to read logs of running tasks from the Kubernetes API: `auto` does in a pod with a "
        "service-account token, which needs `get` on pods/log (deploy/components/pod-logs); `off` asks KFP alone.",
    )
    namespace: str = Field(
        default="",
        description="Namespace of calls that name none; empty for a single-user KFP. Without it, the old KF_NAMESPACE.",
    )
    max_unary_calls: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Unary calls served at once. Of these and the next two, one caller gets three quarters at most.",
    )
    max_uploads: int = Field(default=16, ge=1, le=1_000, description="Uploads served at once.")
    max_streams: int = Field(default=256, ge=1, le=10_000, description="Streaming answers served at once.")
    max_upload_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1, description="Largest file taken, in bytes; 32 MiB is KFP's own limit."
    )
    upload_dir: Path | None = Field(
        default=None,
        description="Existing folder for files on their way, on a real disk; the system's temporary one if not set.",
    )
    grace_seconds: float = Field(
        default=25.0, ge=0, le=3_600, description="Seconds that running calls get to finish when the server stops."
    )
    drain_seconds: float = Field(
        default=0.0,
        ge=0,
        le=600,
        description="Seconds between NOT_SERVING and refusing calls; about 5 behind a Kubernetes Service, whose "
        "clients learn late of a leaving pod.",
    )
    ready_needs_kfp: bool = Field(
        default=False, description="Makes health of the services follow KFP; otherwise only the name `kfp` does."
    )
    log_format: Literal["console", "json"] = Field(
        default_factory=lambda: "console" if sys.stderr.isatty() else "json",
        description="How log lines look: for people or for machines. Console in a terminal, otherwise JSON.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important lines to log."
    )
    reflection: bool = Field(default=True, description="Lets grpcurl and others ask for the services' descriptors.")

    @classmethod
    def load(cls, *, config: Path | None = None, **flags: object) -> Settings:
        """Collects the settings.

        Args:
            config: The TOML file; without it, the one that `KFADAPTER_CONFIG` names.
            flags: Settings that win over all others; None stands for a flag that was not given.

        Raises:
            SettingsError: Something is wrong; it tells all mistakes.
        """
        return cls.load_traced(config=config, **flags)[0]

    @classmethod
    def load_traced(cls, *, config: Path | None = None, **flags: object) -> tuple[Settings, list[EffectiveSetting]]:
        """Collects the settings, as `load` does, and tells where each of them comes from.

        Raises:
            SettingsError: Something is wrong; it tells all mistakes, of all sources.
        """
        named = os.environ.get(CONFIG_VARIABLE)
        file = TomlFile.read(config or (Path(named) if named else None))
        sources = Sources(_given(flags), file, variables_by_setting(), _OldVariables.names())
        mistakes = [*file.mistakes, *unknown_variables(sources.variables, cls.model_fields)]
        try:
            settings = cls(**sources.values())
        except ValidationError as error:
            mistakes += [_line(mistake, sources) for mistake in error.errors()]
        if mistakes:
            raise SettingsError(*mistakes)
        return settings, [
            EffectiveSetting(name, _shown(getattr(settings, name)), sources.origin(name)) for name in cls.model_fields
        ]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Names the sources, the strongest first; the TOML file arrives through the constructor."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _OldVariables(settings_cls)

    @field_validator("listen", "health_listen")
    @classmethod
    def _check_listen(cls, listen: str, info: ValidationInfo) -> str:
        if listen or info.field_name == "listen":
            split_address(listen)
        return listen

    @field_validator("metrics_listen")
    @classmethod
    def _check_metrics_listen(cls, listen: str) -> str:
        if listen in ("", "off"):
            return ""
        split_address(listen)
        return listen

    @field_validator("insecure_listen")
    @classmethod
    def _check_insecure_listen(cls, allowed: bool, info: ValidationInfo) -> bool:
        listen = info.data.get("listen")
        certificate = info.data.get("tls_certificate", "wrong")  # where it is, which is told already
        if listen is not None and not (allowed or certificate or is_loopback(split_address(listen)[0])):
            what = "calls and their tokens" if info.data.get("token_file") else "calls"
            raise ValueError(
                f"others can reach {listen}, and without TLS {what} can be read and changed on their way; set "
                "tls_certificate and tls_key, listen on 127.0.0.1, or accept the risk with --insecure-listen"
            )
        return allowed

    @field_validator("kfp_url")
    @classmethod
    def _check_kfp_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must begin with http:// or https:// and a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not hold a user or a password")
        if parts.query or parts.fragment:
            raise ValueError("must end with the path, without ? and #")
        _ = parts.port  # raises ValueError, in words, for a port that is none
        return url.rstrip("/")

    @field_validator("kfp_credentials")
    @classmethod
    def _check_kfp_credentials(cls, credentials: KfpCredentials, info: ValidationInfo) -> KfpCredentials:
        check_credentials(credentials, info.data.get("kfp_url", ""), takes_tokens=bool(info.data.get("token_file")))
        return credentials

    @field_validator("kfp_token_file")
    @classmethod
    def _check_kfp_token_file(cls, token_file: Path | None, info: ValidationInfo) -> Path | None:
        if "kfp_credentials" in info.data:
            check_token_file(info.data["kfp_credentials"], token_file)
        return token_file

    @field_validator("kfp_ca_file")
    @classmethod
    def _check_kfp_ca_file(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if "kfp_url" in info.data:
            check_ca_file(path, info.data["kfp_url"])
        return path

    @field_validator("kfp_client_key")
    @classmethod
    def _check_kfp_client_key(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if "kfp_url" in info.data and "kfp_client_certificate" in info.data:
            check_client_certificate(info.data["kfp_client_certificate"], key, info.data["kfp_url"])
        return key

    @field_validator("upload_dir")
    @classmethod
    def _check_upload_dir(cls, folder: Path | None) -> Path | None:
        if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise ValueError(f"{folder} is not a folder that can be written to")
        return folder

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level


def setting_rows() -> Iterator[SettingRow]:
    """Yields every setting, as documentation shows it."""
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default is None else str(field.default)
        yield SettingRow(name, PREFIX + name.upper(), default, field.description or "")


def _given(flags: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _shown(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _line(mistake: ErrorDetails, sources: Sources) -> str:
    name = ".".join(map(str, mistake["loc"]))
    where = sources.where(str(mistake["loc"][0]))
    if mistake["type"] == "extra_forbidden":
        return f"{name} ({where}): unknown setting" + what_to_do_instead(name, Settings.model_fields)
    said = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] != "value_error":
        said = f"{said[0].lower()}{said[1:]}, not '{mistake['input']}'"
    return f"{name} ({where}): {said}"

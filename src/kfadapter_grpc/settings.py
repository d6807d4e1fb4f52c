"""The server's settings, each declared once: options, help, reference, TOML keys and variables follow from fields."""

import inspect
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import typer

from kfadapter_grpc.daemon import LogFormat, LogLevel
from kfadapter_grpc.setting_sources import (
    OTHER_VARIABLES,
    PREFIX,
    SIBLINGS,
    SettingsError,
    TomlFile,
    chained,
    declared,
    shown,
    unknown_names,
    unknown_variables,
    where,
)

if TYPE_CHECKING:
    from typing_extensions import Self

CONFIG_VARIABLE = PREFIX + "CONFIG"
_file = partial(typer.Option, metavar="FILE")
_address = partial(typer.Option, metavar="HOST:PORT")
_names = partial(typer.Option, metavar="NAMES")


class EffectiveSetting(NamedTuple):
    """The value of a setting, and its source: a flag, the file, the environment, or the default."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the server. Immutable; made by `load`.

    An annotation holds the type, the option with help and bounds, and what the reference adds to the help.
    """

    VARIABLES: ClassVar[str] = PREFIX

    listen: Annotated[str, _address(help="Address to listen on."), "Port 0 takes a free one."] = "127.0.0.1:50051"
    metrics_listen: Annotated[
        str,
        _address(help="Address of the metrics, or 'off'."),
        "Port 0 takes a free one. Metrics show counts and names of RPCs, nothing of their content.",
    ] = "127.0.0.1:9090"
    kfp_url: Annotated[
        str,
        typer.Option(metavar="URL", help="URL of Kubeflow Pipelines."),
        "May have a path prefix. If unset, the Flask adapter's KUBEFLOW_HOST and KUBEFLOW_PORT make "
        "`http://HOST:PORT/pipeline`.",
    ] = "http://127.0.0.1:8888"
    namespace: Annotated[
        str,
        typer.Option("--namespace", "-n", metavar="NAME", help="Default namespace."),
        "Empty for a single-user KFP. If unset, the Flask adapter's KF_NAMESPACE.",
    ] = ""
    tls_certificate: Annotated[
        Path | None,
        _file(help="The server's certificate: TLS."),
        "A PEM file, followed by the certificates that lead to its CA. Files with certificates and tokens are re-read "
        "when they change.",
    ] = None
    tls_key: Annotated[Path | None, _file(help="Private key of the certificate."), "A PEM file, not encrypted."] = None
    tls_client_ca: Annotated[
        Path | None, _file(help="CA of client certificates, which are then required (mTLS)."), "A PEM file."
    ] = None
    tls_client_names: Annotated[
        str,
        _names(help="Names in client certificates that may call, separated by commas; * for all."),
        "DNS names, URIs or common names.",
    ] = ""
    tls_client_readers: Annotated[
        str, _names(help="Names in client certificates that may only read."), "They need not be in `tls_client_names`."
    ] = ""
    tls_client_proxies: Annotated[
        str,
        _names(help="Names in client certificates of proxies, which send their callers' tokens."),
        "Beside any other certificate but those that `*` allows, a token must have the certificate's name.",
    ] = ""
    token_file: Annotated[
        Path | None,
        _file(help="Tokens of callers, which are then required."),
        "A file with hashes, made by `kfadapter token`.",
    ] = None
    issuers: Annotated[
        Path | None,
        _file(help="Issuers of signed tokens (OIDC, Kubernetes); a token is then required."),
        "TOML with `[[issuers]]` and `[token_review]` ([how](../security.md#signed-tokens)). It is re-read when it "
        "changes. A token of `token_file` is as good.",
    ] = None
    access_rules: Annotated[
        Path | None,
        _file(help="Rules: which caller may do what in which namespaces."),
        "A YAML file, see [security](../security.md#access-rules). It replaces the roles of tokens and certificates; "
        "a caller that no rule matches may do nothing. Re-read when it changes.",
    ] = None
    health_listen: Annotated[
        str,
        _address(help="Additional address for health checks without TLS."),
        "Kubernetes' gRPC probes cannot use TLS.",
    ] = ""
    channelz_listen: Annotated[
        str,
        _address(help="Loopback address for channelz."),
        "It shows connections, peers and counts of calls to every caller on this machine, for grpcdebug and grpcurl.",
    ] = ""
    insecure_listen: Annotated[
        bool,
        typer.Option("--insecure-listen", help="Allow an address that others can reach without TLS."),
        "Calls and tokens can then be read and changed in transit.",
    ] = False
    kfp_credentials: Annotated[
        Literal["none", "token-file", "service-account", "forward"],
        typer.Option(help="Credentials for KFP."),
        "`token-file`: the token in `kfp_token_file`; `service-account`: the pod's token in "
        "/var/run/secrets/kubeflow/pipelines/token; `forward`: the `authorization` of each caller.",
    ] = "none"
    kfp_token_file: Annotated[Path | None, _file(help="Bearer token for KFP."), "Re-read when it changes."] = None
    kfp_user_header: Annotated[
        str,
        typer.Option(metavar="NAME", help="Header with the caller's name for a multi-user KFP, as kubeflow-userid."),
        "The name is the authenticated one, never what a caller sends "
        "([how](../security.md#impersonation)). If unset, KFP sees the adapter's own user.",
    ] = ""
    kfp_user_prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="Precedes the name in that header."), "KFP's KUBEFLOW_USERID_PREFIX."
    ] = ""
    kfp_ca_file: Annotated[
        Path | None, _file(help="CAs of KFP's certificate."), "A PEM file; defaults to the well-known CAs."
    ] = None
    kfp_client_certificate: Annotated[
        Path | None, _file(help="Client certificate for KFP."), "A PEM file, with the chain up to its CA."
    ] = None
    kfp_client_key: Annotated[
        Path | None, _file(help="Private key of the client certificate."), "A PEM file, not encrypted."
    ] = None
    pod_logs: Annotated[
        Literal["off", "auto"],
        typer.Option(help="Read logs of running tasks from the Kubernetes API, if allowed."),
        "`auto`: in a pod whose service account has `get` on pods/log (deploy/components/pod-logs); `off`: from KFP "
        "only.",
    ] = "auto"
    mlmd_address: Annotated[
        str,
        _address(help="ML Metadata, for inputs, outputs and metrics of runs of KFP 2.5 to 2.17."),
        "KFP's `metadata-grpc-service`, port 8080 ([how](../deploy.md#outputs-of-tasks)). If unset, they are missing.",
    ] = ""
    mlmd_tls: Annotated[bool, typer.Option("--mlmd-tls", help="Use TLS towards ML Metadata.")] = False
    mlmd_ca: Annotated[
        Path | None,
        _file(help="CAs of ML Metadata's certificate."),
        "A PEM file, re-read when it changes; defaults to the well-known CAs.",
    ] = None
    artifact_stores: Annotated[
        Path | None,
        _file(help="Object stores from which artifacts are read."),
        "YAML in the form of KFP's ConfigMap `kfp-launcher` ([how](../deploy.md#artifacts)). It is re-read when it "
        "changes, and so are the credentials that it names. If unset, no object store is read.",
    ] = None
    artifact_folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of an embedded KFP from which artifacts are read."),
        "`kfadapter dev` sets it. If unset, no artifact that is a file of this machine is read.",
    ] = None
    max_unary_calls: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=10_000, help="Concurrency limit of unary calls."),
        "One caller gets at most three quarters of this limit and of the next two.",
    ] = 64
    max_uploads: Annotated[int, typer.Option(metavar="N", min=1, max=1_000, help="Concurrency limit of uploads.")] = 16
    max_streams: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000, help="Concurrency limit of server streams.")
    ] = 256
    max_upload_bytes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Maximum size of a file."), "In bytes; 32 MiB is KFP's own limit."
    ] = 32 * 1024 * 1024
    upload_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for uploads in progress, on a disk."),
        "It must exist; defaults to the system's temporary folder.",
    ] = None
    grace_seconds: Annotated[
        float,
        typer.Option(metavar="S", min=0, max=3_600, help="Grace period of calls in flight."),
        "In seconds, at shutdown.",
    ] = 25.0
    drain_seconds: Annotated[
        float,
        typer.Option(metavar="S", min=0, max=600, help="Time between NOT_SERVING and refusing calls."),
        "In seconds; about 5 behind a Kubernetes Service, whose clients are notified late that a pod stops.",
    ] = 0.0
    ready_needs_kfp: Annotated[
        bool,
        typer.Option("--ready-needs-kfp", help="Health of the services follows KFP."),
        "Otherwise only that of the name `kfp` does.",
    ] = False
    audit_log: Annotated[
        str,
        _file(help="Audit log: a file, 'stderr', 'stdout', or 'off'."),
        "JSON lines: who did what to which resource ([fields](../observability.md#audit-log)). A file that was moved "
        "is made anew.",
    ] = "off"
    audit_reads: Annotated[
        bool,
        typer.Option("--audit-reads", help="Record calls that only read in the audit log, too."),
        "Otherwise calls that change something, refused ones among them.",
    ] = False
    log_format: Annotated[
        LogFormat, typer.Option(help="Log format."), "Defaults to `console` in a terminal, otherwise to `json`."
    ] = field(default_factory=lambda: "console" if sys.stderr.isatty() else "json")
    log_level: Annotated[LogLevel, typer.Option(help="Log level.")] = "info"
    reflection: Annotated[
        bool,
        typer.Option("--reflection/--no-reflection", help="Serve gRPC reflection."),
        "grpcurl then needs no .proto files.",
    ] = True

    @classmethod
    def load(cls, *, config: Path | None = None, **flags: object) -> "Self":
        """Loads the settings; flags take precedence over the file, the file over the environment.

        The file defaults to the one in `KFADAPTER_CONFIG`; a flag of None was not given. Raises SettingsError with all
        mistakes.
        """
        return cls.load_traced(config=config, **flags)[0]

    @classmethod
    def load_traced(cls, *, config: Path | None = None, **flags: object) -> "tuple[Self, list[EffectiveSetting]]":
        """Loads the settings, as `load` does, with the source of each."""
        named = os.environ.get(CONFIG_VARIABLE)
        file = TomlFile.read(config or (Path(named) if named else None))
        chain = chained(flags, file, _old_variables())
        values: dict[str, Any] = {}
        sources, mistakes = {}, {}
        settings = declared(cls)
        for name, setting in settings.items():
            raw, sources[name] = chain.get(name, (None, "default"))
            try:
                values[name] = setting.default() if raw is None else setting.convert(raw)
            except ValueError as error:
                mistakes[name] = str(error)
        mistakes |= _failed_checks(values)
        lines = [*file.mistakes, *unknown_variables(PREFIX, {*settings, *OTHER_VARIABLES}, SIBLINGS)]
        lines += (f"{name} ({where(name, sources[name])}): {mistakes[name]}" for name in settings if name in mistakes)
        lines += unknown_names(chain, settings)
        if lines:
            raise SettingsError(*lines)
        values["kfp_url"] = values["kfp_url"].rstrip("/")
        return cls(**values), [EffectiveSetting(name, shown(value), sources[name]) for name, value in values.items()]


def _old_variables() -> dict[str, tuple[str, str]]:
    """The variables of the Flask adapter that are set, by the corresponding settings, with the values."""
    host, port, namespace = map(os.environ.get, ("KUBEFLOW_HOST", "KUBEFLOW_PORT", "KF_NAMESPACE"))
    old = {"namespace": ("KF_NAMESPACE", namespace)} if namespace else {}
    if host:
        old["kfp_url"] = "KUBEFLOW_HOST", f"http://{host}{f':{port}' if port else ''}/pipeline"
    return old


def _failed_checks(values: dict[str, Any]) -> dict[str, str]:
    """Removes the values that fail a check; returns why, by their names. Consequences of a mistake are not mistakes."""
    from kfadapter_grpc.setting_checks import CHECKS  # noqa: PLC0415  needs the extra `server`, as help does not

    mistakes = {}
    for check in CHECKS:
        names = list(inspect.signature(check).parameters)
        if values.keys() >= set(names):
            try:
                check(*(values[name] for name in names))
            except ValueError as error:
                mistakes[names[0]] = str(error)
                del values[names[0]]
    return mistakes

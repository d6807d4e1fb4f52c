"""The commands that start servers, ask whether they serve, and make tokens for their callers."""
# ruff: noqa: PLC0415  a command loads what it needs when it runs

from pathlib import Path
from typing import Annotated

import typer

from kfadapter_grpc.cli.choices import KfpCredentialsChoice, LogFormat, LogLevel, PodLogsChoice, Report, RoleChoice
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.streams import native_path


def serve(
    *,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where to listen [127.0.0.1:50051].")] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where Prometheus asks, or 'off' [127.0.0.1:9090].")
    ] = None,
    kfp_url: Annotated[str | None, typer.Option(metavar="URL", help="Where Kubeflow Pipelines is.")] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="For calls that name no namespace.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", parser=native_path, help="Settings in TOML.")] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="The server's certificate: TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", parser=native_path, help="Its private key.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="Only callers with its certificates: mTLS.")
    ] = None,
    tls_client_names: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Which of them may call, with commas in between; * for all.")
    ] = None,
    tls_client_readers: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Which of them may only read.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="Only callers with these tokens.")
    ] = None,
    health_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Answer health checks there without TLS, too.")
    ] = None,
    legacy_http: Annotated[
        int | None,
        typer.Option(metavar="PORT", hidden=True, help="Refused: the routes have their own command, legacy-http."),
    ] = None,
    kfp_credentials: Annotated[KfpCredentialsChoice | None, typer.Option(help="As whom KFP is asked.")] = None,
    kfp_token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="A bearer token for KFP.")
    ] = None,
    kfp_ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="Authorities of KFP's certificate.")
    ] = None,
    kfp_client_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="A certificate to show to KFP.")
    ] = None,
    kfp_client_key: Annotated[Path | None, typer.Option(metavar="FILE", parser=native_path, help="Its key.")] = None,
    pod_logs: Annotated[
        PodLogsChoice | None, typer.Option(help="Read logs of running tasks from the Kubernetes API, if allowed.")
    ] = None,
    insecure_listen: Annotated[
        bool | None, typer.Option("--insecure-listen", help="Allow an address that others can reach without TLS.")
    ] = None,
    max_unary_calls: Annotated[int | None, typer.Option(metavar="N", help="Unary calls at once.")] = None,
    max_uploads: Annotated[int | None, typer.Option(metavar="N", help="Uploads at once.")] = None,
    max_streams: Annotated[int | None, typer.Option(metavar="N", help="Streaming answers at once.")] = None,
    max_upload_bytes: Annotated[int | None, typer.Option(metavar="N", help="The largest file taken.")] = None,
    upload_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", parser=native_path, help="Where uploads wait, on a real disk.")
    ] = None,
    grace_seconds: Annotated[float | None, typer.Option(metavar="S", help="Running calls get at the end.")] = None,
    drain_seconds: Annotated[float | None, typer.Option(metavar="S", help="Between NOT_SERVING and refusing.")] = None,
    ready_needs_kfp: Annotated[
        bool | None, typer.Option("--ready-needs-kfp", help="Health of the services follows KFP.")
    ] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="How the log looks.")] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="How much is logged.")] = None,
    reflection: Annotated[
        bool | None, typer.Option("--reflection/--no-reflection", help="Let grpcurl ask for the services.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the settings: print them, or all that is wrong with them.")
    ] = False,
) -> None:
    """Start an adapter in front of a Kubeflow Pipelines.

    Every option can also be set as an environment variable (KFADAPTER_KFP_URL) or in a TOML file; options win.
    """
    from kfadapter_grpc.cli.commands import serve as command

    (command.check if check else command.serve)(
        config,
        listen=listen,
        metrics_listen=metrics_listen,
        kfp_url=kfp_url,
        namespace=namespace,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        tls_client_names=tls_client_names,
        tls_client_readers=tls_client_readers,
        token_file=token_file,
        health_listen=health_listen,
        legacy_http=legacy_http,
        kfp_credentials=kfp_credentials.value if kfp_credentials else None,
        kfp_token_file=kfp_token_file,
        kfp_ca_file=kfp_ca_file,
        kfp_client_certificate=kfp_client_certificate,
        kfp_client_key=kfp_client_key,
        pod_logs=pod_logs.value if pod_logs else None,
        insecure_listen=insecure_listen,
        max_unary_calls=max_unary_calls,
        max_uploads=max_uploads,
        max_streams=max_streams,
        max_upload_bytes=max_upload_bytes,
        upload_dir=upload_dir,
        grace_seconds=grace_seconds,
        drain_seconds=drain_seconds,
        ready_needs_kfp=ready_needs_kfp,
        log_format=log_format.value if log_format else None,
        log_level=log_level.value if log_level else None,
        reflection=reflection,
    )


def health(
    options: Annotated[ClientOptions, "target", "timeout"],
    service: Annotated[
        str,
        typer.Argument(metavar="SERVICE", help="A service's full name, or 'kfp'; the server itself if not given."),
    ] = "",
) -> None:
    """Ask an adapter whether it serves; for containers and scripts."""
    from kfadapter_grpc.cli.commands import health as command

    command.health(options, service)


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will bear it, as the adapter's log will name them.")],
    *,
    role: Annotated[RoleChoice, typer.Option(help="What they may do: read, or everything.")],
    expires: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The last day, in UTC; without it, it is valid for ever.")
    ] = None,
    add_to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=native_path, help="Add the line to this file instead of showing it."),
    ] = None,
) -> None:
    """Make a token for a caller: itself on stdout, the line for the adapter's --token-file on stderr."""
    from kfadapter_grpc.cli.commands import token as command

    command.token(name, role.value, expires, add_to)


def doctor(
    options: ClientOptions,
    *,
    server: Annotated[
        bool, typer.Option("--server", help="Check the adapter's own end, where it runs: settings, disk, port, KFP.")
    ] = False,
    write_probes: Annotated[
        bool,
        typer.Option("--write-probes", help="With --server: also make a pipeline and a run in KFP, and delete them."),
    ] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="With --server: settings in TOML.")
    ] = None,
    kfp_url: Annotated[
        str | None, typer.Option(metavar="URL", help="With --server: where Kubeflow Pipelines is.")
    ] = None,
    output: Annotated[Report, typer.Option("--output", "-o", help="How to print.")] = Report.TABLE,
) -> None:
    """Check a set-up, and say what to do: an adapter, from here, or the server's end.

    The exit code is 0 if nothing failed, otherwise that of the first failure. Only --write-probes changes anything.
    """
    from kfadapter_grpc.cli.commands import doctor as command

    if server:
        flags = {"kfp_url": kfp_url, "namespace": options.namespace or None}
        command.examine_server(config, flags, output, write=write_probes)
    elif write_probes or config or kfp_url:
        raise typer.BadParameter("--write-probes, --config and --kfp-url check the server's end: add --server")
    else:
        command.examine_adapter(options, output)

"""`kfadapter serve`: settings from the options, then the server until a signal ends it."""
# ruff: noqa: PLC0415  help loads no more than it needs

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.errors import SERVER, CommandError, ExitCode, require
from kfadapter_grpc.cli.option_types import KfpCredentialsChoice, LogFormat, LogLevel, PodLogsChoice
from kfadapter_grpc.cli.streams import native_path

if TYPE_CHECKING:
    from kfadapter_grpc.settings import EffectiveSetting, Settings, SettingsError


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
    require(server=SERVER)
    settings, effective = _loaded(
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
    if check:
        rows = [(one.name, one.value, one.origin) for one in effective]
        out.print_table(("SETTING", "VALUE", "FROM"), rows, steps=(out.Step("FROM", 20), out.Step("VALUE", 20)))
        out.note("settings are fine")
    else:
        serve_until_stopped(settings)


def load_server() -> None:
    """Loads the server's modules, which takes a while, before they are needed."""
    importlib.import_module("kfadapter_grpc.server")


def load_settings(config: Path | None, **flags: object) -> "Settings":
    """Collects the settings; options that were not given are None.

    Raises:
        CommandError: They are wrong.
    """
    return _loaded(config, **flags)[0]


def _loaded(config: Path | None, **flags: object) -> "tuple[Settings, list[EffectiveSetting]]":
    from kfadapter_grpc.settings import Settings, SettingsError

    try:
        return Settings.load_traced(config=config, **flags)
    except SettingsError as error:
        raise _wrong_settings(error) from None


def serve_until_stopped(settings: "Settings", on_ready: Callable[[str], None] | None = None) -> None:
    """Runs the server; `on_ready` is told its address.

    Raises:
        CommandError: The address cannot be listened on, or a file is wrong by now.
    """
    from kfadapter_grpc.server import ServerStartError, run
    from kfadapter_grpc.settings import SettingsError

    try:
        code = run(settings, on_ready=on_ready)
    except SettingsError as error:
        raise _wrong_settings(error) from None
    except ServerStartError as error:
        raise CommandError(
            error.why,
            why=f"the adapter was told to listen on {error.listen}",
            next_step=f"the same command with another {error.option}",
        ) from None
    if code:
        raise typer.Exit(code)


def _wrong_settings(error: "SettingsError") -> CommandError:
    return CommandError(
        "\n".join(error.lines),
        why="settings come from options, the file of --config and the environment (KFADAPTER_...), in this order",
        next_step="kfadapter serve --help",
        exit_code=ExitCode.USAGE,
    )

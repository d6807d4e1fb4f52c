"""`kfadapter serve`: settings from the options, then the server until a signal ends it."""
# ruff: noqa: PLC0415  help loads no more than it needs

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.command import declared
from kfadapter_grpc.cli.errors import SERVER, CommandError, ExitCode, require
from kfadapter_grpc.cli.option_types import KfpCredentialsChoice, LogFormat, LogLevel, PodLogsChoice
from kfadapter_grpc.cli.streams import native_path

if TYPE_CHECKING:
    from kfadapter_grpc.settings import EffectiveSetting, Settings, SettingsError


OPTIONS: dict[str, Any] = {
    "listen": Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Address to listen on [127.0.0.1:50051].")],
    "metrics_listen": Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Address of the metrics, or 'off' [127.0.0.1:9090].")
    ],
    "kfp_url": Annotated[str | None, typer.Option(metavar="URL", help="URL of Kubeflow Pipelines.")],
    "namespace": Annotated[str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Default namespace.")],
    "config": Annotated[Path | None, typer.Option(metavar="FILE", parser=native_path, help="Settings in TOML.")],
    "tls_certificate": Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="The server's certificate: TLS.")
    ],
    "tls_key": Annotated[Path | None, typer.Option(metavar="FILE", parser=native_path, help="Its private key.")],
    "tls_client_ca": Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=native_path, help="CA of client certificates, which are then required (mTLS)."
        ),
    ],
    "tls_client_names": Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Names in client certificates that may call, separated by commas; * for all."
        ),
    ],
    "tls_client_readers": Annotated[
        str | None, typer.Option(metavar="NAMES", help="Names in client certificates that may only read.")
    ],
    "token_file": Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=native_path, help="Tokens of callers, which are then required."),
    ],
    "health_listen": Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Additional address for health checks without TLS.")
    ],
    "legacy_http": Annotated[
        int | None,
        typer.Option(metavar="PORT", hidden=True, help="Refused: the routes have their own command, legacy-http."),
    ],
    "kfp_credentials": Annotated[KfpCredentialsChoice | None, typer.Option(help="Credentials sent to KFP.")],
    "kfp_token_file": Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="Bearer token for KFP.")
    ],
    "kfp_ca_file": Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="CAs of KFP's certificate.")
    ],
    "kfp_client_certificate": Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="Client certificate for KFP.")
    ],
    "kfp_client_key": Annotated[Path | None, typer.Option(metavar="FILE", parser=native_path, help="Its key.")],
    "pod_logs": Annotated[
        PodLogsChoice | None, typer.Option(help="Read logs of running tasks from the Kubernetes API, if allowed.")
    ],
    "insecure_listen": Annotated[
        bool | None, typer.Option("--insecure-listen", help="Allow an address that others can reach without TLS.")
    ],
    "max_unary_calls": Annotated[int | None, typer.Option(metavar="N", help="Concurrency limit of unary calls.")],
    "max_uploads": Annotated[int | None, typer.Option(metavar="N", help="Concurrency limit of uploads.")],
    "max_streams": Annotated[int | None, typer.Option(metavar="N", help="Concurrency limit of server streams.")],
    "max_upload_bytes": Annotated[int | None, typer.Option(metavar="N", help="Maximum size of a file.")],
    "upload_dir": Annotated[
        Path | None, typer.Option(metavar="DIR", parser=native_path, help="Folder for uploads in progress, on a disk.")
    ],
    "grace_seconds": Annotated[float | None, typer.Option(metavar="S", help="Grace period of calls in flight.")],
    "drain_seconds": Annotated[
        float | None, typer.Option(metavar="S", help="Time between NOT_SERVING and refusing calls.")
    ],
    "ready_needs_kfp": Annotated[
        bool | None, typer.Option("--ready-needs-kfp", help="Health of the services follows KFP.")
    ],
    "log_format": Annotated[LogFormat | None, typer.Option(help="Log format.")],
    "log_level": Annotated[LogLevel | None, typer.Option(help="Log level.")],
    "reflection": Annotated[bool | None, typer.Option("--reflection/--no-reflection", help="Serve gRPC reflection.")],
    "check": Annotated[
        bool | None,
        typer.Option("--check", help="Check the settings: print them, or all mistakes."),
    ],
}
"""The settings as options; what they mean in full is in docs/reference/settings.md."""


def serve(*, config: Path | None, check: bool | None, **settings: Any) -> None:  # noqa: ANN401  each as its option says
    """Start the server in front of a Kubeflow Pipelines.

    Every option can also be set as an environment variable (KFADAPTER_KFP_URL) or in a TOML file; options win.
    """
    require(server=SERVER)
    loaded, effective = _loaded(config, **{name: getattr(value, "value", value) for name, value in settings.items()})
    if check:
        rows = [(one.name, one.value, one.origin) for one in effective]
        out.print_table(("SETTING", "VALUE", "FROM"), rows, steps=(out.Step("FROM", 20), out.Step("VALUE", 20)))
        out.note("settings are fine")
    else:
        serve_until_stopped(loaded)


declared(
    serve,
    [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in OPTIONS.items()
    ],
)


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
    """Runs the server; calls `on_ready` with its address.

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

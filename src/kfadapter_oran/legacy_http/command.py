"""`kfadapter legacy-http`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from kfadapter_grpc.addresses import OFF, split_address
from kfadapter_grpc.cli.errors import require
from kfadapter_grpc.cli.http_options import HttpOptions
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.daemon import LogFormat, LogLevel
from kfadapter_grpc.setting_sources import SettingsError


@dataclass(frozen=True, slots=True)
class GatewayOptions(HttpOptions):
    """The options of the gateway; each can also be set by its environment variable."""

    VARIABLES: ClassVar[str] = "KFADAPTER_LEGACY_HTTP_"
    RISK: ClassVar[str] = "calls and their tokens can be read and changed in transit"

    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address to listen on.")] = "127.0.0.1:5001"
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CA of client certificates, which are then required (mTLS).")
    ] = None
    metrics_listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address of the metrics, or 'off'.")] = (
        "127.0.0.1:9092"
    )
    drain_seconds: Annotated[
        float, typer.Option(metavar="S", min=0, max=600, help="Time between SIGTERM and refusing requests.")
    ] = 0.0
    grace_seconds: Annotated[
        float, typer.Option(metavar="S", min=0, max=3600, help="Grace period of requests in flight.")
    ] = 25.0
    log_format: Annotated[LogFormat, typer.Option(help="Log format.")] = "console"
    log_level: Annotated[LogLevel, typer.Option(help="Log level.")] = "info"

    def check(self) -> None:
        """Returns if the addresses and the TLS files are consistent, and no variable has an unknown name.

        Raises:
            ValueError: The address of the metrics is none.
            SettingsError: Others are inconsistent, or a variable is unknown.
        """
        HttpOptions.check(self)  # super() has another class: slots make a new one
        if self.metrics_listen != OFF:
            split_address(self.metrics_listen)
        if self.tls_client_ca and not self.tls_certificate:
            raise SettingsError("--tls-certificate and --tls-key go together, and --tls-client-ca needs both")


def legacy_http(*, options: ClientOptions, how: GatewayOptions) -> None:
    """Serve the Flask adapter's HTTP routes through an adapter.

    For a training manager that has not moved to gRPC yet. Callers' tokens are passed on; requests without one are sent
    with the token of this command, if it has one.
    """
    require(oran=("prometheus_client", "python_multipart", "starlette", "structlog", "uvicorn"))
    from kfadapter_oran.legacy_http import process  # noqa: PLC0415  of the extra `oran`

    try:
        how.check()
        files = (how.tls_certificate, how.tls_key)
        tls = process.tls_context(files[0], files[1], how.tls_client_ca) if files[0] and files[1] else None
    except (ValueError, OSError) as error:
        raise SettingsError(str(error)) from None
    process.run(options.client(), how, tls)

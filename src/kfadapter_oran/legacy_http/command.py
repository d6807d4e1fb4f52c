"""`kfadapter legacy-http`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from kfadapter_grpc.addresses import OFF, is_loopback, split_address
from kfadapter_grpc.cli.errors import require
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.daemon import LogFormat, LogLevel
from kfadapter_grpc.setting_sources import SettingsError, unknown_variables


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """The options of the gateway; each can also be set by its environment variable."""

    VARIABLES: ClassVar[str] = "KFADAPTER_LEGACY_HTTP_"

    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address to listen on.")] = "127.0.0.1:5001"
    insecure_listen: Annotated[
        bool, typer.Option("--insecure-listen", help="Allow an address that others can reach without TLS.")
    ] = False
    tls_certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="The gateway's certificate: HTTPS.")] = (
        None
    )
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of the certificate.")] = None
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CA of client certificates, which are then required (mTLS).")
    ] = None
    metrics_listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address of the metrics, or 'off'.")] = (
        "127.0.0.1:9092"
    )
    max_upload_bytes: Annotated[int, typer.Option(metavar="N", min=1, help="Maximum size of a file.")] = (
        32 * 1024 * 1024
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
            ValueError: They are inconsistent.
            SettingsError: A variable is unknown.
        """
        if unknown := [*unknown_variables(self.VARIABLES, {field.name for field in fields(self)})]:
            raise SettingsError(*unknown)
        for address in (self.listen, *([] if self.metrics_listen == OFF else [self.metrics_listen])):
            split_address(address)
        if bool(self.tls_certificate) != bool(self.tls_key) or (self.tls_client_ca and not self.tls_certificate):
            raise ValueError("--tls-certificate and --tls-key go together, and --tls-client-ca needs both")
        if not (self.tls_certificate or self.insecure_listen or is_loopback(split_address(self.listen)[0])):
            raise ValueError(
                f"others can reach {self.listen}, and without TLS calls and their tokens can be read and changed in"
                " transit; set --tls-certificate and --tls-key, listen on 127.0.0.1, or accept the risk with"
                " --insecure-listen"
            )


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

"""`kfadapter legacy-http`."""

from pathlib import Path
from typing import Annotated

from kfadapter_grpc.addresses import is_loopback, split_address
from kfadapter_grpc.cli.errors import CommandError, ExitCode, require
from kfadapter_grpc.cli.invocation import do, manual
from kfadapter_grpc.cli.option_types import LogFormat, LogLevel
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_oran.options import setting


def legacy_http(
    *,
    options: ClientOptions,
    listen: Annotated[str, setting("KFADAPTER_LEGACY_HTTP_LISTEN", "Where to listen.", "HOST:PORT")] = "127.0.0.1:5001",
    insecure_listen: Annotated[
        bool,
        setting(
            "KFADAPTER_LEGACY_HTTP_INSECURE_LISTEN",
            "Allow an address that others can reach without TLS.",
            flag="--insecure-listen",
        ),
    ] = False,
    tls_certificate: Annotated[
        Path | None, setting("KFADAPTER_LEGACY_HTTP_TLS_CERTIFICATE", "The certificate for callers: HTTPS.", "FILE")
    ] = None,
    tls_key: Annotated[Path | None, setting("KFADAPTER_LEGACY_HTTP_TLS_KEY", "Its private key.", "FILE")] = None,
    tls_client_ca: Annotated[
        Path | None, setting("KFADAPTER_LEGACY_HTTP_TLS_CLIENT_CA", "Only callers with its certificates.", "FILE")
    ] = None,
    metrics_listen: Annotated[
        str, setting("KFADAPTER_LEGACY_HTTP_METRICS_LISTEN", "Metrics, or 'off'.", "HOST:PORT")
    ] = "127.0.0.1:9092",
    max_upload_bytes: Annotated[
        int, setting("KFADAPTER_LEGACY_HTTP_MAX_UPLOAD_BYTES", "The largest file.", "N", min=1)
    ] = 32 * 1024 * 1024,
    drain_seconds: Annotated[
        float,
        setting("KFADAPTER_LEGACY_HTTP_DRAIN_SECONDS", "Between SIGTERM and refusing requests.", "S", min=0, max=600),
    ] = 0.0,
    grace_seconds: Annotated[
        float, setting("KFADAPTER_LEGACY_HTTP_GRACE_SECONDS", "Then for requests in flight.", "S", min=0, max=3600)
    ] = 25.0,
    log_format: Annotated[
        LogFormat, setting("KFADAPTER_LEGACY_HTTP_LOG_FORMAT", "How the log looks.")
    ] = LogFormat.CONSOLE,
    log_level: Annotated[LogLevel, setting("KFADAPTER_LEGACY_HTTP_LOG_LEVEL", "How much is logged.")] = LogLevel.INFO,
) -> None:
    """Serve the Flask adapter's HTTP routes through an adapter.

    For a training manager that has not moved to gRPC yet. Callers' tokens are passed on; requests without one are sent
    with the token of this command, if it has one.
    """
    require(oran=("prometheus_client", "python_multipart", "starlette", "structlog", "uvicorn"))
    from kfadapter_grpc.daemon.listening import ServerStartError  # noqa: PLC0415  of the extra `oran`, as the next
    from kfadapter_oran.legacy_http import process  # noqa: PLC0415

    try:
        for address in (listen, *([] if metrics_listen == "off" else [metrics_listen])):
            split_address(address)
        if bool(tls_certificate) != bool(tls_key) or (tls_client_ca and not tls_certificate):
            raise ValueError("--tls-certificate and --tls-key go together, and --tls-client-ca needs both")
        if not (tls_certificate or insecure_listen or is_loopback(split_address(listen)[0])):
            raise ValueError(
                f"others can reach {listen}, and without TLS calls and their tokens can be read and changed on their"
                " way; set --tls-certificate and --tls-key, listen on 127.0.0.1, or accept the risk with"
                " --insecure-listen"
            )
        tls = process.tls_context(tls_certificate, tls_key, tls_client_ca) if tls_certificate and tls_key else None
    except (ValueError, OSError) as error:
        raise CommandError(
            str(error),
            why="settings come from options and the environment (KFADAPTER_LEGACY_HTTP_...)",
            next_step=manual("lists all of them"),
            exit_code=ExitCode.USAGE,
        ) from None
    try:
        process.run(
            options.client(),
            listen=listen,
            tls=tls,
            max_upload_bytes=max_upload_bytes,
            metrics_listen="" if metrics_listen == "off" else metrics_listen,
            drain_seconds=drain_seconds,
            grace_seconds=grace_seconds,
            log_format=log_format.value,
            log_level=log_level.value,
        )
    except ServerStartError as error:
        raise CommandError(
            error.why,
            why=f"the gateway was to listen on {error.listen}",
            next_step=do(f"the same command with another {error.option} HOST:PORT"),
        ) from None

"""`kfadapter health`: one word on stdout, and an exit code that a container's HEALTHCHECK can use."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

from typing import Annotated

import typer

from kfadapter_grpc.cli.errors import CommandError, NotFoundError
from kfadapter_grpc.cli.invocation import other
from kfadapter_grpc.cli.options import ClientOptions

KFP_NAME = "kfp"
"""The name under which an adapter reports whether KFP is reachable."""


def health(
    options: Annotated[ClientOptions, "target", "timeout"],
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help="Full name of a service, or 'kfp'; defaults to the server.")
    ] = "",
) -> None:
    """Check the health of an adapter; for containers and scripts."""
    from grpc import StatusCode

    from kfadapter_grpc.cli.failures import HINTS
    from kfadapter_grpc.client import CallFailedError, HealthStatus

    with options.client() as client:
        try:
            status = client.health(service)
        except CallFailedError as error:
            if error.status is not StatusCode.NOT_FOUND:
                raise
            raise NotFoundError(
                f"{client.target} has no service '{service}'",
                why="NOT_FOUND",
                next_step=other("health", text=f"checks the server itself; the name {KFP_NAME} checks KFP"),
            ) from None
    typer.echo(status.value)
    if status is HealthStatus.SERVING:
        return
    if service == KFP_NAME:
        raise CommandError(
            f"Kubeflow Pipelines is unreachable from {client.target}",
            why="NOT_SERVING: the adapter probes it every few seconds",
            next_step=HINTS["KFP_UNAVAILABLE"],
        )
    raise CommandError(
        f"{service or client.target} does not serve",
        why="NOT_SERVING: the adapter is shutting down, or it needs KFP (--ready-needs-kfp), which is unreachable",
        next_step=other("health", KFP_NAME, text="shows whether KFP is reachable; then the same command again"),
    )

"""The health command: one word on stdout, and an exit code that a container's HEALTHCHECK can use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from grpc import StatusCode

from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.hints import HINTS
from kfadapter_grpc.cli.invocation import other
from kfadapter_grpc.client import CallFailedError, HealthStatus

if TYPE_CHECKING:
    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import Client

KFP_NAME = "kfp"
"""The name under which an adapter tells whether KFP answers."""


def health(options: ClientOptions, service: str) -> None:
    """Asks an adapter whether it serves, and prints the answer.

    Raises:
        CommandError: It does not serve, or knows no such service.
        AdapterError: It cannot be asked.
    """
    with options.client() as client:
        status = _ask(client, service)
        typer.echo(status.value)
        if status is not HealthStatus.SERVING:
            raise _not_serving(client.target, service)


def _ask(client: Client, service: str) -> HealthStatus:
    try:
        return client.health(service)
    except CallFailedError as error:
        if error.status is StatusCode.NOT_FOUND:
            raise _unknown(client.target, service) from None
        raise


def _unknown(target: str, service: str) -> CommandError:
    return CommandError(
        f"{target} has no service '{service}'",
        why="NOT_FOUND",
        next_step=other("health", words=f"asks for the server itself; the name {KFP_NAME} asks for KFP"),
        exit_code=ExitCode.NOT_FOUND,
    )


def _not_serving(target: str, service: str) -> CommandError:
    if service == KFP_NAME:
        return CommandError(
            f"Kubeflow Pipelines does not answer {target}",
            why="NOT_SERVING: the adapter asks it every few seconds",
            next_step=HINTS["KFP_UNAVAILABLE"],
        )
    return CommandError(
        f"{service or target} does not serve",
        why="NOT_SERVING: the adapter is shutting down, or it needs KFP (--ready-needs-kfp), which does not answer",
        next_step=other("health", KFP_NAME, words="tells whether KFP answers; then the same command again"),
    )

"""The health command: one word on stdout, and an exit code that a container's HEALTHCHECK can use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from grpc import StatusCode

from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.client import CallFailedError, HealthStatus

if TYPE_CHECKING:
    from kfadapter_grpc.cli.client_options import ClientOptions
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
        next_step=f"kfadapter health, which asks for the server itself, or kfadapter health {KFP_NAME}",
        exit_code=ExitCode.NOT_FOUND,
    )


def _not_serving(target: str, service: str) -> CommandError:
    if service == KFP_NAME:
        return CommandError(
            f"Kubeflow Pipelines does not answer {target}",
            why="NOT_SERVING: the adapter asks it every few seconds",
            next_step="see that KFP runs, and that the adapter's --kfp-url is right; its log tells when KFP answers",
        )
    return CommandError(
        f"{service or target} does not serve",
        why="NOT_SERVING: the adapter is shutting down, or it needs KFP (--ready-needs-kfp), which does not answer",
        next_step=f"the same command again in a moment; kfadapter health {KFP_NAME} tells whether KFP answers",
    )

"""Which adapter a command calls, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import typer

from kfadapter_grpc.cli.security_options import SecurityOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.client import Client


_ADDRESS = re.compile(r"(?:dns:(?:///)?|ipv4:|ipv6:)?(?:[^\s/\[\]:]+|\[[0-9A-Fa-f:.%]+\]):\d{1,5}|unix:\S+")
"""HOST:PORT with the schemes that gRPC resolves."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The options that all commands share; None and empty stand for what was not given.

    Attributes:
        target: The adapter's address.
        timeout: Seconds for each call.
        namespace: The namespace of all calls.
        security: Who calls, and how the adapter is known.
    """

    target: str | None = None
    timeout: float | None = None
    namespace: str = ""
    security: SecurityOptions = field(default_factory=SecurityOptions)

    def override(self, target: str | None, timeout: float | None, namespace: str | None) -> ClientOptions:
        """Takes what stands behind the command before what stands in front of it."""
        return ClientOptions(
            target or self.target,
            self.timeout if timeout is None else timeout,
            namespace or self.namespace,
            self.security,
        )

    def secured(self, given: Mapping[str, object]) -> ClientOptions:
        """Takes options of who calls, by their names, before those that were given before."""
        return replace(self, security=self.security.override(given))

    def client(self) -> Client:
        """Makes the client.

        Raises:
            BadParameter: The target is no address.
            CredentialsError: The token cannot be used, or would go to another machine without TLS.
        """
        from kfadapter_grpc.client import Client  # noqa: PLC0415  loads gRPC, which `--help` does not need

        if self.target and not _ADDRESS.fullmatch(self.target):
            message = f"'{self.target}' is no address of an adapter; write HOST:PORT, as 127.0.0.1:50051"
            raise typer.BadParameter(message)
        return Client(
            self.target,
            timeout=self.timeout,
            namespace=self.namespace,
            tls=self.security.try_tls(),
            token_file=self.security.token_file,
            insecure_token=self.security.insecure_token or None,
        )

"""Which adapter a command calls, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The options that all commands share; None and empty stand for what was not given.

    Attributes:
        target: The adapter's address.
        timeout: Seconds for each call.
        namespace: The namespace of all calls.
    """

    target: str | None = None
    timeout: float | None = None
    namespace: str = ""

    def override(self, target: str | None, timeout: float | None, namespace: str | None) -> ClientOptions:
        """Takes what stands behind the command before what stands in front of it."""
        return ClientOptions(
            target or self.target,
            self.timeout if timeout is None else timeout,
            namespace or self.namespace,
        )

    def client(self) -> Client:
        """Makes the client."""
        from kfadapter_grpc.client import Client  # noqa: PLC0415  loads gRPC, which `--help` does not need

        return Client(self.target, timeout=self.timeout, namespace=self.namespace)

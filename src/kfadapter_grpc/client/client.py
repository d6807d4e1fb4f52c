"""The client: one object for all calls of an adapter, with typed results."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kfadapter_grpc.client import health
from kfadapter_grpc.client.artifacts import Artifacts
from kfadapter_grpc.client.connection import BaseConnection, Connection
from kfadapter_grpc.client.credentials import make_credentials
from kfadapter_grpc.client.experiments import Experiments
from kfadapter_grpc.client.identity import IdentityCalls
from kfadapter_grpc.client.pipelines import Pipelines
from kfadapter_grpc.client.recurring_runs import RecurringRuns
from kfadapter_grpc.client.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from kfadapter_grpc.client.credentials import Tls
    from kfadapter_grpc.client.health import HealthStatus

DEFAULT_TARGET = "127.0.0.1:50051"
TARGET_VARIABLE = "KFADAPTER_TARGET"


def resolve_address(target: str | None) -> str:
    return target or os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET


class BaseClient:
    """The resources of an adapter, and the other parts that `Client` and `AsyncClient` share."""

    def __init__(self, connection: BaseConnection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self.pipelines = Pipelines(connection, namespace)
        self.runs = Runs(connection, namespace)
        self.artifacts = Artifacts(connection, namespace)
        self.experiments = Experiments(connection, namespace)
        self.recurring_runs = RecurringRuns(connection, namespace)
        self.identity = IdentityCalls(connection, namespace)

    @property
    def target(self) -> str:
        return self._connection.target

    def close(self) -> None:
        """Closes the connection; calls in flight are cancelled. Idempotent."""
        return self._connection.run(self._connection.close())

    def health(self, service: str = "") -> HealthStatus:
        """Checks the adapter's health; the deadline is three seconds unless a timeout was set.

        Args:
            service: A service's full name (`kfadapter.v1.PipelineService`), or `kfp`: whether the adapter reaches KFP.
                Empty means the adapter itself.

        Raises:
            CallFailedError: The service is unknown; `status` is NOT_FOUND.
        """
        return self._connection.run(health.check(self._connection, service))


class Client(BaseClient):
    """Calls an adapter. Safe to use from several threads; close it, or use it in a `with` statement.

    Connects at the first call. Every call has a deadline. Read-only calls are retried by gRPC
    when the adapter is briefly unreachable.

    All calls raise a subclass of `AdapterError` when they fail.
    """

    _connection: Connection

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float | None = None,
        namespace: str = "",
        tls: bool | Tls | None = None,
        token: str | Callable[[], str] | None = None,
        token_file: str | os.PathLike[str] | None = None,
        insecure_token: bool | None = None,
    ) -> None:
        """Creates a client of the adapter at `target`; connects at the first call.

        Args:
            target: `host:port`; defaults to `KFADAPTER_TARGET`, or `127.0.0.1:50051`.
            timeout: Deadline of each call in seconds; defaults to that of the contract for each kind of call.
            namespace: The namespace of all calls; empty means the adapter's own.
            tls: `Tls(...)`, or True for TLS configured by the environment; False for plain text. Defaults to TLS if
                `KFADAPTER_TLS`, `KFADAPTER_CA` or another of its variables is set.
            token: The caller's bearer token, or a function that returns it before each call, such as a
                `login.Login` or an `exec_plugin.ExecPlugin`; defaults to `KFADAPTER_TOKEN`.
            token_file: A file with the token, read before each call; defaults to
                `KFADAPTER_CLIENT_TOKEN_FILE`.
            insecure_token: Send the token to another machine even without TLS, where others can read it in transit;
                defaults to `KFADAPTER_INSECURE_TOKEN`.

        Raises:
            CredentialsError: The token is invalid, or would be sent to another machine without TLS.
        """
        address = resolve_address(target)
        credentials = make_credentials(
            address, tls=tls, token=token, token_file=token_file, insecure_token=insecure_token
        )
        super().__init__(Connection(address, timeout, credentials), namespace)

    def on_behalf(
        self,
        *,
        request_id: str,
        authorization: Sequence[str] = (),
        seconds: float | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> Client:
        """Returns a client over the same channel for one request of another caller; for gateways.

        Args:
            request_id: Sent with every call, for the adapter's log.
            authorization: The caller's `authorization`; if empty, this client's own token is sent.
            seconds: Deadline of all calls together; if unset, each has the deadline of the contract.
            trace: The request's headers, of which `traceparent` and `tracestate` (W3C Trace Context) are sent on.

        Raises:
            CredentialsError: The authorization would be sent to another machine without TLS.
        """
        client = Client.__new__(Client)
        connection = self._connection.on_behalf(request_id, authorization, seconds, trace or {})
        BaseClient.__init__(client, connection, self._namespace)
        return client

    @property
    def uses_tls(self) -> bool:
        """Whether the connection uses TLS and the adapter's certificate is verified."""
        return self._connection.tls is not None

    @property
    def has_token(self) -> bool:
        """Whether calls carry a token of this client's own."""
        return self._connection.has_token

    def certificate_end(self) -> float:
        """Returns when the adapter's certificate expires, in seconds since 1970.

        Raises:
            OSError: Connecting failed, or one side rejected the other's certificate.
            ValueError: TLS is off, or the target is not HOST:PORT.
        """
        if self._connection.tls is None:
            message = "the connection has no TLS"
            raise ValueError(message)
        return health.certificate_end(self.target, self._connection.tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def adapter_version(self) -> str:
        """Returns the adapter's version, by listing one pipeline; empty if the adapter is too old to report it."""
        return health.version(self._connection, self._namespace)

    def reflects(self) -> bool:
        """Returns whether the adapter has server reflection, as grpcurl needs."""
        return health.reflects(self._connection)

    if not TYPE_CHECKING:  # type checkers show the calls of the resources only

        def __getattr__(self, name: str) -> object:
            """Resolves the method names of version 1: `create_run` is `runs.create`, `get` is `pipelines.get`."""
            verb, _, noun = name.removesuffix("_page").partition("_")
            resource = {"run": "runs", "experiment": "experiments", "recurring_run": "recurring_runs"}.get(
                noun.removesuffix("s")
            )
            if name in {"read_logs", "run_id_for"}:
                resource, verb = "runs", name.removeprefix("run_")
            elif resource is None:
                resource, verb = "pipelines", name.removesuffix("_page")
            if name.startswith("_") or not hasattr(vars(self).get(resource), verb):
                raise AttributeError(f"'Client' has no attribute '{name}'", name=name, obj=self)
            call = getattr(getattr(self, resource), verb)
            if not name.endswith("_page"):
                return call
            return lambda *names, page_token="", **where: call(*names, **where).page(page_token)

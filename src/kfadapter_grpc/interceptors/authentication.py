"""Authentication and authorization of calls, and callers' credentials for Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from kfadapter_grpc.auth.access import Access, authorize
from kfadapter_grpc.auth.access_rules import Rules
from kfadapter_grpc.contract.call import Authorization, Role
from kfadapter_grpc.contract.errors import PermissionDeniedError, UnauthenticatedError
from kfadapter_grpc.interceptors.chain import Rpc

if TYPE_CHECKING:
    import grpc

AUTHORIZATION_KEY = "authorization"
"""The metadata key of credentials, `Bearer TOKEN`."""
_NAMES = ("peer_uri", "peer_dns", "x509_common_name")
"""The keys of gRPC's properties with the names in a verified client certificate."""


class Authentication:
    """The layer that authenticates and authorizes the caller; the log shows the name."""

    def __init__(self, access: Access, rules: Callable[[], Rules] | None = None) -> None:
        """Authenticates callers with `access`; `rules` returns their grants, instead of their own roles."""
        self._access = access
        self._rules = rules

    @contextmanager
    def __call__(self, rpc: Rpc) -> Iterator[None]:
        """Admits the call. Raises UnauthenticatedError, PermissionDeniedError or IssuerUnavailableError."""
        metadata = rpc.context.invocation_metadata() or ()
        authorization = [value for key, value in metadata if key == AUTHORIZATION_KEY]
        caller = self._access.caller(authorization, lambda: certificate_names(rpc.context), rpc.call)
        needed = rpc.method.role
        if self._rules is None:
            needed = Role.WRITER if needed is Role.ADMIN else needed
        elif caller is not None:
            caller = replace(caller, grants=self._rules().grants(caller.identity))
            rpc.call.limits = caller.limits(needed or Role.READER)
        rpc.call.caller = caller
        authorize(caller, needed, rpc.method.path)
        yield


def certificate_names(context: grpc.ServicerContext) -> list[str]:
    known = cast("Mapping[str, Iterable[bytes]]", context.auth_context())  # types-grpcio has it wrong
    return [value.decode("utf-8", "replace") for key in _NAMES for value in known.get(key, ()) if value]


class Impersonation:
    """The layer that has KFP called in the name of the authenticated caller; what a caller sends has no influence."""

    def __init__(self, prefix: str) -> None:
        """Prefixes names with `prefix`, KFP's KUBEFLOW_USERID_PREFIX."""
        self._prefix = prefix

    @contextmanager
    def __call__(self, rpc: Rpc) -> Iterator[None]:
        """Sets the user that KFP sees. Raises PermissionDeniedError if the name cannot be sent in a header."""
        if rpc.call.caller is None:
            raise UnauthenticatedError("there is no authenticated caller whose name Kubeflow Pipelines could get")
        name = rpc.call.caller.name
        user = self._prefix + name
        if not user.isascii() or not user.isprintable() or user != user.strip():
            raise PermissionDeniedError(
                f"'{name}' cannot be a user of Kubeflow Pipelines, as HTTP headers hold ASCII only; ask the adapter's "
                "operator for another name",
                metadata={"caller": name},
            )
        rpc.call.authorization = Authorization(user=user)
        yield


@contextmanager
def forward_authorization(rpc: Rpc) -> Iterator[None]:
    """The layer that forwards callers' credentials to KFP: rejects calls without them, before anything is read.

    Nothing else of a caller's metadata is forwarded; a `kubeflow-userid` that a caller sends is ignored.
    """
    metadata = rpc.context.invocation_metadata() or ()
    values = [value for key, value in metadata if key == AUTHORIZATION_KEY and isinstance(value, str) and value.strip()]
    if len(values) != 1:
        raise UnauthenticatedError(
            "this adapter forwards its callers' credentials to Kubeflow Pipelines, and the call has "
            f"{'more than one' if values else 'no'} authorization; "
            "send `authorization: Bearer TOKEN` with a token that Kubeflow Pipelines accepts"
        )
    rpc.call.authorization = Authorization(values[0].strip())
    yield

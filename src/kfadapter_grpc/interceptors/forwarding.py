"""Takes the credentials that a call brings for Kubeflow Pipelines."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.call import Authorization
from kfadapter_grpc.contract.errors import UnauthenticatedError
from kfadapter_grpc.interceptors.authentication import AUTHORIZATION_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.interceptors.chain import Rpc


@contextmanager
def take_authorization(rpc: Rpc) -> Iterator[None]:
    """The layer that has KFP asked as the caller: refuses calls that do not say as whom, before anything is read.

    Nothing else of a caller's metadata goes to KFP; a `kubeflow-userid` that a caller sends counts for nothing.

    Raises:
        UnauthenticatedError: The call brings no credentials, or several.
    """
    metadata = rpc.context.invocation_metadata() or ()
    values = [value for key, value in metadata if key == AUTHORIZATION_KEY and isinstance(value, str) and value.strip()]
    if len(values) != 1:
        raise UnauthenticatedError(
            "this adapter asks Kubeflow Pipelines as its callers, and the call carries "
            f"{'more than one' if values else 'no'} authorization; "
            "send `authorization: Bearer TOKEN` with a token that Kubeflow Pipelines knows"
        )
    rpc.call.authorization = Authorization(values[0].strip())
    yield

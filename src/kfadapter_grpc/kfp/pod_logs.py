"""Logs of pods, from the Kubernetes API, where the adapter runs inside the cluster and may read them.

KFP itself cannot serve them where it serves a single user, as it calls Kubernetes without a namespace.
"""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from kfadapter_grpc.contract.errors import KfpRejectedCredentialsError, KfpUnavailableError
from kfadapter_grpc.kfp.connections import TlsFiles
from kfadapter_grpc.kfp.credentials import TokenFile
from kfadapter_grpc.kfp.log_sources import NoLogError
from kfadapter_grpc.kfp.rest import segment
from kfadapter_grpc.kfp.transport import Request, Transport, TransportSettings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.transport import StreamedResponse

CONTAINER = "main"
"""The container of a pod of Argo's that runs the task."""
_ERROR_CHUNKS = 8
_IDLE_CONNECTIONS = 1
_CONNECT_SECONDS = 2.0


class _Status(msgspec.Struct):
    """Kubernetes' description of a failure."""

    message: str = ""


class PodLogError(NoLogError):
    """Kubernetes does not return the log; the status is 0 if there was no response."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def kubernetes_api(environment: Mapping[str, str], service_account: Path) -> TransportSettings | None:
    """Returns how a pod reaches the Kubernetes API; None outside a pod, or without a service-account token.

    The token and the CAs are read again when they change.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    token, authorities = service_account / "token", service_account / "ca.crt"
    if not host or not token.is_file() or not authorities.is_file():
        return None
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return TransportSettings(url, _IDLE_CONNECTIONS, _CONNECT_SECONDS, TokenFile(token), TlsFiles(authorities))


class PodLogs:
    """The logs of pods. Safe to use from many threads; constructing it touches no network."""

    def __init__(self, settings: TransportSettings) -> None:
        self._transport = Transport(settings)

    def close(self) -> None:
        self._transport.close()

    def read(
        self, namespace: str, pod: str, call: Call, *, follow: bool = False, tail: int | None = None
    ) -> Generator[bytes, None, None]:
        """Yields the log of a task's pod; with `follow` until its container ends, with `tail` only that many lines."""
        query = [("container", CONTAINER), *([("follow", "true")] if follow else [])]
        query += [("tailLines", str(tail))] if tail is not None else []
        path = f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(pod)}/log"
        with self._open(Request("GET", path, query), call) as response:
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:  # a pod without a node is 204
                raise PodLogError(response.status, _failure_text(b"".join(islice(response.chunks, _ERROR_CHUNKS))))
            yield from response.chunks

    @contextmanager
    def _open(self, request: Request, call: Call) -> Iterator[StreamedResponse]:
        answered = False
        try:
            with self._transport.open(request, call, "read pod log") as response:
                answered = True
                yield response
        except (KfpUnavailableError, KfpRejectedCredentialsError) as error:
            if not answered:
                raise PodLogError(0, "the Kubernetes API cannot be reached") from error
            text = "the connection to Kubernetes broke before the log was complete; read it again"
            raise KfpUnavailableError(text) from error


def _failure_text(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Status).message[:500]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "a response that is not one of Kubernetes"

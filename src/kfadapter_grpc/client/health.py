"""What an adapter reports about itself: health (grpc.health.v1), version, reflection, certificate."""

from __future__ import annotations

import enum
import socket
import ssl

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from kfadapter_grpc.client.connection import BaseConnection, Connection, new_request_id, request_message
from kfadapter_grpc.client.credentials import Tls
from kfadapter_grpc.client.errors import error_from_rpc
from kfadapter_grpc.contract.pipelines import ListPipelinesRequest
from kfadapter_grpc.methods import READ_SECONDS, SERVICES, VERSION_KEY

HEALTH_SECONDS = 3.0

_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_LIST_SERVICES = b"\x3a\x00"
"""A ServerReflectionRequest with `list_services` (field 7) set: its package is none of the client's."""


class HealthStatus(enum.Enum):
    """The health that an adapter reports, of itself or of one of its services."""

    SERVING = "SERVING"
    """It takes calls."""
    NOT_SERVING = "NOT_SERVING"
    """It does not: it is shutting down, or what it needs is unreachable."""


async def check(connection: BaseConnection, service: str) -> HealthStatus:
    """Returns the health of `service`; empty means the server as a whole."""
    channel = connection.channel_to_any()
    try:
        rpc = health_pb2_grpc.HealthStub(channel).Check
        reply = await connection.call(rpc, health_pb2.HealthCheckRequest(service=service), HEALTH_SECONDS)
    finally:
        await connection.result(channel.close())
    serving = reply.status == health_pb2.HealthCheckResponse.SERVING
    return HealthStatus.SERVING if serving else HealthStatus.NOT_SERVING


def version(connection: Connection, namespace: str) -> str:
    """Lists one pipeline; returns the adapter's version from the response; empty if missing."""
    rpc, message = request_message(ListPipelinesRequest(page_size=1, namespace=namespace))
    _, call = connection.run(connection.call(connection.rpc_of(rpc).with_call, message, READ_SECONDS))
    version = dict(call.trailing_metadata() or ()).get(VERSION_KEY, "")
    return version if isinstance(version, str) else ""


def reflects(connection: Connection) -> bool:
    """Returns whether reflection is on and has the services of the contract."""
    request_id = new_request_id()
    with connection.channel_to_any() as channel:
        rpc: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(_REFLECTION)
        responses = rpc(iter([_LIST_SERVICES]), timeout=READ_SECONDS, metadata=connection.metadata(request_id))
        try:
            response = next(iter(responses), b"")
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            raise error_from_rpc(error, target=connection.target, request_id=request_id) from None
        finally:
            responses.cancel()
    return all(service.encode() in response for service in SERVICES)


def certificate_end(target: str, tls: Tls) -> float:
    """Connects as gRPC does, and returns when the adapter's certificate expires, in seconds since 1970."""
    host, _, port = target.rpartition("/")[2].rpartition(":")
    host = host.strip("[]")
    context = ssl.create_default_context(cafile=tls.ca)
    context.set_alpn_protocols(["h2"])
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    with (
        socket.create_connection((host, int(port)), HEALTH_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=tls.server_name or host) as secure,
    ):
        certificate = secure.getpeercert()
    return ssl.cert_time_to_seconds(str(certificate["notAfter"] if certificate else ""))

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]
from tests.contract.running import WAIT_SECONDS, Running, Scripted, eventually

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.health import HEALTH_SERVICE
from kfadapter_grpc.methods import SERVICES
from kfadapter_grpc.server.side_services import MAX_STREAMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.contract.conftest import Serve

PROTOS = Path(__file__).parents[2] / "protos" / "kfadapter" / "v1"
LIST = reflection_pb2.ServerReflectionRequest(list_services="")


def listed(running: Running) -> set[str]:
    """Lists the services by reflection."""
    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    answer = next(stub.ServerReflectionInfo(iter([LIST]), timeout=WAIT_SECONDS))
    return {service.name for service in answer.list_services_response.service}


def test_reflection_lists_the_services(serve: Serve) -> None:
    """Reflection lists every service of the contract, and health."""
    found = listed(serve(Scripted()))
    assert {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= found


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_are_served(serve: Serve, version: str) -> None:
    """grpc.reflection.v1, which newer clients try first, gives the same responses as v1alpha."""
    ask: grpc.StreamStreamMultiCallable[bytes, bytes] = serve(Scripted()).channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    )
    answer = next(iter(ask(iter([LIST.SerializeToString()]), timeout=WAIT_SECONDS)))
    found = reflection_pb2.ServerReflectionResponse.FromString(answer).list_services_response.service
    assert set(SERVICES) <= {one.name for one in found}


def test_every_symbol_is_found(serve: Serve) -> None:
    """Each service, method, message, field, oneof, enum and enum value leads to the file that declares it."""
    stub = reflection_pb2_grpc.ServerReflectionStub(serve(Scripted()).channel)
    listed = [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        for name in (*SERVICES, HEALTH_SERVICE, "kfadapter.v1.ErrorReason")
    ]
    answers = list(stub.ServerReflectionInfo(iter(listed), timeout=WAIT_SECONDS))
    files = {one.name: one for answer in answers for one in _files(answer)}
    assert {path.name for path in PROTOS.glob("*.proto")} <= {Path(name).name for name in files}
    wanted = {symbol: name for name, file in files.items() for symbol in _symbols(file)}
    assert {
        "kfadapter.v1.PipelineService.Upload",
        "kfadapter.v1.VIEW_FULL",
        "kfadapter.v1.ErrorReason.ERROR_REASON_PIPELINE_NOT_FOUND",
        "kfadapter.v1.Run.LabelsEntry.key",
        "google.protobuf.Value.kind",
        "grpc.health.v1.Health.List",
        "grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING",
    } <= wanted.keys()
    questions = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in wanted]
    found = stub.ServerReflectionInfo(iter(questions), timeout=WAIT_SECONDS)
    for (name, file), answer in zip(wanted.items(), found, strict=True):
        assert file in {one.name for one in _files(answer)}, name


def _files(answer: reflection_pb2.ServerReflectionResponse) -> list[FileDescriptorProto]:
    return [FileDescriptorProto.FromString(one) for one in answer.file_descriptor_response.file_descriptor_proto]


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    for service in file.service:
        yield f"{file.package}.{service.name}"
        yield from (f"{file.package}.{service.name}.{method.name}" for method in service.method)
    yield from _enums(file.package, file.enum_type)
    yield from _messages(file.package, file.message_type)


def _messages(scope: str, messages: Iterable[DescriptorProto]) -> Iterator[str]:
    for message in messages:
        name = f"{scope}.{message.name}"
        yield name
        yield from (f"{name}.{one.name}" for one in message.field)
        yield from (f"{name}.{one.name}" for one in message.oneof_decl)
        yield from _enums(name, message.enum_type)
        yield from _messages(name, message.nested_type)


def _enums(scope: str, enums: Iterable[EnumDescriptorProto]) -> Iterator[str]:
    for enum in enums:
        yield f"{scope}.{enum.name}"
        yield from (f"{place}.{one.name}" for one in enum.value for place in (scope, f"{scope}.{enum.name}"))


@pytest.mark.parametrize("name", ["kfadapter.v1.PipelineService.Nothing", "kfadapter.v1", "", "a.b", "\0"])
def test_unknown_symbols(serve: Serve, name: str) -> None:
    """A symbol that does not exist is NOT_FOUND, and the stream continues."""
    stub = reflection_pb2_grpc.ServerReflectionStub(serve(Scripted()).channel)
    questions = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name), LIST]
    missing, after = stub.ServerReflectionInfo(iter(questions), timeout=WAIT_SECONDS)
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert after.list_services_response.service


def test_reflection_can_be_switched_off(serve: Serve) -> None:
    """With reflection disabled, services cannot be listed."""
    with pytest.raises(grpc.RpcError) as caught:
        listed(serve(Scripted(), reflection=False))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_held_streams_leave_threads_for_others(serve: Serve) -> None:
    """Open reflection streams block neither calls nor, after they have ended, further reflection."""
    running = serve(Scripted(), max_unary_calls=1, max_uploads=1, max_streams=1)
    leave = threading.Event()

    def questions() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield LIST
        leave.wait(WAIT_SECONDS)

    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    held = [stub.ServerReflectionInfo(questions(), timeout=WAIT_SECONDS) for _ in range(MAX_STREAMS)]
    assert all(next(stream).HasField("list_services_response") for stream in held)
    with pytest.raises(grpc.RpcError) as caught:
        listed(running)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert running.stub.Get(pb.GetPipelineRequest(name="x"), timeout=WAIT_SECONDS).name == "x"
    leave.set()
    assert [list(stream) for stream in held] == [[]] * MAX_STREAMS
    assert eventually(lambda: listed(running))

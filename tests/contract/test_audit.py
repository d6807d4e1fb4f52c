"""The audit log: a line for each call that changes something, with its resource, and what happens to its file."""

from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.message import Message
from tests.contract.running import Scripted, eventually, failure
from tests.contract.tokens import TOKENS, bearer, token_file, token_lines

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter_grpc.daemon.appended_file import AppendedFile
from kfadapter_grpc.interceptors.chain import CallInterceptor
from kfadapter_grpc.interceptors.log import MAX_NAME, AuditLog, resource_type
from kfadapter_grpc.methods import MESSAGES, METHODS, RpcMethod
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Line = dict[str, str]

WRITES = [path for path, method in METHODS.items() if not method.read_only]


def filled(message: Message) -> Message:
    """The message with a text in each of its fields, in those of its parts, too; of a oneof the last one is set."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if isinstance(value, Message) and field.name in ("pipeline", "version", "metadata"):
            filled(value)
        elif isinstance(value, str):
            setattr(message, field.name, f"the {field.name}")
    return message


class Echo(grpc.GenericRpcHandler):
    """Serves every RPC with one message, as it has been filled."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns the handler of an RPC."""
        method = METHODS[handler_call_details.method]
        request, response = MESSAGES[method.path]
        answer = filled(response())
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(
                lambda requests, _: [*requests] and answer, request.FromString, response.SerializeToString
            )
        return grpc.unary_unary_rpc_method_handler(lambda *_: answer, request.FromString, response.SerializeToString)


@pytest.fixture(scope="module")
def recorded() -> Iterator[Callable[[RpcMethod], Line]]:
    """Makes a call of an RPC, and returns its line."""
    lines: list[str] = []
    server = grpc.server(ThreadPoolExecutor(2), [Echo()], [CallInterceptor((AuditLog(lines.append, reads=False),))])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

        def call(method: RpcMethod) -> Line:
            lines.clear()
            kind = MESSAGES[method.path][0]
            request = filled(kind())
            if method.client_streaming:
                channel.stream_unary(method.path, kind.SerializeToString)(iter([request] * 2))
            else:
                channel.unary_unary(method.path, kind.SerializeToString)(request)
            (line,) = eventually(lambda: lines)
            found: Line = json.loads(line)
            return found

        yield call
    server.stop(None)


@pytest.mark.parametrize("path", WRITES)
def test_every_write(recorded: Callable[[RpcMethod], Line], path: str) -> None:
    """A call that changes something has one line, with type and id of its resource, and its name where it is known."""
    line = recorded(METHODS[path])
    kind = resource_type(METHODS[path])
    assert line["method"] == path.lstrip("/")
    assert line["code"] == "OK"
    assert (line["resource_type"], line["resource_id"]) == (kind, f"the {kind}_id")
    if kind == "pipeline_version":
        assert (line["resource_name"], line["parent_name"]) == ("the version_name", "the name")
    assert {"time", "request_id", "peer"} <= line.keys()
    assert "description" not in json.dumps(line)


class Audited:
    """A server with an audit log in a file."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.path = folder / "audit.jsonl"
        self.file = AppendedFile(str(self.path))
        loaded = Settings.load(config=None, **{"listen": "127.0.0.1:0", **settings})
        layer = AuditLog(self.file.write, reads=loaded.audit_reads)
        self.server = AdapterServer(loaded, [Scripted()], lambda: True, observers=[layer])

    def lines(self, count: int) -> list[Line]:
        """The lines, once there are so many."""
        return eventually(lambda: found if len(found := _lines(self.path)) >= count else [])

    @contextmanager
    def stub(self) -> Iterator[PipelineServiceStub]:
        """Runs the server, and calls it."""
        with self.server, grpc.insecure_channel(self.server.address) as channel:
            yield PipelineServiceStub(channel)
        self.file.close()


def _lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_who_and_what(tmp_path: Path) -> None:
    """Refused calls are recorded with the caller, as far as it is known; reads are not, secrets never."""
    audited = Audited(tmp_path, token_file=token_file(tmp_path, token_lines("reader")))
    request = pb.DeletePipelineRequest(name="지연 예측\n" + "x" * 1000, namespace="team")
    with audited.stub() as stub:
        stub.Get(pb.GetPipelineRequest(name="x"), metadata=bearer(TOKENS["reader"]))
        failure(lambda: stub.Delete(request, metadata=bearer(TOKENS["reader"])))
        failure(lambda: stub.Delete(request, metadata=bearer(TOKENS["unknown"])))
        denied, unknown = audited.lines(2)
    assert (denied["code"], denied["caller"], denied["caller_way"]) == ("PERMISSION_DENIED", "reader", "token-file")
    assert (unknown["code"], unknown.get("caller")) == ("UNAUTHENTICATED", None)
    assert denied["resource_name"].startswith("지연 예측\nx")
    assert len(denied["resource_name"]) == MAX_NAME + 1
    assert (denied["resource_type"], denied["namespace"]) == ("pipeline", "team")
    assert unknown["reason"] == "UNAUTHENTICATED"
    text = audited.path.read_text()
    assert not any(token in text for token in TOKENS.values())
    assert audited.path.stat().st_mode & 0o777 == 0o600


def test_reads_are_a_setting(tmp_path: Path) -> None:
    """With audit_reads, calls that only read have lines, too."""
    audited = Audited(tmp_path, audit_log=str(tmp_path / "audit.jsonl"), audit_reads=True)
    with audited.stub() as stub:
        stub.Get(pb.GetPipelineRequest(name="x"))
        (line,) = audited.lines(1)
    assert (line["method"], line["resource_name"]) == ("kfadapter.v1.PipelineService/Get", "x")


def test_a_moved_file_is_made_anew(tmp_path: Path) -> None:
    """After a rotation, lines go into a new file."""
    path = tmp_path / "audit"
    file = AppendedFile(str(path))
    file.write("1\n")
    path.rename(tmp_path / "audit.1")
    file.write("2\n")
    file.close()
    assert ((tmp_path / "audit.1").read_text(), path.read_text(), file.lost) == ("1\n", "2\n", 0)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that cannot be written are counted, and a torn one does not spoil the next."""
    path, write = tmp_path / "audit", os.write
    room = [4]

    def full(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", full)
    file = AppendedFile(str(path))
    for text in ("12345\n", "6\n7\n"):
        file.write(text)
    monkeypatch.setattr(os, "write", write)
    file.write("8\n")
    file.close()
    assert (path.read_text().splitlines(), file.lost) == (["1234", "8"], 3)

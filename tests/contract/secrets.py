"""A setup in which secrets are planted: an adapter, a scripted KFP, and everything that could be read from outside."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import grpc
from tests.contract.running import eventually
from tests.scripted_kfp import Connection, Received, ScriptedKfp, answers

from kfadapter.v1 import pipeline_pb2, recurring_run_pb2, run_pb2
from kfadapter_grpc.methods import MESSAGES, METHOD_OF_REQUEST, METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from google.protobuf.message import Message
    from tests.scripted_kfp import Behaviour
    from typing_extensions import Self

    from kfadapter_grpc.methods import RpcMethod

Metadata = tuple[tuple[str, str | bytes], ...]

SERVE = """
import sys
from kfadapter_grpc.server import run
from kfadapter_grpc.services.experiments import ExperimentServicer
from kfadapter_grpc.settings import Settings


def fail(self, request, context):
    if request.name.startswith("text "):
        raise RuntimeError(request.name)
    if request.name.startswith("exit "):
        sys.exit(request.name)
    secret = request.name
    raise RuntimeError("a fault")


ExperimentServicer.Create = fail
sys.exit(run(Settings.load()))
"""
"""An adapter with one servicer that fails as was not foreseen."""

ID = "77777777-7777-4777-8777-777777777777"
"""The id of everything."""
CALL_SECONDS = 10.0
WATCH_SECONDS = 0.2
"""A watch is given up then: it would continue indefinitely."""


@dataclass
class Stage:
    """The setup; a context manager.

    Attributes:
        folder: A folder for files.
        reported: What clients received, in every form that they can see.
        behaviour: How KFP responds to everything but health checks.
    """

    folder: Path
    environment: Mapping[str, str]
    reported: list[str] = field(default_factory=list)
    behaviour: Behaviour = field(init=False)

    def clear(self) -> None:
        """Starts over: nothing has been received, and KFP fails."""
        self.reported.clear()
        self.kfp.requests.clear()
        self.behaviour = answers(500, {"code": 13, "message": "it failed"})
        self._log_begin = self._log_path.stat().st_size

    def __enter__(self) -> Self:
        self.kfp = ScriptedKfp()
        self.kfp.on("GET", "/healthz$", answers(200))
        for method in ("GET", "POST", "PATCH", "DELETE"):
            self.kfp.on(method, "", self._behave)
        self.kfp.__enter__()
        self._log_path, self._log_begin = self.folder / "log", 0
        variables = {
            "KFADAPTER_LISTEN": "127.0.0.1:0",
            "KFADAPTER_METRICS_LISTEN": "127.0.0.1:0",
            "KFADAPTER_KFP_URL": self.kfp.url,
            "KFADAPTER_LOG_LEVEL": "debug",
            "KFADAPTER_LOG_FORMAT": "json",
        }
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE],
                env={**os.environ, **self.environment, **variables},
                stdout=log,
                stderr=log,
            )
        serving = eventually(lambda: [line for line in self.log().splitlines() if '"serving"' in line])[0]
        self.address, self.metrics_address = (serving.split(f'"{name}": "')[1].split('"')[0] for name in _ADDRESSES)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self.kfp.__exit__(kind, error, trace)

    def log(self) -> str:
        """Everything that the adapter has logged since `clear`."""
        with self._log_path.open("rb") as log:
            log.seek(self._log_begin)
            return log.read().decode("utf-8", "replace")

    def metrics(self, path: str = "/metrics", headers: Mapping[str, str] | None = None) -> str:
        """What a scraper reads."""
        host, _, port = self.metrics_address.rpartition(":")
        with closing(HTTPConnection(host, int(port), timeout=CALL_SECONDS)) as connection:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return f"{answer.headers}{answer.read().decode()}"

    def asked(self) -> str:
        """Every request that KFP received."""
        return "".join(f"{one.method} {one.path} {one.headers} {one.body!r}\n" for one in self.kfp.requests)

    def call_all(self, metadata: Metadata = (), options: Sequence[tuple[str, str]] = ()) -> None:
        """Calls every RPC of the contract with a request that reaches KFP."""
        with self._channel(options) as channel, ThreadPoolExecutor(8) as callers:
            for done in [callers.submit(self._call, channel, one, metadata) for one in every_call()]:
                done.result()

    def call(self, *requests: Message, metadata: Metadata = ()) -> None:
        """Calls the RPC that the requests belong to."""
        with self._channel() as channel:
            self._call(channel, requests, metadata)

    def call_raw(self, data: bytes) -> None:
        """Calls every RPC with these bytes as the request."""
        with self._channel() as channel:
            for method in METHODS.values():
                self._send(channel, method, [data], (("x-request-id", uuid.uuid4().hex),))

    def hear(self, error: BaseException) -> None:
        """Records what a client can see of an error."""
        parts = [repr(error), str(error)]
        if isinstance(error, grpc.Call):
            parts += [f"{key}: {value!r}" for key, value in error.trailing_metadata() or ()]
            parts += [f"{key}: {value!r}" for key, value in error.initial_metadata() or ()]
        self.reported.append("\n".join(parts))

    def _channel(self, options: Sequence[tuple[str, str]] = ()) -> grpc.Channel:
        return grpc.insecure_channel(self.address, (*options, ("grpc.use_local_subchannel_pool", 1)))

    def _call(self, channel: grpc.Channel, requests: Sequence[Message], metadata: Metadata) -> None:
        method = METHOD_OF_REQUEST[requests[0].DESCRIPTOR.name]
        named: Metadata = () if any(key == "x-request-id" for key, _ in metadata) else (_name(),)
        self._send(channel, method, [one.SerializeToString() for one in requests], (*metadata, *named))

    def _send(self, channel: grpc.Channel, method: RpcMethod, requests: Sequence[bytes], metadata: Metadata) -> None:
        seconds = WATCH_SECONDS if method.endless else CALL_SECONDS
        shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        send = getattr(channel, shape)(method.path, request_serializer=bytes)
        request = iter(requests) if method.client_streaming else requests[0]
        try:
            answer = send(request, timeout=seconds, metadata=metadata)
            if method.server_streaming:
                list(answer)
        except grpc.RpcError as error:
            self.hear(error)
        names = [value for key, value in metadata if key == "x-request-id" and str(value).isalnum()]
        eventually(lambda: all(f'"{name!s}"' in self.log() for name in names))

    def _behave(self, connection: Connection, received: Received) -> bool:
        return self.behaviour(connection, received)


_ADDRESSES = ("address", "metrics")


def _name() -> tuple[str, str]:
    return "x-request-id", uuid.uuid4().hex


def every_call() -> Iterator[Sequence[Message]]:
    """The requests of a call of each RPC, with the fields needed to reach KFP."""
    for name in METHOD_OF_REQUEST:
        yield _SPECIAL.get(name) or [_filled(name)]


def upload(content: bytes, description: str = "") -> tuple[Message, Message]:
    """The requests of an upload."""
    head = pipeline_pb2.UploadPipelineMetadata(name="x", description=description)
    return pipeline_pb2.UploadPipelineRequest(metadata=head), pipeline_pb2.UploadPipelineRequest(chunk=content)


_SPECIAL: dict[str, Sequence[Message]] = {
    call[0].DESCRIPTOR.name: call
    for call in (
        upload(b"schemaVersion: 2.1.0\n"),
        [run_pb2.WatchRunsRequest(runs=run_pb2.RunIds(run_ids=[ID]))],
        [
            recurring_run_pb2.CreateRecurringRunRequest(
                pipeline_name="x", display_name="x", cron=recurring_run_pb2.CronSchedule(cron="0 0 * * * *")
            )
        ],
    )
}


def _filled(name: str) -> Message:
    """A message with a text in every field that names something; of fields that exclude each other, in one."""
    message = MESSAGES[METHOD_OF_REQUEST[name].path][0]()
    descriptor = message.DESCRIPTOR
    chosen: set[str] = set()
    for one in descriptor.fields:
        group = one.containing_oneof.name if one.containing_oneof else one.name
        names = one.name in {"name", "task", "display_name"} or one.name.endswith("_id")
        if names and group not in chosen:
            setattr(message, one.name, ID if one.name.endswith("_id") else "x")
            chosen.add(group)
    return message


def forms(secret: str) -> set[str]:
    """The forms that a secret may take: plain, hexadecimal, or base64 at any offset."""
    data = secret.encode()
    padded = (base64.b64encode(bytes(count) + data).decode() for count in range(3))
    return {secret, data.hex(), *(text[4:-4] for text in padded)}

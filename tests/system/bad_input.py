"""Requests that no program would send, and files that are made to hurt."""

from __future__ import annotations

import math
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
from benchmarks.pipeline_text import KIB
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from tests.hostile_files import HOSTILE
from tests.system.calls import call, serialized
from tests.system.records import ids_and_names
from tests.system.scenario import Finding, Scenario, Stage, Use, at_least, at_most, exactly, grown, none, shown

from kfadapter.v1 import pipeline_pb2
from kfadapter_embedded.process import start
from kfadapter_grpc.client import Client, HealthStatus
from kfadapter_grpc.methods import METHODS, CallKind

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

MUTATIONS = 4
"""How many requests are made of each generated one by changing its bytes."""
CALLS_AT_ONCE = 8
CALL_SECONDS = 15.0
"""By when every call must have ended."""
STREAM_SECONDS = 0.1
"""How long streams, which need not end, are read."""
_NEVER = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "CANCELLED"})
_UPLOAD = "/kfadapter.v1.PipelineService/Upload"
_TEXTS = (
    "",
    "0",
    "..",
    "../../etc/passwd",
    "학습",
    "%2F",
    "a/b",
    "\0",
    "00000000-0000-4000-8000-0",
    "%",
    "a" * 300,
    "𝔘\u202e\u0300",
)
_NUMBERS = (0, 1, -1, 7, 9, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**32 - 1, 2**64 - 1)
_FLOATS = (0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, 1e308, 5e-324)
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


class Requests:
    """Makes requests from descriptors; half of all texts in them are known names and ids, which mean something."""

    def __init__(self, known: Sequence[str], chance: random.Random) -> None:
        self._known, self._chance = known, chance

    def of(self, path: str) -> bytes:
        """A serialized request of an RPC."""
        service, _, name = path.removeprefix("/").partition("/")
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        return self._message(method.input_type, 4).SerializeToString()

    def _message(self, descriptor: Descriptor, depth: int) -> Message:
        message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._chance.randrange(3) or not (depth or field.message_type is None):
                continue
            filled, times = getattr(message, field.name), range(self._chance.randint(0, 3))
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
                for named in [self._value(key, depth) for _ in times]:
                    if value.message_type is None:
                        filled[named] = self._value(value, depth)
                    else:
                        filled[named].CopyFrom(self._value(value, depth - 1))
            elif field.is_repeated:
                filled.extend(self._value(field, depth - 1) for _ in times)
            elif field.message_type is not None:
                filled.CopyFrom(self._value(field, depth - 1))
            else:
                setattr(message, field.name, self._value(field, depth))
        return message

    def _value(self, field: FieldDescriptor, depth: int) -> Any:  # noqa: ANN401 - what the field takes
        chance = self._chance
        if field.message_type is not None:
            return self._message(field.message_type, max(depth, 0))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.randint(0, 200))
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return chance.choice(chance.choice((self._known, _TEXTS)))
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        if field.cpp_type in _BITS:
            least, most = _BITS[field.cpp_type]
            fitting = [one for one in _NUMBERS if least <= one <= most]
            return chance.choice((chance.choice(fitting), chance.randint(least, most), chance.randint(0, 9)))
        return chance.choice(_FLOATS)

    def mutated(self, data: bytes) -> bytes:
        """Changes, drops, doubles or adds some bytes."""
        changed, chance = bytearray(data or b"\x0a"), self._chance
        for _ in range(chance.randint(1, 4)):
            at, size = chance.randrange(len(changed)), chance.randint(1, 8)
            match chance.randrange(4):
                case 0:
                    changed[at] = chance.randrange(256)
                case 1:
                    del changed[at : at + size]
                case 2:
                    changed[at:at] = changed[at : at + size]
                case _:
                    changed[at:at] = chance.randbytes(size)
            changed = changed or bytearray(b"\xff")
        return bytes(changed)


class Senders:
    """Sends requests, some at a time, and notes how they end; `with` waits for all of them."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.ends: Counter[str] = Counter()
        self.wrong: dict[str, str] = {}
        self.slowest = 0.0
        self._channel = channel
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(CALLS_AT_ONCE * 2)
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE)

    def __enter__(self) -> Senders:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def send(self, path: str, *sent: bytes, what: str = "") -> None:
        """Sends a request as soon as there is a thread for it."""
        self._slots.acquire()
        self._threads.submit(self._send, path, sent, what or sent[0][:60].hex())

    def _send(self, path: str, sent: tuple[bytes, ...], what: str) -> None:
        stream = METHODS[path].kind is CallKind.STREAM
        ended = call(self._channel, path, sent, STREAM_SECONDS if stream else CALL_SECONDS)
        with self._lock:
            self.ends[ended.code] += 1
            self.slowest = max(self.slowest, ended.seconds)
            if ended.code in _NEVER or (ended.code == "DEADLINE_EXCEEDED" and not stream):
                self.wrong[f"{path} {ended.code} {ended.reason} {ended.message[:160]}"] = what
        self._slots.release()


def run(stage: Stage) -> Iterator[Finding]:
    """Sends generated requests of every RPC, and hostile files."""
    count = stage.scaled(100_000, 5_000)
    with ExitStack() as stack:
        kfp = stack.enter_context(start(stage.folder / "kfp"))
        adapter = stage.adapter(stack, kfp.url)
        requests = Requests(ids_and_names(adapter.target), stage.chance("requests"))
        channel = stack.enter_context(grpc.insecure_channel(adapter.target))
        _generated(channel, requests, count // 10)  # what grows at first
        before = Use.of(adapter.pid)
        generated, files = _generated(channel, requests, count), _hostile(channel)
        growth = list(
            grown(adapter.pid, before, memory=96, threads=16, files=16)
        )  # 96: what is kept of the largest files
        with Client(adapter.target) as client:
            serves = (
                adapter.alive()
                and client.health() is HealthStatus.SERVING
                and next(client.pipelines.list(), None) is not None
            )
    yield at_least("generated requests", generated.ends.total(), count)
    yield shown("of these that were answered with what was requested", generated.ends["OK"])
    yield none("generated requests that ended as none may", generated.wrong)
    yield at_most("slowest of them", generated.slowest, CALL_SECONDS, "s")
    yield at_least("hostile files", files.ends.total(), 40)
    yield none("hostile files that ended as none may", files.wrong)
    yield at_most("slowest of them", files.slowest, CALL_SECONDS, "s")
    yield exactly("adapter serves afterwards", serves, expected=True)
    yield from growth


def _generated(channel: grpc.Channel, requests: Requests, count: int) -> Senders:
    with Senders(channel) as senders:
        for path in METHODS:
            for _ in range(-(-count // (len(METHODS) * (1 + MUTATIONS)))):
                senders.send(path, request := requests.of(path))
                for _mutation in range(MUTATIONS):
                    senders.send(path, requests.mutated(request))
    return senders


def _hostile(channel: grpc.Channel) -> Senders:
    with Senders(channel) as senders:
        for number, (what, make) in enumerate(HOSTILE.items()):
            data, metadata = make(), pipeline_pb2.UploadPipelineMetadata(name=f"hostile-{number}")
            pieces = (data[at : at + KIB * KIB] for at in range(0, len(data), KIB * KIB))
            messages = [pipeline_pb2.UploadPipelineRequest(metadata=metadata)]
            messages += (pipeline_pb2.UploadPipelineRequest(chunk=piece) for piece in pieces)
            senders.send(_UPLOAD, *serialized(*messages), what=what)
    return senders


SCENARIO = Scenario(
    "bad-input",
    "No request and no file, however made, crashes or holds the adapter, or gets an answer without a reason.",
    "broken HTTP/2 frames: they are gRPC's own; what Kubeflow Pipelines itself makes of hostile files, the embedded "
    "one excepted.",
    run,
)

"""Requests that no real client sends, files made to do harm, and calls that are cancelled while KFP processes them."""

from __future__ import annotations

import base64
import queue
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from tests.hostile_files import HOSTILE
from tests.scripted_kfp import ScriptedKfp
from tests.system import between
from tests.system.load import OK, begin, call
from tests.system.records import HELLO, NAME, one_of_each, request, upload
from tests.system.scenario import Finding, Stage, Use, at_least, at_most, exactly, grown, none, scenario, shown

from kfadapter_grpc.client import Client, HealthStatus
from kfadapter_grpc.methods import MESSAGES, METHODS, CallKind

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence

    from google.protobuf.message import Message
    from tests.scripted_kfp import Connection, Received
    from tests.system.load import Outcome

MUTATIONS = 4
"""How many requests are made of each generated one by changing its bytes."""
CALLS_AT_ONCE = 8
CALL_SECONDS = 15.0
"""By when every call must have ended."""
STREAM_SECONDS = 0.1
"""How long streams, which need not end, are read."""
_TEXTS = (
    "", "0", "..", "../../etc/passwd", "학습", "%2F", "a/b", "\0", "00000000-0000-4000-8000-0", "%", "a" * 300,
    "𝔘\u202e\u0300",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 7, 9, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**32 - 1, 2**64 - 1)
_FLOATS = (0.0, -0.0, 1.5, float("nan"), float("inf"), float("-inf"), 1e308, 5e-324)


class _Requests:
    """Makes requests from descriptors; half of all texts in them are known names and ids, which refer to something."""

    def __init__(self, known: Sequence[str], chance: random.Random) -> None:
        self._known, self._chance = known, chance

    def of(self, kind: type[Message], depth: int = 4) -> bytes:
        """A serialized message, with a third of its fields."""
        chance, made = self._chance, b""
        for field in kind.DESCRIPTOR.fields:
            if not chance.randrange(3) and (depth or field.message_type is None):
                for _ in range(chance.randint(0, 3) if field.is_repeated else 1):
                    made += self._field(field, depth)  # type: ignore[arg-type] # one class by two names
        return made

    def _field(self, field: FieldDescriptor, depth: int) -> bytes:
        chance, key = self._chance, field.number << 3
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            return _varint(key | 1) + struct.pack("<d", chance.choice(_FLOATS))
        if field.message_type is not None:
            data = self.of(GetMessageClass(field.message_type), depth - 1)
        elif field.type == FieldDescriptor.TYPE_STRING:
            data = chance.choice(chance.choice((self._known, _TEXTS))).encode()
        elif field.type == FieldDescriptor.TYPE_BYTES:
            data = chance.randbytes(chance.randint(0, 200))
        else:  # integers, enums and booleans
            return _varint(key) + _varint(chance.choice((chance.choice(_NUMBERS), chance.randint(0, 9))))
        return _varint(key | 2) + _varint(len(data)) + data

    def mutated(self, data: bytes) -> bytes:
        """Changes, drops, duplicates or inserts some bytes."""
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


def _varint(number: int) -> bytes:
    number, made = number % 2**64, bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request, its description, and how its call ended."""

    path: str
    what: str
    ended: Outcome

    @property
    def wrong(self) -> bool:
        """Whether no call may end like this."""
        late = self.ended.code == "DEADLINE_EXCEEDED" and METHODS[self.path].kind is not CallKind.STREAM
        return late or self.ended.code in {"UNKNOWN", "INTERNAL", "UNAVAILABLE", "CANCELLED"}


def _send(channel: grpc.Channel, path: str, requests: Mapping[str, Sequence[Message | bytes]]) -> list[_Sent]:
    """Calls an RPC with requests by their descriptions, several at a time."""
    seconds = STREAM_SECONDS if METHODS[path].kind is CallKind.STREAM else CALL_SECONDS
    with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
        ended = threads.map(lambda sent: call(channel, path, sent, seconds), requests.values())
        return [_Sent(path, *one) for one in zip(requests, ended, strict=True)]


def _generated(channel: grpc.Channel, requests: _Requests, count: int) -> list[_Sent]:
    """Calls every RPC with generated requests."""
    sent: list[_Sent] = []
    for path, (kind, _) in MESSAGES.items():
        made = [requests.of(kind) for _ in range(-(-count // (len(MESSAGES) * (1 + MUTATIONS))))]
        made += [requests.mutated(one) for one in made for _ in range(MUTATIONS)]
        sent += _send(channel, path, {f"{number}: {one[:60].hex()}": [one] for number, one in enumerate(made)})
    return sent


def _findings(what: str, least: int, sent: Sequence[_Sent]) -> Iterator[Finding]:
    yield at_least(what, len(sent), least)
    wrong = {
        f"{one.path} {one.ended.code} {one.ended.reason} {one.ended.message[:160]}": one.what
        for one in sent
        if one.wrong
    }
    yield none(f"{what} that ended as none may", wrong)
    yield at_most("slowest of them", max(one.ended.seconds for one in sent), CALL_SECONDS, "s")


@scenario(
    not_covered="broken HTTP/2 frames: they are gRPC's own; what Kubeflow Pipelines itself makes of hostile files, the "
    "embedded one excepted."
)
def bad_input(stage: Stage) -> Iterator[Finding]:
    """No request and no file crashes or blocks the adapter, or gets an error without a reason."""
    count = stage.scaled(100_000, 5_000)
    adapter = stage.adapter(stage.embedded(stage.folder / "kfp").url)
    messages = (message for sent in one_of_each(adapter.target).values() for message in sent)
    known = [NAME, *(text for message in messages for _, text in message.ListFields() if isinstance(text, str))]
    requests = _Requests(known, stage.chance("requests"))
    channel = stage.enter(grpc.insecure_channel(adapter.target))
    _generated(channel, requests, count // 10)  # the warm-up
    before = Use.of(adapter.pid)
    generated = _generated(channel, requests, count)
    hostile = {what: upload(make(), f"hostile-{number}") for number, (what, make) in enumerate(HOSTILE.items())}
    files = _send(channel, "/kfadapter.v1.PipelineService/Upload", hostile)
    # Memory for the largest files; two pools of 32 threads, which fill with time, each with a connection to KFP.
    growth = list(grown(adapter.pid, before, memory=96, threads=80, files=80))
    with Client(adapter.target) as client:
        healthy = adapter.alive() and client.health() is HealthStatus.SERVING
        serves = healthy and next(client.pipelines.list(), None) is not None
    yield from _findings("generated requests", count, generated)
    yield shown("of these that were answered with what was requested", sum(one.ended.code == OK for one in generated))
    yield from _findings("hostile files", 40, files)
    yield exactly("adapter serves afterwards", serves, expected=True)
    yield from growth


STOP_SECONDS = 0.25
"""Within how many seconds after a cancellation the connection to KFP must be closed."""
WAIT_SECONDS = 20
_ID = "00000000-0000-4000-8000-000000000000"
_FILE = base64.b64encode(HELLO.read_bytes()).decode()
CANCELLED: tuple[tuple[str, tuple[dict[str, Any], ...]], ...] = (
    ("PipelineService/Get", ({"name": "slow"},)),
    ("PipelineService/List", ({},)),
    ("PipelineService/Delete", ({"pipeline_id": _ID, "force": True},)),
    ("PipelineService/Upload", ({"metadata": {"name": "new"}}, {"chunk": _FILE})),
    ("PipelineService/Download", ({"name": "slow"},)),
    ("RunService/Get", ({"run_id": _ID},)),
    ("RunService/Create", ({"pipeline_name": "slow", "request_id": "slow"},)),
    ("RunService/ReadLogs", ({"run_id": _ID, "task": "slow"},)),
)
"""Calls of each kind."""


class _Cancels:
    """Cancels calls while KFP, which never responds, is processing them."""

    def __init__(self, stage: Stage) -> None:
        self.stopped: list[float] = []
        self.endless = 0
        self.others: list[str] = []
        self.kfp = stage.enter(ScriptedKfp())
        for method in between.METHODS:
            self.kfp.on(method, "", self._hold)
        self._chance = stage.chance("pauses")
        self._held: dict[str, queue.SimpleQueue[float]] = {}

    def _hold(self, connection: Connection, received: Received) -> bool:
        """Records when the first request of a call arrives, and when its connection is closed."""
        times: queue.SimpleQueue[float] = self._held.pop(between.call_of(received), queue.SimpleQueue())
        times.put(time.monotonic())
        connection.sock.recv(1)
        times.put(time.monotonic())
        return False

    def cancel(self, channel: grpc.Channel, number: int) -> None:
        """Begins a call, waits until its request has reached KFP, waits a little, and cancels it."""
        (rpc, fields), request_id = CANCELLED[number % len(CANCELLED)], f"cancels-{number}"
        path, times = f"/kfadapter.v1.{rpc}", queue.SimpleQueue[float]()
        self._held[request_id] = times
        call = begin(channel, path, [request(path, **one) for one in fields], WAIT_SECONDS, request_id)
        try:
            times.get(timeout=WAIT_SECONDS)
            time.sleep(self._chance.uniform(0, 0.02))
            began = time.monotonic()
            if not call.cancel():
                raise queue.Empty
        except queue.Empty:
            self.others.append(f"{rpc}: {call.code()} {call.details()}")
            return
        try:
            self.stopped.append(times.get(timeout=WAIT_SECONDS) - began)
        except queue.Empty:
            self.endless += 1


@scenario(
    not_covered="what KFP itself goes on doing for a request whose connection is closed; the looks after a change that "
    "was broken off, which have a budget of their own."
)
def cancels(stage: Stage) -> Iterator[Finding]:
    """When a client cancels a call, the adapter closes the connection to KFP at once, and no resources leak."""
    count, first, made = stage.scaled(2_000, 200), CALLS_AT_ONCE * 4, _Cancels(stage)
    adapter = stage.adapter(made.kfp.url)
    channel = stage.enter(grpc.insecure_channel(adapter.target))
    with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
        list(threads.map(made.cancel, [channel] * first, range(first)))  # the warm-up
        before = Use.of(adapter.pid)
        list(threads.map(made.cancel, [channel] * count, range(first, count)))
    growth = list(grown(adapter.pid, before, memory=16, threads=4, files=4))
    yield at_least("calls cancelled while KFP was at work", len(made.stopped), count - len(made.others))
    yield none("calls that KFP was not asked for, or that had ended", made.others)
    yield none("calls whose work went on in KFP", made.endless)
    longest, bound = max(made.stopped, default=0), STOP_SECONDS * stage.slack
    yield at_most("longest time until KFP's work was let go", longest, bound, "s")
    yield from growth

"""One malformed record never hides the others: kinds of records by RPCs, on a real server, within gRPC's limits."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import grpc
import pytest
import structlog
from tests.connecting import connect
from tests.contract.running import WAIT_SECONDS, eventually, failure
from tests.malformed_records import BAD, ODD, SOUND, Odd, OddKfp, shows
from tests.notices.boxes import KEEP, box
from tests.scripted_kfp import answers

from kfadapter.v1 import common_pb2, experiment_pb2, pipeline_pb2, recurring_run_pb2, run_pb2
from kfadapter.v1.experiment_pb2_grpc import ExperimentServiceStub
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter.v1.recurring_run_pb2_grpc import RecurringRunServiceStub
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from kfadapter_grpc.client import Client
from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.recurring_runs import CronSchedule
from kfadapter_grpc.metrics.catalog import WATCHES
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.services.experiments import ExperimentServicer
from kfadapter_grpc.services.pipelines import PipelineServicer
from kfadapter_grpc.services.recurring_runs import RecurringRunServicer
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.watch.poller import WatchPoller
from kfadapter_oran.notices.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from google.protobuf.message import Message


@dataclass(frozen=True)
class Adapter:
    """An adapter in front of a KFP with a malformed record, and a client that accepts messages of 4 MiB."""

    kfp: OddKfp
    watches: WatchPoller
    address: str
    channel: grpc.Channel


@contextlib.contextmanager
def _adapter() -> Iterator[Adapter]:
    """The adapter, with all of its services."""
    with contextlib.ExitStack() as stack:
        kfp = OddKfp()
        backend = stack.enter_context(contextlib.closing(connect(stack.enter_context(kfp.server).url)))
        watches = stack.enter_context(contextlib.closing(WatchPoller(backend.runs)))
        servicers: list[object] = [
            RunServicer(backend.runs, watches=watches, logs=backend.run_logs),
            RecurringRunServicer(backend.recurring_runs),
            PipelineServicer(backend.pipelines, UploadLimits()),
            ExperimentServicer(backend.experiments),
        ]
        settings = Settings.load(config=None, listen="127.0.0.1:0")
        server = stack.enter_context(AdapterServer(settings, servicers, lambda: True))
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        yield Adapter(kfp, watches, server.address, channel)


@pytest.fixture
def adapter() -> Iterator[Adapter]:
    """An adapter for one test only."""
    with _adapter() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Adapter]:
    """An adapter for tests that change only which record is odd."""
    with _adapter() as made:
        yield made


def _get_run(adapter: Adapter, view: common_pb2.View.ValueType = common_pb2.VIEW_BASIC) -> list[Message]:
    stub = RunServiceStub(adapter.channel)
    return [stub.Get(run_pb2.GetRunRequest(run_id=one, view=view)) for one in (BAD, SOUND)]


def _watch(adapter: Adapter, request: run_pb2.WatchRunsRequest, known: int = 2) -> list[Message]:
    events = RunServiceStub(adapter.channel).Watch(request, timeout=WAIT_SECONDS)
    changed = (event.changed.run for event in events if event.HasField("changed"))
    try:
        return list(islice(changed, known))
    finally:
        events.cancel()
        eventually(lambda: adapter.watches.figures()[WATCHES] == 0)  # the cached runs are dropped with the last watch


def _pages(ask: Callable[..., Message], request: Message, field: str) -> list[Message]:
    """All records of a listing; large ones are on pages of their own."""
    found: list[Message] = []
    while True:
        page = ask(request)
        found += getattr(page, field)
        if not page.next_page_token:  # type: ignore[attr-defined]
            return found
        request.page_token = page.next_page_token  # type: ignore[attr-defined]


def _get_experiments(adapter: Adapter) -> list[Message]:
    stub = ExperimentServiceStub(adapter.channel)
    return [stub.Get(experiment_pb2.GetExperimentRequest(experiment_id=one)) for one in (BAD, SOUND)]


def _get_recurring(adapter: Adapter) -> list[Message]:
    stub = RecurringRunServiceStub(adapter.channel)
    return [stub.Get(recurring_run_pb2.GetRecurringRunRequest(recurring_run_id=one)) for one in (BAD, SOUND)]


def _get_pipelines(adapter: Adapter) -> list[Message]:
    stub = PipelineServiceStub(adapter.channel)
    return [stub.Get(pipeline_pb2.GetPipelineRequest(pipeline_id=one)) for one in (BAD, SOUND)]


def _versions(adapter: Adapter, view: common_pb2.View.ValueType) -> list[Message]:
    request = pipeline_pb2.ListPipelineVersionsRequest(pipeline_id=SOUND, view=view)
    return _pages(PipelineServiceStub(adapter.channel).ListVersions, request, "versions")


RPCS: dict[str, Callable[[Adapter], Sequence[Message]]] = {
    "RunService/Get": _get_run,
    "RunService/Get FULL": lambda adapter: _get_run(adapter, common_pb2.VIEW_FULL),
    "RunService/List": lambda adapter: _pages(RunServiceStub(adapter.channel).List, run_pb2.ListRunsRequest(), "runs"),
    "RunService/Watch": lambda adapter: _watch(
        adapter, run_pb2.WatchRunsRequest(runs=run_pb2.RunIds(run_ids=[BAD, SOUND]))
    ),
    "RunService/Watch tasks": lambda adapter: _watch(
        adapter, run_pb2.WatchRunsRequest(filter=run_pb2.RunFilter(), tasks=True)
    ),
    "RecurringRunService/Get": _get_recurring,
    "RecurringRunService/List": lambda adapter: _pages(
        RecurringRunServiceStub(adapter.channel).List,
        recurring_run_pb2.ListRecurringRunsRequest(),
        "recurring_runs",
    ),
    "PipelineService/Get": _get_pipelines,
    "PipelineService/List": lambda adapter: _pages(
        PipelineServiceStub(adapter.channel).List, pipeline_pb2.ListPipelinesRequest(), "pipelines"
    ),
    "PipelineService/ListVersions": lambda adapter: _versions(adapter, common_pb2.VIEW_BASIC),
    "PipelineService/ListVersions FULL": lambda adapter: _versions(adapter, common_pb2.VIEW_FULL),
    "ExperimentService/Get": _get_experiments,
    "ExperimentService/List": lambda adapter: _pages(
        ExperimentServiceStub(adapter.channel).List, experiment_pb2.ListExperimentsRequest(), "experiments"
    ),
}
"""Each asks for the malformed record and the sound one."""
_MADE_OF = {
    "display_name": ("name", "experiment_name"),
    "description": ("labels",),
    "created_at": ("cron", "computed_next_start_at"),
    "mode": ("enabled", "computed_next_start_at"),
    "runtime_config": ("parameters",),
    "run_details": ("tasks",),
}
"""What the adapter makes of KFP's fields, besides those of the same name."""
_IDS = ("run_id", "recurring_run_id", "pipeline_version_id", "pipeline_id", "experiment_id")
_ABOUT_RUNS = ("RunService/Get", "RunService/List", "RunService/Watch")
_WITH_VALUES = (*_ABOUT_RUNS, "RecurringRunService/")


def _id(record: Message) -> str:
    known = {field.name for field, _ in record.ListFields()}
    return str(getattr(record, next(name for name in _IDS if name in known)))


def _sorted(records: Sequence[Message]) -> dict[str, Message]:
    found = {_id(one): one for one in records}
    assert len(found) == len(records)
    return found


CASES = [(kind, rpc) for kind, odd in ODD.items() for rpc in RPCS if shows(odd, rpc)]


@pytest.mark.parametrize(("kind", "rpc"), CASES)
def test_a_record_is_isolated(shared: Adapter, kind: str, rpc: str) -> None:
    """The sound record is complete beside the malformed one, which has all that can be converted; the rest is named."""
    shared.kfp.odd = Odd()
    usual = _sorted(RPCS[rpc](shared))
    odd = shared.kfp.odd = ODD[kind]
    found = _sorted(RPCS[rpc](shared))
    assert found.keys() == {BAD, SOUND}
    assert found[SOUND] == usual[SOUND]
    bad = found[BAD]
    assert bad.ByteSize() < 4 * 1024 * 1024
    if odd.fields:
        _is_whole_but_for(bad, usual[BAD], odd)
    else:
        _is_whole_but_for_the_value(bad, usual[BAD], odd, rpc)
    if rpc.startswith(_ABOUT_RUNS):
        warned = "\n".join(bad.warnings)  # type: ignore[attr-defined]
        assert odd.warns in warned
        assert bool(warned) is bool(odd.warns), warned
        assert len(warned) < 10_000


def _is_whole_but_for(bad: Message, usual: Message, odd: Odd) -> None:
    """Fields that are not made of the malformed ones have their usual values."""
    made = {name for field in odd.fields for name in (field, *_MADE_OF.get(field, ()))}
    for field, value in usual.ListFields():
        if field.name not in {*made, "warnings", "etag"}:
            assert getattr(bad, field.name) == value, field.name


def _is_whole_but_for_the_value(bad: Message, usual: Message, odd: Odd, rpc: str) -> None:
    if rpc.startswith(_WITH_VALUES):
        assert bad.parameters["epochs"] == 3  # type: ignore[attr-defined]
        if odd.shown is not None:
            assert bad.parameters["x"] == odd.shown  # type: ignore[attr-defined]
    if rpc != "PipelineService/ListVersions FULL":
        assert _without_values(bad) == _without_values(usual)


def _without_values(record: Message) -> Message:
    made = type(record)()
    made.CopyFrom(record)
    for name in ("parameters", "tasks", "metrics", "warnings"):
        if name in record.DESCRIPTOR.fields_by_name:
            made.ClearField(name)
    return made


@pytest.mark.parametrize("kind", ODD)
def test_notices_continue(shared: Adapter, tmp_path: Path, kind: str) -> None:
    """Both runs of a training job are seen to have finished, whatever the malformed one contains."""
    shared.kfp.odd = ODD[kind]
    with box(tmp_path / "box.sqlite") as kept, Client(shared.address) as client:
        Watcher(client, kept.outbox, KEEP, lambda: None).compare()
        seen = {run_id for run_id, state, _ in kept.notices if state == "SUCCEEDED"}
    assert SOUND in seen
    assert BAD in seen or {"description", "state", "finished_at"} & ODD[kind].fields.keys()


@pytest.mark.parametrize("kind", ["150 lists", "3000 objects"])
def test_what_is_nested_is_there_as_json(adapter: Adapter, kind: str) -> None:
    """The text in place of a value nested too deeply is its JSON."""
    adapter.kfp.odd = ODD[kind]
    part: object = RPCS["RunService/Get"](adapter)[0].parameters["x"]  # type: ignore[attr-defined]
    depth = 0
    while not isinstance(part, str):
        part = part[0] if kind == "150 lists" else part["키"]  # type: ignore[index]
        depth += 1
    if kind == "150 lists":
        assert (depth, part) == (45, "[" * 105 + "1" + "]" * 105)
    else:
        assert (depth, part.startswith('{"키":{"키":{')) == (30, True)


def test_outputs_are_named(adapter: Adapter) -> None:
    """Outputs of a task that cannot be converted are named with the task, in the run's warnings."""
    adapter.kfp.odd = ODD["NaN"]
    run = RPCS["RunService/Get FULL"](adapter)[0]
    assert list(run.warnings) == [  # type: ignore[attr-defined]
        "parameters.x: not a finite 64-bit number; shown as text",
        "tasks.train.outputs.m.artifacts.m.metadata.x: not a finite 64-bit number; shown as text",
        "tasks.train.outputs.x: not a finite 64-bit number; shown as text",
    ]


def test_a_record_without_an_id(adapter: Adapter) -> None:
    """It is left out of a list, which is logged once; Get of it is KFP_ERROR that names the missing field."""
    adapter.kfp.odd = Odd(fields={"run_id": ""})
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert list(_sorted(RPCS["RunService/List"](adapter))) == [SOUND]
    assert len([line for line in logs if line["log_level"] == "warning" and "skipping" in line["event"]]) == 1
    found = failure(lambda: _get_run(adapter))
    assert (found.reason, "get run: $.run_id is missing" in found.message) == ("KFP_ERROR", True)


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if "Watch" not in rpc])
@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"runs": [{"run_id": "', "line 1 column"),
        (b"no JSON", "line 1 column 1"),
        (b"[" * 100, "line 1 column"),
        (b"[1]", "$ is not an object"),
    ],
)
def test_a_response_that_cannot_be_decoded(adapter: Adapter, rpc: str, body: bytes, where: str) -> None:
    """It is KFP_ERROR with the position, never KFP_UNAVAILABLE."""
    adapter.kfp.server.first("GET", "^/", answers(200, body))
    found = failure(lambda: RPCS[rpc](adapter))
    assert (found.reason, where in found.message) == ("KFP_ERROR", True), found.message


def test_a_page_never_passes_what_callers_accept(adapter: Adapter) -> None:
    """A listing of large runs is split into pages by size, so that a client with gRPC's defaults gets all of them."""
    adapter.kfp.odd = ODD["4 MiB of text"]
    request = run_pb2.ListRunsRequest()
    sizes = []
    while True:
        page = RunServiceStub(adapter.channel).List(request)
        sizes.append(page.ByteSize())
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert len(sizes) == 2
    assert max(sizes) < 4 * 1024 * 1024


@pytest.mark.parametrize("depth", [46, 49, 150, 5000])
def test_a_run_that_could_not_be_returned_is_not_created(adapter: Adapter, depth: int) -> None:
    """Parameters nested too deeply are INVALID_FIELD before KFP is called, even those that protobuf cannot parse."""
    opening, closing = b"\x32", b""  # a Value with a list_value
    value = b"\x20\x01"
    for _ in range(depth):
        listed = b"\x0a" + _length(value) + value
        value = opening + _length(listed) + listed + closing
    entry = b"\x0a\x01x\x12" + _length(value) + value
    struct = b"\x0a" + _length(entry) + entry
    create: grpc.UnaryUnaryMultiCallable[bytes, bytes] = adapter.channel.unary_unary("/kfadapter.v1.RunService/Create")
    found = failure(lambda: create(b"\x12\x01p\x3a" + _length(struct) + struct))
    assert (found.reason, "nested" in found.message) == ("INVALID_FIELD", True)
    assert [field.startswith("parameters.x[0]") for field, _ in found.violations] == [True]
    assert adapter.kfp.server.requests == []


def _length(data: bytes) -> bytes:
    """The length, as a varint."""
    size, made = len(data), b""
    while size > 127:
        made += bytes([size & 127 | 128])
        size >>= 7
    return made + bytes([size])


@pytest.mark.parametrize("create", ["create_run", "create_recurring_run"])
@pytest.mark.parametrize(
    ("value", "path"),
    [
        (float("nan"), "parameters.x"),
        ([1, {"a": float("inf")}], "parameters.x[1].a"),
        ({"y": [2**53 + 1]}, "parameters.x.y[0]"),
        ("값\ud800", "parameters.x"),
    ],
)
def test_the_library_names_the_path(adapter: Adapter, create: str, value: object, path: str) -> None:
    """What the wire cannot represent is INVALID_FIELD with its path, before anything is sent."""
    schedule = {"schedule": CronSchedule("@daily")} if create == "create_recurring_run" else {}
    with Client(adapter.address) as client, pytest.raises(InvalidFieldError) as caught:
        getattr(client, create)(pipeline_name="p", parameters={"x": value}, **schedule)
    assert [violation.field for violation in caught.value.violations] == [path]
    assert adapter.kfp.server.requests == []

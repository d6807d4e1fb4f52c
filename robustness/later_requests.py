"""Calls that take several requests to KFP, so that a fault may begin in the middle of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import grpc
from benchmarks.processes import Adapter

from kfadapter.v1 import pipeline_pb2, run_pb2
from kfadapter_embedded.process import start
from kfadapter_grpc.client import Client
from kfadapter_grpc.methods import METHODS
from robustness.faulty_kfp import FaultyKfp
from robustness.raw_calls import OK, call
from robustness.records import HELLO, NAME, one_of_each

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.message import Message

    from robustness.scenario import Stage

Messages: TypeAlias = "Mapping[str, tuple[Message, ...]]"
"""The messages of a call of every RPC, by its path."""
_UPLOAD, _CREATE, _TERMINATE = (
    "/kfadapter.v1.PipelineService/Upload",
    "/kfadapter.v1.RunService/Create",
    "/kfadapter.v1.RunService/Terminate",
)
_CALL_SECONDS = 20.0
_FAILED_SECONDS = 60.0
_MARK = "later"


@dataclass(frozen=True, slots=True)
class Planned:
    """A call to be made.

    Attributes:
        path: The RPC's.
        messages: What is sent.
        request_id: What the call is known by; may be empty.
        begin: Which of its requests to KFP is the first to meet with a fault; from 1.
    """

    path: str
    messages: tuple[Message, ...]
    request_id: str = ""
    begin: int = 1

    @property
    def sent(self) -> tuple[bytes, ...]:
        """The messages as bytes."""
        return tuple(message.SerializeToString() for message in self.messages)


def count_requests(stage: Stage) -> dict[str, int]:
    """Makes a call of every kind before a KFP that is well; tells by its name how many requests each took.

    Raises:
        RuntimeError: A call failed, so that it may have taken fewer than usual.
    """
    with start(stage.folder / "counted") as well, FaultyKfp(well.url) as kfp, Adapter(kfp.url, stage.home) as adapter:
        adapter.wait()
        kinds = dict(_kinds(one_of_each(adapter.target)))
        kfp.misbehave(None)
        with grpc.insecure_channel(adapter.target) as channel:
            # What others still need is deleted last, and a pipeline after its version.
            for name in sorted(kinds, key=lambda name: (name.startswith("Delete"), name == "DeletePipeline")):
                one = kinds[name]
                method = METHODS[one.path]
                if method.endless:
                    continue
                outcome = call(channel, method, one.sent, _CALL_SECONDS, name)
                if outcome.code != OK:
                    raise RuntimeError(f"{name} failed without a fault: {outcome}")
        counted = kfp.requests()
    return {name: counted[name] for name in kinds}


def calls_from_within(messages: Messages, counts: Mapping[str, int], fault: str) -> Iterator[Planned]:
    """Yields each call once for each of its requests to KFP after the first, which is then the first to fail."""
    for name, one in _kinds(messages):
        for begin in range(2, counts[name] + 1):
            yield _apart(replace(one, request_id=f"{name}-{begin}-{fault}".replace(" ", "-"), begin=begin))


def put_back(target: str, messages: Messages) -> Messages:
    """Undoes what calls have changed before their fault began; tells the messages of the same calls from now on."""

    def id_in(rpc: str, key: str) -> str:
        value: str = getattr(messages[f"/kfadapter.v1.{rpc}"][0], key)
        return value

    with Client(target) as client:
        for pipeline in list(client.pipelines.list(name_contains=f"-{_MARK}-")):
            client.pipelines.delete(pipeline_id=pipeline.pipeline_id, force=True)
        client.runs.unarchive(id_in("RunService/Archive", "run_id"))
        client.runs.archive(id_in("RunService/Unarchive", "run_id"))
        client.experiments.unarchive(id_in("ExperimentService/Archive", "experiment_id"))
        client.experiments.archive(id_in("ExperimentService/Unarchive", "experiment_id"))
        client.recurring_runs.disable(id_in("RecurringRunService/Enable", "recurring_run_id"))
        client.recurring_runs.enable(id_in("RecurringRunService/Disable", "recurring_run_id"))
        client.runs.wait(id_in("RunService/Retry", "run_id"), timeout=_FAILED_SECONDS)
        running = client.runs.create("sleeps", parameters={"seconds": 3600}).run_id
    return {**messages, _TERMINATE: (run_pb2.TerminateRunRequest(run_id=running),)}


def _kinds(messages: Messages) -> Iterator[tuple[str, Planned]]:
    """Every RPC, and those again that take other ways when they are asked otherwise."""
    for path, sent in messages.items():
        yield METHODS[path].name + path.split(".")[2].partition("Service")[0], Planned(path, sent)
    metadata = pipeline_pb2.UploadPipelineMetadata(name=NAME, request_id=_MARK)
    chunk = pipeline_pb2.UploadPipelineRequest(chunk=HELLO.read_bytes())
    yield "UploadNext", Planned(_UPLOAD, (pipeline_pb2.UploadPipelineRequest(metadata=metadata), chunk))
    yield "CreateByName", Planned(_CREATE, (run_pb2.CreateRunRequest(pipeline_name="container", request_id=_MARK),))


def _apart(one: Planned) -> Planned:
    """The same call with a name and a request id of its own, so that it meets no other that is under way."""
    first, *rest = one.messages
    if one.path == _UPLOAD:
        first = pipeline_pb2.UploadPipelineRequest.FromString(first.SerializeToString())
        first.metadata.request_id = one.request_id
        if first.metadata.name != NAME:
            first.metadata.name += f"-{_MARK}-{one.begin}"
    elif one.path == _CREATE:
        first = run_pb2.CreateRunRequest.FromString(first.SerializeToString())
        first.request_id = one.request_id
    return replace(one, messages=(first, *rest))

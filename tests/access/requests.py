"""For every RPC: a request about what is in a namespace, the role that it needs, and what is beyond the caller's.

Requests about one resource follow from their fields; the others are written out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.json_format import ParseDict
from tests.access.team_kfp import ARTIFACT, TASK, key, name
from tests.transcripts import PIPELINES

from kfadapter.v1 import artifact_pb2, experiment_pb2, identity_pb2, pipeline_pb2, recurring_run_pb2, run_pb2
from kfadapter_grpc.contract.call import Role
from kfadapter_grpc.methods import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message


class Beyond(enum.Enum):
    """What a request gets about a namespace in which the caller has no role."""

    NOT_FOUND = "the same as about an id that does not exist"
    EMPTY = "a list without items"
    DENIED = "PERMISSION_DENIED: it names the namespace, and creates something in it"
    GONE = "a watch reports that there is no such run"
    OPEN = "the same as about any other"


Make: TypeAlias = "Callable[[str], Message]"


@dataclass(frozen=True)
class Case:
    """What is expected of an RPC.

    Attributes:
        needs: The role that it needs; None: every caller may call it.
        beyond: What it gets about other namespaces.
        make: Makes a request about a namespace, by id.
        by_name: The same, by name, where resources have one.
    """

    needs: Role | None
    beyond: Beyond
    make: Make
    by_name: Make | None = None

    def messages(self, namespace: str, *, by_name: bool = False) -> Iterator[Message]:
        """The messages to send."""
        made = (self.by_name if by_name and self.by_name else self.make)(namespace)
        yield made
        if isinstance(made, pipeline_pb2.UploadPipelineRequest):
            yield pipeline_pb2.UploadPipelineRequest(chunk=(PIPELINES / "hello_world.yaml").read_bytes())


_IDS = {
    "pipeline_id": "pipelines",
    "run_id": "runs",
    "experiment_id": "experiments",
    "recurring_run_id": "recurringruns",
}
_NAMES = ("name", "pipeline_name", "experiment_name")
_VALUES = {"artifact_id": ARTIFACT, "display_name": "neu"}
_MORE: dict[str, dict[str, object]] = {
    "GetRunRequest": {"view": "VIEW_FULL"},
    "ReadLogsRequest": {"task": TASK},
    "DeletePipelineRequest": {"force": True},
    "UpdatePipelineVersionRequest": {"version_name": "1"},
    "DeletePipelineVersionRequest": {"version_name": "1"},
    "CreateRecurringRunRequest": {"interval": {"interval": "3600s"}},
}


def _role(verb: str) -> Role:
    if verb.startswith("Delete"):
        return Role.ADMIN
    return Role.READER if verb.startswith(("Get", "List", "Read", "Watch", "Download")) else Role.WRITER


def _about_resources(path: str) -> Case:
    """An RPC about what has an id; a name may stand for the id of a pipeline or an experiment."""
    kind = MESSAGES[path][0]
    fields = set(kind.DESCRIPTOR.fields_by_name)
    by_name = {one.name for one in kind.DESCRIPTOR.fields if one.containing_oneof and one.name in _NAMES}

    def make(namespace: str, *, named: bool = False) -> Message:
        ids = {field: key(some, namespace) for field, some in _IDS.items() if field in fields}
        about = dict.fromkeys(by_name, name(namespace)) if named else ids
        values = {**_VALUES, "namespace": namespace}
        more = _MORE.get(kind.DESCRIPTOR.name, {})
        return ParseDict({**about, **{field: values[field] for field in fields & values.keys()}, **more}, kind())

    return Case(_role(path.rpartition("/")[2]), Beyond.NOT_FOUND, make, partial(make, named=True) if by_name else None)


def _upload(namespace: str) -> Message:
    metadata = pipeline_pb2.UploadPipelineMetadata(name="neu", namespace=namespace)
    return pipeline_pb2.UploadPipelineRequest(metadata=metadata)


def _list(kind: type[Message]) -> Case:
    return Case(Role.READER, Beyond.EMPTY, lambda one: kind(namespace=one))


def _filter(kind: type[Message]) -> Case:
    return Case(Role.READER, Beyond.EMPTY, lambda one: kind(filter=run_pb2.RunFilter(namespace=one)))


_OTHERS: dict[str, Case] = {
    "PipelineService/List": _list(pipeline_pb2.ListPipelinesRequest),
    "PipelineService/Upload": Case(Role.WRITER, Beyond.DENIED, _upload),
    "RunService/List": _filter(run_pb2.ListRunsRequest),
    "RunService/Watch": Case(
        Role.READER, Beyond.GONE, lambda one: run_pb2.WatchRunsRequest(runs=run_pb2.RunIds(run_ids=[key("runs", one)]))
    ),
    "ArtifactService/ListMetrics": _filter(artifact_pb2.ListMetricsRequest),
    "ExperimentService/Create": Case(
        Role.WRITER, Beyond.DENIED, lambda one: experiment_pb2.CreateExperimentRequest(name="neu", namespace=one)
    ),
    "ExperimentService/List": _list(experiment_pb2.ListExperimentsRequest),
    "RecurringRunService/List": _list(recurring_run_pb2.ListRecurringRunsRequest),
    "IdentityService/WhoAmI": Case(None, Beyond.OPEN, lambda _: identity_pb2.WhoAmIRequest()),
}
CASES: dict[str, Case] = {
    path: _OTHERS.get(path.removeprefix("/kfadapter.v1.")) or _about_resources(path) for path in MESSAGES
}
"""Every RPC."""

"""What probes work with: requests to KFP, a pipeline to read, and what they create, which is deleted again."""

from __future__ import annotations

import hashlib
import io
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import msgspec

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.pipelines import FileKind, PipelineFile, PipelineRef
from kfadapter_grpc.kfp.decoding import decode
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation
from kfadapter_grpc.kfp.pipelines import PipelineJson, PipelineListJson, Pipelines
from kfadapter_grpc.kfp.rest import V2, ListQuery, Predicate, Rest, post_file
from kfadapter_grpc.kfp.transport import Request, Response, Transport
from kfadapter_grpc.kfp.versions import VersionJson
from kfadapter_grpc.spool import SpoolPlace

T = TypeVar("T")

PROBE_SECONDS = 15.0
CLEANUP_SECONDS = 30.0
NAME_PREFIX = "kfadapter-probe-"
NO_SAMPLE = "no pipeline to read"
"""Why some probes cannot be tried in an empty KFP."""
TAG = "kfadapter_probe"
FAULTS = (AdapterError, KfpFailureError)
_IN_DOUBT_SECONDS = 2.0
_PIPELINE = {
    "pipelineInfo": {"name": "kfadapter-probe"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.0.0",
    "components": {"comp-wait": {"executorLabel": "exec-wait"}},
    "deploymentSpec": {
        "executors": {"exec-wait": {"container": {"image": "registry.k8s.io/pause:3.10", "command": ["/pause"]}}}
    },
    "root": {
        "dag": {
            "tasks": {
                "wait": {
                    "taskInfo": {"name": "wait"},
                    "componentRef": {"name": "comp-wait"},
                    "cachingOptions": {},
                }
            }
        }
    },
}
"""The smallest pipeline that KFP accepts; its run is deleted as soon as it exists."""


class DiffersError(Exception):
    """KFP behaves differently; the message explains how. Never leaves the probes."""


class InconclusiveError(Exception):
    """The probe could not be tried; the message has the reason. Never leaves the probes."""


class RunJson(msgspec.Struct):
    run_id: str
    state: str = ""
    finished_at: str = ""


class ProbeSession:
    """What probes work with. For one thread.

    Attributes:
        namespace: The namespace to read from; empty for a single-user KFP.
    """

    def __init__(self, transport: Transport, namespace: str, *, multi_user: bool) -> None:
        self._transport = transport
        self._rest = Rest(transport)
        self.namespace = namespace
        self.multi_user = multi_user
        self.name = NAME_PREFIX + uuid.uuid4().hex
        self.run_id = str(uuid.uuid4())
        self._pipeline: PipelineJson | None = None
        self._version: VersionJson | None = None
        self._wrote = False
        self._in_doubt = False
        self._run_begun = False

    def get(self, path: str, *query: tuple[str, str]) -> Response:
        """Sends a GET for a path below v2beta1, or a whole one; returns the response even if it is a failure."""
        whole = path if path.startswith("/apis/") else V2 + path
        return self._transport.send(Request("GET", whole, query), _call())

    def ask(self, request: Request, kind: type[T], call: Call | None = None) -> T:
        return self._rest.ask_raw(Operation.PROBE, request, kind, call or _call())

    def list(self, resource: str, kind: type[T], *predicates: Predicate, size: int = 1) -> T:
        """Lists pipelines or runs, of the namespace if there is one."""
        query = ListQuery(size, predicates=predicates).pairs(namespace=self.namespace)
        return self.ask(Request("GET", f"{V2}/{resource}", query), kind)

    @property
    def scope(self) -> tuple[tuple[str, str], ...]:
        """The namespace as a query; empty for a single-user KFP."""
        return (("namespace", self.namespace),) if self.namespace else ()

    def post(self, path: str, body: Mapping[str, object], kind: type[T]) -> T:
        return self.ask(Request("POST", V2 + path, body=json.dumps(body).encode()), kind)

    def post_pipeline(self, name: str) -> PipelineJson:
        return self.post("/pipelines", {"name": name, "display_name": self.name, **dict(self.scope)}, PipelineJson)

    @property
    def sample(self) -> PipelineJson:
        """A pipeline to read: the one that was created, or else any. Raises CannotTellError if no pipeline exists."""
        if self._pipeline is None:
            listed = self.list("pipelines", PipelineListJson).items
            if not listed:
                raise InconclusiveError(NO_SAMPLE)
            return listed[0]
        return self._pipeline

    @property
    def pipeline(self) -> PipelineJson:
        if self._pipeline is None:
            raise InconclusiveError("the pipeline for it could not be made")
        return self._pipeline

    @property
    def version(self) -> VersionJson:
        if self._version is None:
            raise InconclusiveError("the version for it could not be made")
        return self._version

    @property
    def run(self) -> RunJson:
        """The current state of the run that was started. Raises CannotTellError if it was not started."""
        try:
            return self.ask(Request("GET", f"{V2}/runs/{self.run_id}"), RunJson)
        except KfpFailureError:
            raise InconclusiveError("the run for it could not be started") from None

    def make_pipeline(self) -> PipelineJson:
        self._pipeline = self._made(lambda: self.post_pipeline(self.name))
        return self._pipeline

    def make_version(self, name: str) -> VersionJson:
        """Adds a version, with a tag, to the pipeline that was created."""
        content = json.dumps(_PIPELINE).encode()
        file = PipelineFile(io.BytesIO(content), len(content), hashlib.sha256(content).digest(), FileKind.JSON)
        query = {"name": name, "pipelineid": self.pipeline.pipeline_id, "tags": json.dumps({TAG: self.name[-20:]})}
        request = post_file(f"{V2}/pipelines/upload_version", query, file)
        made = self._made(lambda: self.ask(request, VersionJson))
        self._version = self._version or made
        return made

    def start_run(self, body: Mapping[str, object]) -> str:
        """Starts a run with the id of this bench; returns the id that KFP gave it."""
        self._run_begun = True
        return self.post("/runs", {**body, "run_id": self.run_id}, RunJson).run_id

    def delete_pipeline(self, *, cascade: bool) -> None:
        query = (("cascade", "true"),) if cascade else ()
        self.ask(Request("DELETE", f"{V2}/pipelines/{self.pipeline.pipeline_id}", query), object)
        self._pipeline = self._version = None

    def _made(self, make: Callable[[], T]) -> T:
        self._wrote = self._in_doubt = True
        made = make()
        self._in_doubt = False
        return made

    @contextmanager
    def cleanup(self, left_behind: Callable[[str], None]) -> Iterator[None]:
        """At the end of the block, however it ends, deletes what was created; reports what remains."""
        try:
            yield
        finally:
            leftovers = f"pipeline {self.name} and run {self.run_id}, if they are there"
            try:
                leftovers = self.delete_all()
            finally:  # an impatient user must still see what remains
                if leftovers:
                    left_behind(leftovers)

    def delete_all(self) -> str:
        """Deletes everything that was created, whatever the responses; returns what could not be deleted, as text."""
        call = _call(CLEANUP_SECONDS)
        leftovers = []
        if self._run_begun:
            with suppress(*FAULTS):
                self.ask(Request("POST", f"{V2}/runs/{self.run_id}:terminate", body=b"{}"), object, call)
            try:
                self.ask(Request("DELETE", f"{V2}/runs/{self.run_id}"), object, call)
            except FAULTS as error:
                if not isinstance(error, KfpFailureError) or error.failure.status != HTTPStatus.NOT_FOUND:
                    leftovers.append(f"run {self.run_id}")
        if self._wrote and not self._delete_pipeline(call):
            leftovers.append(f"pipeline {self.name}")
        return " and ".join(leftovers)

    def _delete_pipeline(self, call: Call) -> bool:
        """By name: a request whose response was not awaited may have created it."""
        ref, pipelines = PipelineRef(name=self.name, namespace=self.namespace), Pipelines(self._rest, SpoolPlace())
        try:
            deleted = pipelines.delete(ref, call, force=True, allow_missing=True)
            if self._in_doubt and not deleted.pipeline_id:
                time.sleep(_IN_DOUBT_SECONDS)
                pipelines.delete(ref, call, force=True, allow_missing=True)
        except AdapterError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Probe:
    """One fact about KFP, and how to check whether it holds.

    Attributes:
        without: What the adapter does, or cannot do, where the fact does not hold.
        look: Checks it; returns what it found, or raises `DiffersError`, `CannotTellError` or an error of a request.
        older: The result with KFP 2.5.0.
        newer: The result with KFP 2.17.0, as its manifests install it.
        needed: Whether the adapter fails some calls without it, instead of compensating for it.
        advice: What to do where it does not hold; if empty, to use a newer KFP.
    """

    name: str
    sentence: str
    without: str
    look: Callable[[ProbeSession], str]
    older: str = "yes"
    newer: str = "yes"
    needed: bool = True
    writes: bool = False
    advice: str = ""


def decoded(body: bytes, kind: type[T]) -> T:
    try:
        return decode(body, kind)
    except AdapterError as error:
        raise InconclusiveError(f"it cannot be read: {error}") from None


def _call(seconds: float = PROBE_SECONDS) -> Call:
    return Call(f"probe-{uuid.uuid4().hex}", seconds)

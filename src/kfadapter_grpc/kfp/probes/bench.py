"""What probes work with: KFP's API, a pipeline to look at, and a place for what they make, which is cleared away."""

from __future__ import annotations

import hashlib
import io
import json
import time
import uuid
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.pipelines import FileKind, PipelineFile
from kfadapter_grpc.kfp.api import KfpApi, UploadForm
from kfadapter_grpc.kfp.failures import KfpFailureError, NotAnApiError
from kfadapter_grpc.kfp.probes.probe import CannotTellError
from kfadapter_grpc.kfp.rest import ListQuery
from kfadapter_grpc.kfp.transport import Answer, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfadapter_grpc.kfp.transport import Transport
    from kfadapter_grpc.kfp.wire import PipelineJson, VersionJson

T = TypeVar("T")

PROBE_SECONDS = 15.0
"""How long one probe may take."""
CLEANUP_SECONDS = 30.0
"""How long clearing away may take."""
NAME_PREFIX = "kfadapter-probe-"
"""Begins the name of everything that probes make."""
NO_SAMPLE = "there is no pipeline to look at"
"""Why some probes cannot be tried in a KFP that is empty."""
TAG = "kfadapter_probe"
"""The key of the tag that probes set."""
FAULTS = (AdapterError, KfpFailureError, NotAnApiError)
"""What a question to KFP may raise."""
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
"""The smallest pipeline that KFP takes; its run is deleted as soon as it is there."""


class Bench:
    """What probes work with. For one thread.

    Attributes:
        api: KFP's API.
        namespace: The namespace to look in; empty for a single-user KFP.
        multi_user: Whether this KFP serves several users.
        name: What is made is called so.
        run_id: The id that a run is given.
    """

    def __init__(self, transport: Transport, namespace: str, *, multi_user: bool) -> None:
        self.api = KfpApi(transport)
        self._transport = transport
        self.namespace = namespace
        self.multi_user = multi_user
        self.name = NAME_PREFIX + uuid.uuid4().hex
        self.run_id = str(uuid.uuid4())
        self._pipeline: PipelineJson | None = None
        self._version: VersionJson | None = None
        self._wrote = False
        self._in_doubt = False
        self._run_begun = False

    def call(self, seconds: float = PROBE_SECONDS) -> Call:
        """Makes the budget of a question."""
        return Call(f"probe-{uuid.uuid4().hex}", seconds)

    def get(self, path: str, *query: tuple[str, str]) -> Answer:
        """Asks for a path as it is; whatever the answer is, it is no error."""
        return self._transport.send(Request("GET", path, query), self.call())

    @property
    def scope(self) -> tuple[tuple[str, str], ...]:
        """The namespace as a query."""
        return (("namespace", self.namespace),) if self.namespace else ()

    @property
    def sample(self) -> PipelineJson:
        """A pipeline to look at: the one that was made, or else any.

        Raises:
            CannotTellError: There is none.
        """
        if self._pipeline is None:
            listed = self.api.pipelines.list_pipelines(ListQuery(page_size=1), self.namespace, self.call()).pipelines
            if not listed:
                raise CannotTellError(NO_SAMPLE)
            return listed[0]
        return self._pipeline

    @property
    def pipeline(self) -> PipelineJson:
        """The pipeline that was made.

        Raises:
            CannotTellError: It was not.
        """
        if self._pipeline is None:
            raise CannotTellError("the pipeline for it could not be made")
        return self._pipeline

    @property
    def version(self) -> VersionJson:
        """The version that was made.

        Raises:
            CannotTellError: It was not.
        """
        if self._version is None:
            raise CannotTellError("the version for it could not be made")
        return self._version

    def make_pipeline(self) -> PipelineJson:
        """Makes the pipeline, without a version."""
        names = {"name": self.name, "display_name": self.name}
        body = {**names, "namespace": self.namespace} if self.namespace else names
        self._pipeline = self._made(lambda: self.api.pipelines.create_pipeline(body, self.call()))
        return self._pipeline

    def make_version(self, name: str) -> VersionJson:
        """Adds a version, with a tag, to the pipeline that was made."""
        content = json.dumps(_PIPELINE).encode()
        file = PipelineFile(io.BytesIO(content), len(content), hashlib.sha256(content).digest(), FileKind.JSON)
        form = UploadForm(name=name, pipeline_id=self.pipeline.pipeline_id, tags={TAG: self.name[-20:]})
        made = self._made(lambda: self.api.pipelines.upload_version(form, file, self.call()))
        self._version = self._version or made
        return made

    def start_run(self, body: dict[str, object]) -> str:
        """Starts a run with the id of this bench; returns the id that it got."""
        self._run_begun = True
        return self.api.runs.create({**body, "run_id": self.run_id}, self.call()).run_id

    def delete_pipeline(self, *, cascade: bool) -> None:
        """Deletes the pipeline that was made."""
        self.api.pipelines.delete_pipeline(self.pipeline.pipeline_id, self.call(), cascade=cascade)
        self._pipeline = self._version = None

    def _made(self, make: Callable[[], T]) -> T:
        self._wrote = self._in_doubt = True
        made = make()
        self._in_doubt = False
        return made

    @contextmanager
    def cleared_away(self, left_behind: Callable[[str], None]) -> Iterator[None]:
        """Clears away at the end of the block, however it ends; what is left, `left_behind` is told in words."""
        try:
            yield
        finally:
            left = f"pipeline {self.name} and run {self.run_id}, if they are there"
            try:
                left = self.clear_away()
            finally:  # impatience is no reason to hide what is left
                if left:
                    left_behind(left)

    def clear_away(self) -> str:
        """Deletes what was made, whatever became of the answers; returns what could not be deleted, in words."""
        call = self.call(CLEANUP_SECONDS)
        left = []
        if self._run_begun and not self._cleared_run(call):
            left.append(f"run {self.run_id}")
        if self._wrote and not self._cleared_pipeline(call):
            left.append(f"pipeline {self.name}")
        return " and ".join(left)

    def _cleared_run(self, call: Call) -> bool:
        with suppress(*FAULTS):
            self.api.runs.terminate(self.run_id, call)
        return _gone(lambda: self.api.runs.delete(self.run_id, call))

    def _cleared_pipeline(self, call: Call) -> bool:
        """By name: an answer that was not waited for may have made it."""
        try:
            found = self._named(call)
            if found is None and self._in_doubt:
                time.sleep(_IN_DOUBT_SECONDS)
                found = self._named(call)
            if found is None:
                return True
            self._delete_versions(found.pipeline_id, call)
        except FAULTS:
            return False
        return _gone(lambda: self.api.pipelines.delete_pipeline(found.pipeline_id, call, cascade=False))

    def _named(self, call: Call) -> PipelineJson | None:
        try:
            return self.api.pipelines.get_pipeline_by_name(self.name, self.namespace, call)
        except KfpFailureError as error:
            if error.failure.status != HTTPStatus.NOT_FOUND:
                raise
            return None

    def _delete_versions(self, pipeline_id: str, call: Call) -> None:
        """Cascade is not known everywhere, so that the versions go first."""
        for version in self.api.pipelines.list_versions(pipeline_id, ListQuery(page_size=100), call).pipeline_versions:
            self.api.pipelines.delete_version(pipeline_id, version.pipeline_version_id, call)


def _gone(delete: Callable[[], None]) -> bool:
    try:
        delete()
    except KfpFailureError as error:
        return error.failure.status == HTTPStatus.NOT_FOUND
    except (AdapterError, NotAnApiError):
        return False
    return True

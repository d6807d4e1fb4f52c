"""The facts about KFP that the adapter relies on, in the order in which they are tried.

Resources that probes create are examined first, then deleted. A function returns what it found; a rejection by KFP
means that the fact does not hold. What is known to harm KFP is not tried: malformed YAML makes 2.5.0 and 2.17.0 hang
indefinitely, a second POST of a run id leaves a workflow behind.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from kfadapter_grpc.kfp.experiments import ExperimentListJson
from kfadapter_grpc.kfp.failures import KfpFailureError
from kfadapter_grpc.kfp.pipelines import PipelineJson, PipelineListJson
from kfadapter_grpc.kfp.probes import installation
from kfadapter_grpc.kfp.probes.session import (
    TAG,
    DiffersError,
    InconclusiveError,
    Probe,
    ProbeSession,
    RunJson,
    decoded,
)
from kfadapter_grpc.kfp.rest import MAX_KFP_PAGE, V2, ListJson, ListQuery, Predicate, equals, segment
from kfadapter_grpc.kfp.transport import Request, Response
from kfadapter_grpc.kfp.versions import CheapVersionListJson, VersionListJson, cheap_list_request

INCONCLUSIVE = frozenset({401, 403, 429, 502, 503, 504})
"""Responses that say nothing about a fact: access is denied, or KFP cannot serve now."""
_UNKNOWN = "a resource that does not exist is reported as KFP_ERROR, not NOT_FOUND"


class _Runs(ListJson[RunJson]):
    items: list[RunJson] = msgspec.field(default_factory=list, name="runs")


def _safe_undo(kfp: ProbeSession) -> str:
    kfp.delete_pipeline(cascade=False)
    kfp.make_pipeline()
    return "deleted, and created again"


def _version_tags(kfp: ProbeSession) -> str:
    if kfp.version.tags.get(TAG) is None:
        raise DiffersError("dropped")
    query = ListQuery(page_size=1, predicates=(equals(f"tags.{TAG}", kfp.name[-20:]),)).pairs()
    path = f"{V2}/pipelines/{kfp.pipeline.pipeline_id}/versions"
    versions = kfp.ask(Request("GET", path, query), VersionListJson).items
    same = [version.pipeline_version_id for version in versions] == [kfp.version.pipeline_version_id]
    return _expect(same, "kept, but a filter does not find them", "kept, and a filter finds them")


def _lookup_by_name(kfp: ProbeSession) -> str:
    pipeline = kfp.sample.record()
    query = (("namespace", pipeline.namespace),) if pipeline.namespace else ()
    named = kfp.ask(Request("GET", f"{V2}/pipelines/names/{segment(pipeline.name)}", query), PipelineJson)
    message = f"another pipeline: {named.pipeline_id} instead of {pipeline.pipeline_id}"
    return _expect(named.pipeline_id == pipeline.pipeline_id, message, "the same pipeline")


def _cheap_list(kfp: ProbeSession) -> str:
    listed = kfp.ask(cheap_list_request(kfp.sample.pipeline_id, ListQuery(1)), dict[str, object])
    body = msgspec.json.encode(listed)
    versions = decoded(body, CheapVersionListJson)
    if not versions.items:
        raise InconclusiveError("the pipeline that is examined has no versions")
    if b'"pipelineInfo"' in body or b"pipeline_spec" in body:
        raise DiffersError("the specs are included")
    return f"{versions.total_size} versions, {len(body)} bytes for the first"


def run_filter(kfp: ProbeSession) -> str:
    """Sends the request of watches, for a run that does not exist."""
    if kfp.multi_user and not kfp.namespace:
        raise InconclusiveError("this KFP is multi-user and lists runs by namespace only; no namespace is set")
    return _expect_empty(kfp.list("runs", _Runs, *_in_another_state(str(uuid.uuid4()), "PENDING")).items)


def _large_pages(kfp: ProbeSession) -> str:
    count = len(kfp.list("pipelines", PipelineListJson, size=1_000_000_000).items)
    return _expect(count <= MAX_KFP_PAGE, f"{count} items on one page", f"{count} items on one page")


def _chosen_run_id(kfp: ProbeSession) -> str:
    body: dict[str, object] = {
        "display_name": kfp.name,
        "pipeline_version_reference": {
            "pipeline_id": kfp.pipeline.pipeline_id,
            "pipeline_version_id": kfp.version.pipeline_version_id,
        },
    }
    if kfp.multi_user:  # such a KFP has no experiment to fall back on
        experiments = kfp.list("experiments", ExperimentListJson).items
        if not experiments:
            raise InconclusiveError(f"not found: an experiment in the namespace '{kfp.namespace}' to run in")
        body["experiment_id"] = experiments[0].experiment_id
    made = kfp.start_run(body)
    if made != kfp.run_id:
        kfp.ask(Request("DELETE", f"{V2}/runs/{segment(made)}"), object)
        raise DiffersError("it gets another id")
    return "its id is kept"


def _run_by_state(kfp: ProbeSession) -> str:
    run_id = kfp.run.run_id
    runs = kfp.list("runs", _Runs, *_in_another_state(kfp.run_id, "PAUSED")).items
    return _expect([run.run_id for run in runs] == [run_id], "not found", "found")


def _unset_end(kfp: ProbeSession) -> str:
    run = kfp.run
    if run.state not in ("", "PENDING", "RUNNING"):
        raise InconclusiveError(f"the run is already {run.state}")
    if run.finished_at and not run.finished_at.startswith("1970"):
        raise DiffersError(f"it is {run.finished_at}")
    return "1970" if run.finished_at else "unset"


def _no_cascade(kfp: ProbeSession) -> str:
    kfp.version  # noqa: B018 - raises why there is none
    return _expect_rejection(lambda: kfp.delete_pipeline(cascade=False), HTTPStatus.BAD_REQUEST)


def _cascade(kfp: ProbeSession) -> str:
    try:
        kfp.version  # noqa: B018 - raises why there is none
        kfp.delete_pipeline(cascade=True)
    except KfpFailureError as error:
        if error.failure.status != HTTPStatus.BAD_REQUEST:
            raise
        raise DiffersError(f"HTTP {error.failure.status}, not deleted") from error
    return "deleted with its versions"


def _deleted_run(kfp: ProbeSession) -> str:
    kfp.ask(Request("DELETE", f"{V2}/runs/{kfp.run.run_id}"), object)
    return "deleted"


def _expect(holds: bool, difference: str, result: str) -> str:
    if not holds:
        raise DiffersError(difference)
    return result


def _expect_name(actual: str, name: str, result: str) -> str:
    return _expect(actual == name, f"its name is '{actual}'", result)


def _expect_empty(items: list[PipelineJson] | list[RunJson]) -> str:
    return _expect(not items, "the filter is ignored", "accepted")


def _expect_rejection(send: Callable[[], object], status: HTTPStatus) -> str:
    try:
        send()
    except KfpFailureError as error:
        if error.failure.status != status:
            raise
        return f"HTTP {error.failure.status}"
    raise DiffersError("accepted")


def _expect_status(response: Response, status: HTTPStatus) -> str:
    if response.status in INCONCLUSIVE:
        raise InconclusiveError(f"HTTP {response.status}")
    return _expect(response.status == status, f"HTTP {response.status}", f"HTTP {response.status}")


def _no_name() -> Predicate:
    return equals("name", f"none-{uuid.uuid4().hex}")


def _in_another_state(run_id: str, state: str) -> tuple[Predicate, Predicate]:
    is_run = {"operation": "IN", "key": "run_id", "string_values": {"values": [run_id]}}
    return is_run, {"operation": "NOT_EQUALS", "key": "state", "string_value": state}


PROBES: tuple[Probe, ...] = (
    Probe(
        "empty-pipeline",
        "POST /pipelines creates a pipeline without a version",
        "the first version of a new pipeline cannot have a name or tags of its own",
        lambda kfp: _expect_name(kfp.make_pipeline().record().name, kfp.name, "created"),
        writes=True,
    ),
    Probe(
        "safe-undo",
        "a pipeline without versions can be deleted without cascade",
        "an upload that fails midway leaves an empty pipeline",
        _safe_undo,
        writes=True,
    ),
    Probe(
        "taken-name",
        "a second pipeline of the same name is refused with 409",
        "concurrent uploads of one new name may create two pipelines",
        lambda kfp: _expect_rejection(lambda: kfp.post_pipeline(kfp.pipeline.record().name), HTTPStatus.CONFLICT),
        older="409",
        newer="409",
        writes=True,
    ),
    Probe(
        "named-version",
        "upload_version keeps the requested version name",
        "version names cannot be chosen",
        lambda kfp: _expect_name(kfp.make_version("First").record().name, "First", "its name is kept"),
        writes=True,
    ),
    Probe(
        "letter-case",
        "version names are case-insensitive",
        "names of two versions may differ in letter case only",
        lambda kfp: _expect_rejection(lambda: kfp.version and kfp.make_version("FIRST"), HTTPStatus.CONFLICT),
        older="409",
        newer="409",
        needed=False,
        writes=True,
    ),
    Probe(
        "version-tags",
        "tags of versions are kept and can be filtered by",
        "an upload of the same file is not recognized: SKIP_IF_SAME and request ids report this and store it again",
        _version_tags,
        older="no: dropped",
        needed=False,
        writes=True,
    ),
    Probe(
        "names-apart",
        "pipelines have a name and a display name",
        "display names cannot be set",
        lambda kfp: _expect(kfp.sample.has_name, "only display_name", "name and display_name"),
        older="no: display_name is the name",
        needed=False,
    ),
    Probe(
        "lookup-by-name",
        "GET /pipelines/names/NAME finds a pipeline by its name",
        "requests can give pipelines by id only",
        _lookup_by_name,
    ),
    Probe(
        "cheap-list",
        "the v1beta1 list of versions leaves out the specs",
        "lists of versions are read with their specs, which takes seconds for large ones",
        _cheap_list,
        needed=False,
    ),
    Probe(
        "tag-filter",
        "lists can be filtered by a tag",
        "lists cannot be filtered by tags (UNSUPPORTED_BY_KFP)",
        lambda kfp: _expect_empty(
            kfp.list("pipelines", PipelineListJson, equals(f"tags.{TAG}", "no-such-value")).items
        ),
        older="no: 400",
        needed=False,
    ),
    Probe(
        "name-filter",
        "pipelines can be filtered by exact name",
        "names that cannot be part of a URL path are not found",
        lambda kfp: _expect_empty(kfp.list("pipelines", PipelineListJson, _no_name()).items),
    ),
    Probe("run-filter", "runs can be filtered by id IN and state NOT_EQUALS", "runs cannot be watched", run_filter),
    Probe(
        "large-pages",
        "a page holds at most 200 items, whatever page_size is",
        "lists may take more calls than necessary",
        _large_pages,
        needed=False,
    ),
    Probe(
        "empty-list",
        "an empty list is {}",
        "nothing: other forms are read as well",
        lambda kfp: _expect(
            not (one := kfp.list("pipelines", dict[str, object], _no_name())), json.dumps(one)[:80], "{}"
        ),
        needed=False,
    ),
    Probe(
        "bad-page-token",
        "an invalid page token is refused with 400",
        "INVALID_PAGE_TOKEN is reported as KFP_ERROR",
        lambda kfp: _expect_status(
            kfp.get("/pipelines", ("page_token", "bm8gdG9rZW4="), *kfp.scope), HTTPStatus.BAD_REQUEST
        ),
        older="400",
        newer="400",
        needed=False,
    ),
    Probe(
        "unknown-pipeline",
        "an unknown pipeline is 404",
        _UNKNOWN,
        lambda kfp: _expect_status(kfp.get(f"/pipelines/{uuid.uuid4()}"), HTTPStatus.NOT_FOUND),
        older="404",
        newer="404",
    ),
    Probe(
        "unknown-name",
        "an unknown name of a pipeline is 404",
        _UNKNOWN,
        lambda kfp: _expect_status(
            kfp.get(f"/pipelines/names/none-{uuid.uuid4().hex}", *kfp.scope), HTTPStatus.NOT_FOUND
        ),
        older="404",
        newer="404",
    ),
    Probe(
        "unknown-run",
        "an unknown run is 404",
        _UNKNOWN,
        lambda kfp: _expect_status(kfp.get(f"/runs/{uuid.uuid4()}"), HTTPStatus.NOT_FOUND),
        older="404",
        newer="404",
    ),
    Probe(
        "default-retry",
        "a failed container is retried as often as its task sets",
        "set_retry of a pipeline has no effect",
        installation.default_retry,
        newer="no: OnError",
        needed=False,
        advice="remove templateDefaults.retryStrategy from Argo's workflow-controller-configmap, or set its policy to"
        " Always",
    ),
    Probe(
        "plugins",
        "plugins of runs work",
        "every run carries a failed plugin (plugins_output); the runs themselves are not affected",
        installation.plugins,
        newer="no: MLflow",
        needed=False,
        advice="remove the plugin from the API server's config.json, or install what it requires",
    ),
    Probe(
        "log-archive",
        "logs are archived",
        "logs are lost when their pods are deleted",
        installation.log_archive,
        needed=False,
        advice="set archiveLogs: true in the artifactRepository of Argo's workflow-controller-configmap",
    ),
    Probe(
        "chosen-run-id",
        "a run keeps the id of the request",
        "request ids of runs are not kept: a repeated Create may start a second run",
        _chosen_run_id,
        writes=True,
    ),
    Probe(
        "run-by-state",
        "the filter by id IN and state NOT_EQUALS finds a run in another state",
        "watches do not notice that runs change",
        _run_by_state,
        writes=True,
    ),
    Probe(
        "unset-end",
        "finished_at of an unfinished run is 1970 or unset",
        "unfinished runs are shown with a finish time",
        _unset_end,
        older="1970",
        newer="1970",
        needed=False,
        writes=True,
    ),
    Probe("deleted-run", "a run can be deleted", "runs cannot be deleted", _deleted_run, writes=True),
    Probe(
        "no-cascade",
        "deleting a pipeline with a version is refused with 400 without cascade",
        "Delete without force may delete versions that were uploaded meanwhile",
        _no_cascade,
        older="400",
        newer="400",
        writes=True,
    ),
    Probe(
        "cascade",
        "cascade=true deletes a pipeline with its versions",
        "Delete with force deletes the versions one by one, then the pipeline",
        _cascade,
        older="no: 400",
        needed=False,
        writes=True,
    ),
)

"""The facts about KFP that the adapter relies on, in the order in which they are tried.

What is created first is looked at, then deleted. A function returns what it found; a refusal by KFP means that the fact
does not hold. What KFP is known to break on is left alone: malformed YAML makes 2.5.0 and 2.17.0 spin for ever, a
second POST of a run id leaves a workflow behind.
"""

from __future__ import annotations

import json
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from kfadapter_grpc.kfp.failures import KfpFailureError
from kfadapter_grpc.kfp.pipelines import PipelineJson, PipelineListJson
from kfadapter_grpc.kfp.probes import installation
from kfadapter_grpc.kfp.probes.bench import TAG, Bench, CannotTellError, DiffersError, RunJson, decoded
from kfadapter_grpc.kfp.probes.probe import SAYS_NOTHING, fact
from kfadapter_grpc.kfp.rest import MAX_KFP_PAGE, V2, ListQuery, equals, segment
from kfadapter_grpc.kfp.transport import Request
from kfadapter_grpc.kfp.versions import CheapVersionListJson, VersionListJson

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.kfp.rest import Predicate
    from kfadapter_grpc.kfp.transport import Answer

_NOT_FOUND = "errors about what is not there come out as KFP_ERROR"


class _Runs(msgspec.Struct):
    runs: list[RunJson] = []


class _Experiment(msgspec.Struct):
    experiment_id: str


class _Experiments(msgspec.Struct):
    experiments: list[_Experiment] = []


# --- what is created -----------------------------------------------------------------------------------------------


@fact(
    "empty-pipeline",
    "POST /pipelines makes a pipeline without a version",
    "a new pipeline cannot have a name for its first version, or tags",
    writes=True,
)
def _empty_pipeline(bench: Bench) -> str:
    made = bench.make_pipeline().record()
    if made.name != bench.name:
        raise DiffersError(f"it is called '{made.name}'")
    return "made"


@fact(
    "safe-undo",
    "a pipeline without versions is deleted without cascade",
    "an upload that fails half-way leaves an empty pipeline behind",
    writes=True,
)
def _safe_undo(bench: Bench) -> str:
    bench.delete_pipeline(cascade=False)
    bench.make_pipeline()
    return "deleted, and made anew"


@fact(
    "taken-name",
    "a second pipeline of the same name is 409",
    "two uploads of one new name at once may make two pipelines",
    newer="409",
    older="409",
    writes=True,
)
def _taken_name(bench: Bench) -> str:
    names = {"name": bench.pipeline.record().name, "display_name": bench.name}
    body = {**names, "namespace": bench.namespace} if bench.namespace else names
    return _refused(lambda: bench.post("/pipelines", body, PipelineJson), HTTPStatus.CONFLICT)


@fact("named-version", "upload_version names the version as it is told", "versions cannot be named", writes=True)
def _named_version(bench: Bench) -> str:
    made = bench.make_version("First").record()
    if made.name != "First":
        raise DiffersError(f"it is called '{made.name}'")
    return "its name is kept"


@fact(
    "letter-case",
    "letter case does not count in the names of versions",
    "two versions of a pipeline may differ in letter case only",
    newer="409",
    older="409",
    needed=False,
    writes=True,
)
def _letter_case(bench: Bench) -> str:
    bench.version  # noqa: B018 - raises why there is none
    return _refused(lambda: bench.make_version("FIRST"), HTTPStatus.CONFLICT)


@fact(
    "version-tags",
    "tags of a version are kept, and filtered by",
    "uploads of the same file are not recognised: skip-if-same and request ids say so, and store it again",
    older="no: dropped",
    needed=False,
    writes=True,
)
def _version_tags(bench: Bench) -> str:
    if bench.version.tags.get(TAG) is None:
        raise DiffersError("they are dropped")
    query = ListQuery(page_size=1, predicates=(equals(f"tags.{TAG}", bench.name[-20:]),)).pairs()
    path = f"{V2}/pipelines/{bench.pipeline.pipeline_id}/versions"
    found = bench.ask(Request("GET", path, query), VersionListJson).pipeline_versions
    if [one.pipeline_version_id for one in found] != [bench.version.pipeline_version_id]:
        raise DiffersError("kept, but not found by a filter")
    return "kept, and found by a filter"


# --- what is only read ---------------------------------------------------------------------------------------------


@fact(
    "names-apart",
    "pipelines have a name and a display name",
    "display names cannot be set",
    older="no: display_name is the name",
    needed=False,
)
def _names_apart(bench: Bench) -> str:
    if not bench.sample.has_name:
        raise DiffersError("only display_name")
    return "name and display_name"


@fact(
    "lookup-by-name",
    "GET /pipelines/names/NAME finds a pipeline by its name",
    "pipelines cannot be named in calls, only given by id",
)
def _lookup_by_name(bench: Bench) -> str:
    pipeline = bench.sample.record()
    query = (("namespace", pipeline.namespace),) if pipeline.namespace else ()
    found = bench.ask(Request("GET", f"{V2}/pipelines/names/{segment(pipeline.name)}", query), PipelineJson)
    if found.pipeline_id != pipeline.pipeline_id:
        raise DiffersError(f"another pipeline: {found.pipeline_id} instead of {pipeline.pipeline_id}")
    return "the same pipeline"


@fact(
    "cheap-list",
    "the v1beta1 list of versions comes without specs",
    "lists of versions are read with all their specs, which takes seconds for large ones",
    needed=False,
)
def _cheap_list(bench: Bench) -> str:
    listed = bench.ask(cheap_list_request(bench.sample.pipeline_id, 1), dict[str, object])
    body = msgspec.json.encode(listed)
    versions = decoded(body, CheapVersionListJson)
    if not versions.versions:
        raise CannotTellError("the pipeline to look at has no versions")
    if b'"pipelineInfo"' in body or b"pipeline_spec" in body:
        raise DiffersError("the specs come along")
    return f"{versions.total_size} versions, {len(body)} bytes for the first"


@fact(
    "tag-filter",
    "lists are filtered by a tag",
    "lists cannot be filtered by tags (UNSUPPORTED_BY_KFP)",
    older="no: 400",
    needed=False,
)
def _tag_filter(bench: Bench) -> str:
    return _taken(bench.list("pipelines", PipelineListJson, equals(f"tags.{TAG}", "no-such-value")).pipelines)


@fact("name-filter", "pipelines are filtered by their exact name", "names that do not fit into a path are not found")
def _name_filter(bench: Bench) -> str:
    return _taken(bench.list("pipelines", PipelineListJson, _no_name()).pipelines)


@fact("run-filter", "runs are filtered by id IN and state NOT_EQUALS", "runs cannot be watched")
def run_filter(bench: Bench) -> str:
    """Sends the request of watches, for a run that does not exist."""
    if bench.multi_user and not bench.namespace:
        raise CannotTellError("this KFP serves several users and lists runs of a namespace only; none is set")
    return _taken(bench.list("runs", _Runs, *_in_another_state(str(uuid.uuid4()), "PENDING")).runs)


@fact(
    "large-pages",
    "a page holds at most 200 items, whatever is asked for",
    "lists may be read in more calls than needed",
    needed=False,
)
def _large_pages(bench: Bench) -> str:
    held = len(bench.list("pipelines", PipelineListJson, size=1_000_000_000).pipelines)
    if held > MAX_KFP_PAGE:
        raise DiffersError(f"{held} items on one page")
    return f"{held} items on one page"


@fact("empty-list", "an empty list is {}", "nothing changes: other forms are read, too", needed=False)
def _empty_list(bench: Bench) -> str:
    found = bench.list("pipelines", dict[str, object], _no_name())
    if found:
        raise DiffersError(json.dumps(found)[:80])
    return "{}"


@fact(
    "bad-page-token",
    "a page token that is none is 400",
    "INVALID_PAGE_TOKEN comes out as KFP_ERROR",
    newer="400",
    older="400",
    needed=False,
)
def _bad_page_token(bench: Bench) -> str:
    scope = [("namespace", bench.namespace)] if bench.namespace else []
    return _is(bench.get("/pipelines", ("page_token", "bm8gdG9rZW4="), *scope), HTTPStatus.BAD_REQUEST)


@fact("unknown-pipeline", "an unknown pipeline is 404", _NOT_FOUND, newer="404", older="404")
def _unknown_pipeline(bench: Bench) -> str:
    return _is(bench.get(f"/pipelines/{uuid.uuid4()}"), HTTPStatus.NOT_FOUND)


@fact("unknown-name", "an unknown name of a pipeline is 404", _NOT_FOUND, newer="404", older="404")
def _unknown_name(bench: Bench) -> str:
    scope = [("namespace", bench.namespace)] if bench.namespace else []
    return _is(bench.get(f"/pipelines/names/none-{uuid.uuid4().hex}", *scope), HTTPStatus.NOT_FOUND)


@fact("unknown-run", "an unknown run is 404", _NOT_FOUND, newer="404", older="404")
def _unknown_run(bench: Bench) -> str:
    return _is(bench.get(f"/runs/{uuid.uuid4()}"), HTTPStatus.NOT_FOUND)


# --- how KFP was installed, by the newest run that has ended there -------------------------------------------------


@fact(
    "default-retry",
    "a failed container is retried as often as its task says",
    "the retries that a pipeline sets with set_retry are not made",
    newer="no: OnError",
    needed=False,
    advice="take templateDefaults.retryStrategy out of Argo's workflow-controller-configmap, or set its policy to"
    " Always",
)
def _default_retry(bench: Bench) -> str:
    return installation.default_retry(bench)


@fact(
    "plugins",
    "the plugins of runs work",
    "every run carries a failed plugin (plugins_output); the runs themselves are not affected",
    newer="no: MLflow",
    needed=False,
    advice="take the plugin out of the API server's config.json, or install what it looks for",
)
def _plugins(bench: Bench) -> str:
    return installation.plugins(bench)


@fact(
    "log-archive",
    "logs are archived",
    "logs are gone with the pods that wrote them",
    needed=False,
    advice="set archiveLogs: true in the artifactRepository of Argo's workflow-controller-configmap",
)
def _log_archive(bench: Bench) -> str:
    return installation.log_archive(bench)


# --- a run, and the end of what was created ------------------------------------------------------------------------


@fact(
    "chosen-run-id",
    "a run gets the id that the caller chose",
    "request ids of runs cannot be kept: a repeated Create may start a second run",
    writes=True,
)
def _chosen_run_id(bench: Bench) -> str:
    body: dict[str, object] = {
        "display_name": bench.name,
        "pipeline_version_reference": {
            "pipeline_id": bench.pipeline.pipeline_id,
            "pipeline_version_id": bench.version.pipeline_version_id,
        },
    }
    if bench.multi_user:  # such a KFP has no experiment to fall back on
        experiments = bench.list("experiments", _Experiments).experiments
        if not experiments:
            raise CannotTellError(f"not found: an experiment in the namespace '{bench.namespace}' to run in")
        body["experiment_id"] = experiments[0].experiment_id
    made = bench.start_run(body)
    if made != bench.run_id:
        bench.ask(Request("DELETE", f"{V2}/runs/{segment(made)}"), object)
        raise DiffersError("it gets another one")
    return "its id is kept"


@fact(
    "run-by-state",
    "a run is found by id IN and another state NOT_EQUALS",
    "watches do not notice that runs change",
    writes=True,
)
def _run_by_state(bench: Bench) -> str:
    run = _run(bench)
    found = bench.list("runs", _Runs, *_in_another_state(bench.run_id, "PAUSED")).runs
    if [one.run_id for one in found] != [run.run_id]:
        raise DiffersError("it is not found")
    return "found"


@fact(
    "unset-end",
    "a run that is not over ends in 1970, or has no end",
    "runs that are not over are shown with an end",
    newer="1970",
    older="1970",
    needed=False,
    writes=True,
)
def _unset_end(bench: Bench) -> str:
    run = _run(bench)
    if run.state not in ("", "PENDING", "RUNNING"):
        raise CannotTellError(f"the run is {run.state} already")
    if run.finished_at and not run.finished_at.startswith("1970"):
        raise DiffersError(f"its end is {run.finished_at}")
    return "1970" if run.finished_at else "no end"


@fact("deleted-run", "a run can be deleted", "runs stay", writes=True)
def _deleted_run(bench: Bench) -> str:
    bench.ask(Request("DELETE", f"{V2}/runs/{_run(bench).run_id}"), object)
    return "deleted"


@fact(
    "no-cascade",
    "a pipeline with a version is 400 without cascade",
    "deleting without force may take versions along that came in between",
    newer="400",
    older="400",
    writes=True,
)
def _no_cascade(bench: Bench) -> str:
    bench.version  # noqa: B018 - raises why there is none
    return _refused(lambda: bench.delete_pipeline(cascade=False), HTTPStatus.BAD_REQUEST)


@fact(
    "cascade",
    "cascade=true deletes a pipeline with its versions",
    "delete with force deletes the versions one by one, then the pipeline",
    older="no: 400",
    needed=False,
    writes=True,
)
def _cascade(bench: Bench) -> str:
    bench.version  # noqa: B018 - raises why there is none
    try:
        bench.delete_pipeline(cascade=True)
    except KfpFailureError as error:
        if error.failure.status != HTTPStatus.BAD_REQUEST:
            raise
        raise DiffersError(f"HTTP {error.failure.status}, and it stays") from error
    return "deleted with its versions"


# --- what probes share ---------------------------------------------------------------------------------------------


def cheap_list_request(pipeline_id: str, size: int) -> Request:
    """Lists versions as the adapter does."""
    key = [("resource_key.type", "PIPELINE"), ("resource_key.id", pipeline_id), ("page_size", str(size))]
    return Request("GET", "/apis/v1beta1/pipeline_versions", key)


def _taken(found: list[PipelineJson] | list[RunJson]) -> str:
    if found:
        raise DiffersError("the filter is ignored")
    return "taken"


def _refused(ask: Callable[[], object], status: HTTPStatus) -> str:
    try:
        ask()
    except KfpFailureError as error:
        if error.failure.status != status:
            raise
        return f"HTTP {error.failure.status}"
    raise DiffersError("it is not refused")


def _is(answer: Answer, status: HTTPStatus) -> str:
    if answer.status in SAYS_NOTHING:
        raise CannotTellError(f"HTTP {answer.status}")
    if answer.status != status:
        raise DiffersError(f"HTTP {answer.status}")
    return f"HTTP {answer.status}"


def _no_name() -> Predicate:
    return equals("name", f"none-{uuid.uuid4().hex}")


def _in_another_state(run_id: str, state: str) -> tuple[Predicate, Predicate]:
    one = {"operation": "IN", "key": "run_id", "string_values": {"values": [run_id]}}
    return one, {"operation": "NOT_EQUALS", "key": "state", "string_value": state}


def _run(bench: Bench) -> RunJson:
    """The run that was started."""
    try:
        return bench.ask(Request("GET", f"{V2}/runs/{bench.run_id}"), RunJson)
    except KfpFailureError:
        raise CannotTellError("the run for it could not be started") from None

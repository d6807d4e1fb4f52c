"""The probes that make something and delete it again: one pipeline, its versions, and one run."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.experiments import ExperimentListJson
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation
from kfadapter_grpc.kfp.probes.bench import TAG
from kfadapter_grpc.kfp.probes.probe import CannotTellError, DiffersError
from kfadapter_grpc.kfp.rest import V2, ListQuery, equals
from kfadapter_grpc.kfp.transport import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.kfp.probes.bench import Bench

_NO_RUN_YET = 1970


def empty_pipeline(bench: Bench) -> str:
    """Whether a pipeline can be made without a version."""
    made = bench.make_pipeline().to_domain()
    if made.name != bench.name:
        raise DiffersError(f"it is called '{made.name}'")
    return "made"


def safe_undo(bench: Bench) -> str:
    """Whether an empty pipeline goes without cascade."""
    bench.delete_pipeline(cascade=False)
    bench.make_pipeline()
    return "deleted, and made anew"


def taken_name(bench: Bench) -> str:
    """Whether a second pipeline of the same name is refused."""
    names = {"name": bench.pipeline.to_domain().name, "display_name": bench.name}
    body = {**names, "namespace": bench.namespace} if bench.namespace else names
    return _refused(lambda: bench.api.pipelines.create_pipeline(body, bench.call()), HTTPStatus.CONFLICT)


def named_version(bench: Bench) -> str:
    """Whether the first version gets the name that it is given."""
    bench.pipeline  # noqa: B018 - tells why there is none
    made = bench.make_version("First").to_domain()
    if made.name != "First":
        raise DiffersError(f"it is called '{made.name}'")
    return "its name is kept"


def letter_case(bench: Bench) -> str:
    """Whether letter case does not count in the names of versions."""
    bench.version  # noqa: B018 - tells why there is none
    return _refused(lambda: bench.make_version("FIRST"), HTTPStatus.CONFLICT)


def version_tags(bench: Bench) -> str:
    """Whether the tags of a version are kept, and found."""
    if bench.version.tags.get(TAG) is None:
        raise DiffersError("they are dropped")
    predicates = (equals(f"tags.{TAG}", bench.name[-20:]),)
    found = bench.api.pipelines.find_version(bench.pipeline.pipeline_id, predicates, bench.call())
    if found is None or found.pipeline_version_id != bench.version.pipeline_version_id:
        raise DiffersError("kept, but not found by a filter")
    return "kept, and found by a filter"


def chosen_run_id(bench: Bench) -> str:
    """Whether a run gets the id that it is given."""
    reference = {
        "pipeline_id": bench.pipeline.pipeline_id,
        "pipeline_version_id": bench.version.pipeline_version_id,
    }
    body = {"display_name": bench.name, "pipeline_version_reference": reference, **_experiment(bench)}
    made = bench.start_run(body)
    if made != bench.run_id:
        bench.api.runs.delete(made, bench.call())
        raise DiffersError("it gets another one")
    return "its id is kept"


def run_by_state(bench: Bench) -> str:
    """Whether the filter of watches finds a run in another state, and not one in the state that is known."""
    run = _run(bench)
    one: dict[str, object] = {"operation": "IN", "key": "run_id", "string_values": {"values": [bench.run_id]}}
    other: dict[str, object] = {"operation": "NOT_EQUALS", "key": "state", "string_value": "PAUSED"}
    found = bench.api.runs.list(ListQuery(1, predicates=(one, other)), "", bench.namespace, bench.call()).runs
    if [it.run_id for it in found] != [run]:
        raise DiffersError("it is not found")
    return "found"


def unset_end(bench: Bench) -> str:
    """Whether the end of a run that is not over is told as 1970."""
    _run(bench)
    run = bench.api.runs.get(bench.run_id, bench.call())
    if run.state not in ("", "PENDING", "RUNNING"):
        raise CannotTellError(f"the run is {run.state} already")
    if run.finished_at is not None and run.finished_at.year != _NO_RUN_YET:
        raise DiffersError(f"its end is {run.finished_at}")
    return "no end" if run.finished_at is None else "1970"


def deleted_run(bench: Bench) -> str:
    """Whether a run can be deleted."""
    _run(bench)
    bench.api.runs.delete(bench.run_id, bench.call())
    return "deleted"


def refuses_without_cascade(bench: Bench) -> str:
    """Whether a pipeline with a version is kept unless cascade is asked for."""
    bench.version  # noqa: B018 - tells why there is none
    return _refused(lambda: bench.delete_pipeline(cascade=False), HTTPStatus.BAD_REQUEST)


def cascade(bench: Bench) -> str:
    """Whether cascade deletes a pipeline with its versions."""
    bench.version  # noqa: B018 - tells why there is none
    try:
        bench.delete_pipeline(cascade=True)
    except KfpFailureError as error:
        if error.failure.status != HTTPStatus.BAD_REQUEST:
            raise
        raise DiffersError(f"HTTP {error.failure.status}, and it stays") from error
    return "deleted with its versions"


def _refused(ask: Callable[[], object], status: HTTPStatus) -> str:
    try:
        ask()
    except KfpFailureError as error:
        if error.failure.status != status:
            raise
        return f"HTTP {error.failure.status}"
    raise DiffersError("it is not refused")


def _run(bench: Bench) -> str:
    """The id of the run that was started."""
    try:
        return bench.api.runs.get(bench.run_id, bench.call()).run_id
    except KfpFailureError:
        raise CannotTellError("the run for it could not be started") from None


def _experiment(bench: Bench) -> dict[str, object]:
    """A KFP that serves several users has no experiment to fall back on."""
    if not bench.multi_user:
        return {}
    request = Request("GET", f"{V2}/experiments", ListQuery(1).pairs(namespace=bench.namespace))
    found = bench.api.rest.ask_raw(Operation.LIST_EXPERIMENTS, request, ExperimentListJson, bench.call()).experiments
    if not found:
        raise CannotTellError(f"there is no experiment in the namespace '{bench.namespace}' to run in")
    return {"experiment_id": found[0].experiment_id}

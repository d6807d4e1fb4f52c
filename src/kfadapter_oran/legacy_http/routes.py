"""The Flask adapter's routes, each making one or two calls to an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple, TypeAlias, TypeVar

from starlette.exceptions import HTTPException

from kfadapter_grpc.contract.listing import View
from kfadapter_oran import responses
from kfadapter_oran.jobs import ArgumentProfile, start_job
from kfadapter_oran.legacy_http import limits

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.spec import Json

T = TypeVar("T")

_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """The request to a route.

    Attributes:
        client: Makes calls on behalf of the caller.
        name: The variable of the path; empty if it has none.
        details: The JSON object in the body, if the route expects one.
        file: The file of the form in the body, if the route expects one.
        description: The field of that form.
        request_id: The caller's idempotency key, or empty.
    """

    client: Client
    name: str = ""
    details: Mapping[str, Json] | None = None
    file: BinaryIO | None = None
    description: str = ""
    request_id: str = ""


Handler: TypeAlias = Callable[[RouteRequest], "Mapping[str, Json]"]


class LegacyRoute(NamedTuple):
    """One route; `{name}` matches one segment of the path. Without a handler it is liveness, which makes no calls."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Handler | None
    body_type: Literal["nothing", "json", "form"] = "nothing"


def _delete_pipeline(request: RouteRequest) -> Mapping[str, Json]:
    request.client.pipelines.delete(pipeline_id=request.name, force=True)
    return {"id": request.name, "status": "Deleted"}


def _find_pipeline(request: RouteRequest) -> Mapping[str, Json]:
    pipeline = request.client.pipelines.get(request.name, view=View.BASIC)
    return {"name": pipeline.name, "id": pipeline.pipeline_id}


def _upload(request: RouteRequest) -> Mapping[str, Json]:
    assert request.file is not None  # noqa: S101  the route takes a form
    receipt = request.client.pipelines.upload(
        request.file, name=request.name, description=request.description, request_id=request.request_id
    )
    return {"name": receipt.pipeline.name, "id": receipt.pipeline.pipeline_id}


def _start_run(request: RouteRequest) -> Mapping[str, Json]:
    details = request.details or {}
    missing = [key for key in ("pipeline_name", "experiment_name", "arguments") if key not in details]
    if missing:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"the body lacks {', '.join(missing)}")
    return start_job(request.client, details, request.name, ArgumentProfile.FLASK_ADAPTER, request.request_id)


def _list_runs(request: RouteRequest) -> Mapping[str, Json]:
    client = request.client
    runs = list(_all(client.runs.list(page_size=_PAGE_SIZE, order_by="created_at desc")))
    pipelines = {one.pipeline_id: one.name for one in _all(client.pipelines.list(page_size=_PAGE_SIZE))}
    experiments = {one.experiment_id: one.name for one in _all(client.experiments.list(page_size=_PAGE_SIZE))}
    return responses.runs_body(runs, pipelines, experiments)


def _find_experiment(request: RouteRequest) -> Mapping[str, Json]:
    experiment = request.client.experiments.get(request.name)
    return {"name": experiment.name, "id": experiment.experiment_id}


ROUTES: tuple[LegacyRoute, ...] = (
    LegacyRoute(
        "GET",
        "/pipelines",
        lambda call: responses.pipelines_body(_all(call.client.pipelines.list(page_size=_PAGE_SIZE))),
    ),
    LegacyRoute(
        "GET",
        "/pipelines/{name}",
        lambda call: responses.pipeline_body(call.client.pipelines.get(pipeline_id=call.name)),
    ),
    LegacyRoute("DELETE", "/pipelines/{name}", _delete_pipeline),
    LegacyRoute(
        "GET",
        "/pipelines/{name}/versions",
        lambda call: responses.versions_body(
            _all(call.client.pipelines.list_versions(call.name, page_size=_PAGE_SIZE))
        ),
    ),
    LegacyRoute("GET", "/pipelineIds/{name}", _find_pipeline),
    LegacyRoute("POST", "/pipelineIds/{name}", _upload, "form"),
    LegacyRoute("POST", "/trainingjobs/{name}/execution", _start_run, "json"),
    LegacyRoute("GET", "/runs", _list_runs),
    # The full run: without its tasks, a terminated run may be shown as failed.
    LegacyRoute("GET", "/runs/{name}", lambda call: responses.run_body(call.client.runs.get(call.name))),
    LegacyRoute("DELETE", "/runs/{name}", lambda call: responses.run_body(call.client.runs.terminate(call.name))),
    LegacyRoute(
        "GET",
        "/experiments",
        lambda call: responses.experiments_body(_all(call.client.experiments.list(page_size=_PAGE_SIZE))),
    ),
    LegacyRoute("GET", "/experiments/{name}", _find_experiment),
    LegacyRoute("GET", "/liveness", None),
)
"""All of them."""


def _all(items: Iterable[T]) -> Iterator[T]:
    """Yields everything.

    Raises:
        HTTPException: There are too many for one response.
    """
    iterator = iter(items)
    yield from islice(iterator, limits.MAX_ITEMS)
    for _ in iterator:
        raise HTTPException(
            HTTPStatus.INSUFFICIENT_STORAGE,
            f"there are more than {limits.MAX_ITEMS}, too many for one response; list them over gRPC, page by page",
        )

"""The Flask adapter's routes, each a call or two of the adapter's own services."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar
from urllib.parse import unquote_to_bytes

from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.training_arguments import ArgumentProfile
from kfadapter_grpc.training_manager import bodies
from kfadapter_grpc.training_manager.jobs import start_job
from kfadapter_oran.legacy_http.limits import MAX_LISTED
from kfadapter_oran.legacy_http.messages import RefusalError

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_oran.legacy_http.upload_form import UploadForm

T = TypeVar("T")

_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """What a route is asked.

    Attributes:
        client: Makes calls in the name of who asks.
        name: What stands in the path in place of the route's variable; empty where it has none.
        details: The JSON object in the body, where the route takes one.
        form: The form in the body, where the route takes one.
        request_id: Under which the request may be repeated; empty where it may not.
    """

    client: Client
    name: str = ""
    details: Mapping[str, Json] | None = None
    form: UploadForm | None = None
    request_id: str = ""


Handler: TypeAlias = Callable[[Asked], "Mapping[str, Json]"]


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        method: The HTTP method.
        path: The path; `{name}` stands for one segment.
        handler: Answers it; None: liveness, which calls nobody.
        takes: What its body is.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Handler | None
    takes: Literal["nothing", "json", "form"] = "nothing"

    def try_match(self, segments: tuple[str, ...]) -> str | None:
        """Tells what stands for the variable, empty if there is none; None if this is another path."""
        mine = tuple(self.path[1:].split("/"))
        if len(mine) != len(segments):
            return None
        name = ""
        for pattern, segment in zip(mine, segments, strict=True):
            if pattern == _VARIABLE and segment:
                name = segment
            elif pattern != segment:
                return None
        return name


_VARIABLE = "{name}"


def find_route(method: str, target: str) -> tuple[Route, str]:
    """Finds the route for a request, and what stands for its variable.

    Raises:
        RefusalError: There is none for this path, or not for this method.
    """
    segments = _segments(target)
    found = [(route, name) for route in ROUTES if (name := route.try_match(segments)) is not None]
    if not found:
        raise RefusalError(HTTPStatus.NOT_FOUND, "there is no such route; docs/legacy-http.md lists them")
    for route, name in found:
        if route.method == ("GET" if method == "HEAD" else method):
            return route, name
    allowed = ", ".join(dict.fromkeys(route.method for route, _ in found))
    text = f"this route takes {allowed}, not {method}"
    raise RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, text, {"Allow": allowed})


def _segments(target: str) -> tuple[str, ...]:
    """The segments of a path. A `%2F` in one is part of it, and nothing in it is ever a file's path."""
    path = target.partition("?")[0]
    if not path.startswith("/"):
        raise RefusalError(HTTPStatus.BAD_REQUEST, "the target of the request must be a path")
    try:
        return tuple(unquote_to_bytes(segment).decode("utf-8") for segment in path[1:].split("/"))
    except UnicodeDecodeError:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "the path is not UTF-8, percent-encoded") from None


def list_pipelines(asked: Asked) -> Mapping[str, Json]:
    """Lists all pipelines."""
    return bodies.pipelines_body(_all(asked.client.list(page_size=_PAGE_SIZE)))


def get_pipeline(asked: Asked) -> Mapping[str, Json]:
    """Tells of a pipeline, by its id."""
    return bodies.pipeline_body(asked.client.get(pipeline_id=asked.name))


def delete_pipeline(asked: Asked) -> Mapping[str, Json]:
    """Deletes a pipeline with all its versions, by its id."""
    asked.client.delete(pipeline_id=asked.name, force=True)
    return {"id": asked.name, "status": "Deleted"}


def list_versions(asked: Asked) -> Mapping[str, Json]:
    """Lists the names of a pipeline's versions, by its name."""
    return bodies.versions_body(_all(asked.client.list_versions(asked.name, page_size=_PAGE_SIZE)))


def find_pipeline(asked: Asked) -> Mapping[str, Json]:
    """Tells a pipeline's id, by its name."""
    found = asked.client.get(asked.name, view=View.BASIC)
    return {"name": found.name, "id": found.pipeline_id}


def upload(asked: Asked) -> Mapping[str, Json]:
    """Takes a file as a new pipeline, or as a new version of it."""
    if asked.form is None:
        raise TypeError("an upload without a form")
    receipt = asked.client.upload(
        asked.form.file(), name=asked.name, description=asked.form.description, request_id=asked.request_id
    )
    return {"name": receipt.pipeline.name, "id": receipt.pipeline.pipeline_id}


def start_run(asked: Asked) -> Mapping[str, Json]:
    """Starts the run of a training job."""
    details = asked.details or {}
    missing = [key for key in ("pipeline_name", "experiment_name", "arguments") if key not in details]
    if missing:
        raise RefusalError(HTTPStatus.BAD_REQUEST, f"the body lacks {', '.join(missing)}")
    return start_job(asked.client, details, asked.name, ArgumentProfile.FLASK_ADAPTER, asked.request_id)


def list_runs(asked: Asked) -> Mapping[str, Json]:
    """Lists all runs."""
    client = asked.client
    runs = list(_all(client.list_runs(page_size=_PAGE_SIZE, order_by="created_at desc")))
    pipelines = {one.pipeline_id: one.name for one in _all(client.list(page_size=_PAGE_SIZE))}
    experiments = {one.experiment_id: one.name for one in _all(client.list_experiments(page_size=_PAGE_SIZE))}
    return bodies.runs_body(runs, pipelines, experiments)


def get_run(asked: Asked) -> Mapping[str, Json]:
    """Tells the state of a run."""
    return bodies.run_body(asked.client.get_run(asked.name))  # whole: only so it is known whether it was terminated


def terminate_run(asked: Asked) -> Mapping[str, Json]:
    """Stops a run, whoever started it."""
    return bodies.run_body(asked.client.terminate_run(asked.name))


def list_experiments(asked: Asked) -> Mapping[str, Json]:
    """Lists all experiments."""
    return bodies.experiments_body(_all(asked.client.list_experiments(page_size=_PAGE_SIZE)))


def find_experiment(asked: Asked) -> Mapping[str, Json]:
    """Tells an experiment's id, by its name."""
    found = asked.client.get_experiment(asked.name)
    return {"name": found.name, "id": found.experiment_id}


ROUTES: tuple[Route, ...] = (
    Route("GET", "/pipelines", list_pipelines),
    Route("GET", "/pipelines/{name}", get_pipeline),
    Route("DELETE", "/pipelines/{name}", delete_pipeline),
    Route("GET", "/pipelines/{name}/versions", list_versions),
    Route("GET", "/pipelineIds/{name}", find_pipeline),
    Route("POST", "/pipelineIds/{name}", upload, "form"),
    Route("POST", "/trainingjobs/{name}/execution", start_run, "json"),
    Route("GET", "/runs", list_runs),
    Route("GET", "/runs/{name}", get_run),
    Route("DELETE", "/runs/{name}", terminate_run),
    Route("GET", "/experiments", list_experiments),
    Route("GET", "/experiments/{name}", find_experiment),
    Route("GET", "/liveness", None),
)
"""All of them."""


def _all(things: Iterable[T]) -> Iterator[T]:
    """Everything there is.

    Raises:
        RefusalError: That is too much for one answer.
    """
    iterator = iter(things)
    yield from islice(iterator, MAX_LISTED)
    for _ in iterator:
        raise RefusalError(
            HTTPStatus.INSUFFICIENT_STORAGE,
            f"there are more than {MAX_LISTED}, too many for one answer; list them over gRPC, page by page",
        )

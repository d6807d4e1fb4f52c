"""The routes of pipelines and versions: HTTP in, one store call, JSON out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.routing import Route

from . import tags as tag_rules
from .bodies import list_body, pipeline_body, streamed_list, v1beta1_version_body, version_body
from .errors import already_exists, context, invalid_input, json_response, json_text_response, raise_missing
from .json_requests import json_body, text_field
from .listing import PIPELINES, VERSIONS, parse_listing
from .pipeline_store import HasVersionsError, NameTakenError
from .records import NewPipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from .pages import Page
    from .pipeline_store import PipelineStore
    from .records import Version

MAX_PIPELINE_NAME = 128
_PIPELINES = "/apis/v2beta1/pipelines"
_PIPELINE = f"{_PIPELINES}/{{pipeline_id}}"
_VERSION = f"{_PIPELINE}/versions/{{version_id}}"


def routes(store: PipelineStore) -> list[Route]:
    """The routes over a store."""
    handlers = _Handlers(store)
    return [
        Route(_PIPELINES, handlers.list_pipelines, methods=["GET"]),
        Route(_PIPELINES, handlers.create_pipeline, methods=["POST"]),
        Route(f"{_PIPELINES}/names/{{name}}", handlers.get_pipeline_by_name, methods=["GET"]),
        Route(_PIPELINE, handlers.get_pipeline, methods=["GET"]),
        Route(_PIPELINE, handlers.update_pipeline, methods=["PATCH"]),
        Route(_PIPELINE, handlers.delete_pipeline, methods=["DELETE"]),
        Route(f"{_PIPELINE}/versions", handlers.list_versions, methods=["GET"]),
        Route(_VERSION, handlers.get_version, methods=["GET"]),
        Route(_VERSION, handlers.update_version, methods=["PATCH"]),
        Route(_VERSION, handlers.delete_version, methods=["DELETE"]),
        Route("/apis/v1beta1/pipeline_versions", handlers.list_versions_v1beta1, methods=["GET"]),
    ]


class _Handlers:
    """The routes' functions; those that are not async run in threads, because the store blocks."""

    def __init__(self, store: PipelineStore) -> None:
        self._store = store

    def list_pipelines(self, request: Request) -> Response:
        page = self._store.list_pipelines(parse_listing(PIPELINES, request.query_params))
        items = [pipeline_body(each) for each in page.items]
        return json_response(list_body("pipelines", items, page))

    async def create_pipeline(self, request: Request) -> Response:
        body = await json_body(request)
        name, display_name = text_field(body, "name"), text_field(body, "display_name")
        new = NewPipeline(
            name=name or display_name,
            display_name=display_name or name,
            description=text_field(body, "description"),
            tags=_tags(body) or {},
        )
        with context("Failed to create a pipeline due to server error"):
            _check_name(new.name)
            try:
                pipeline = await run_in_threadpool(self._store.create_pipeline, new)
            except NameTakenError:
                words = f"Failed to create a new pipeline. The name {new.name} already exist. Please specify a new name"
                with context("Failed to create a pipeline in PipelineStore"):
                    raise already_exists(words) from None
        return json_response(pipeline_body(pipeline))

    def get_pipeline(self, request: Request) -> Response:
        pipeline_id = request.path_params["pipeline_id"]
        pipeline = self._store.try_pipeline(pipeline_id)
        if pipeline is None:
            with context(f"Failed to get a pipeline {pipeline_id}. Check error stack"):
                raise_missing("Pipeline", pipeline_id, f"Failed to get a pipeline with id {pipeline_id}")
        return json_response(pipeline_body(pipeline))

    def get_pipeline_by_name(self, request: Request) -> Response:
        name, namespace = request.path_params["name"], request.query_params.get("namespace", "")
        pipeline = self._store.try_pipeline_by_name(name)
        if pipeline is None:
            outer = f"Failed to get a pipeline with name {name} and namespace {namespace}. Check error stack."
            with context(outer):
                layer = f"Failed to get a pipeline named {name} in namespace {namespace}"
                raise_missing("Namespace/Pipeline", f"{namespace}/{name}", layer)
        return json_response(pipeline_body(pipeline))

    async def update_pipeline(self, request: Request) -> Response:
        pipeline_id = request.path_params["pipeline_id"]
        body = await json_body(request)
        with context(f"Failed to update pipeline {pipeline_id}. Check error stack"):
            display_name, tags = text_field(body, "display_name"), _tags(body)
            pipeline = await run_in_threadpool(self._store.try_update_pipeline, pipeline_id, display_name, tags)
            if pipeline is None:
                raise_missing("Pipeline", pipeline_id, f"Failed to get a pipeline with id {pipeline_id}")
        return json_response(pipeline_body(pipeline))

    def delete_pipeline(self, request: Request) -> Response:
        pipeline_id = request.path_params["pipeline_id"]
        cascade = request.query_params.get("cascade", "").lower() in {"true", "1", "t"}
        with context(f"Failed to delete pipeline {pipeline_id}. Check error stack"):
            try:
                found = self._store.delete_pipeline(pipeline_id, cascade=cascade)
            except HasVersionsError as error:
                raise invalid_input(
                    f"Failed to delete pipeline with id {pipeline_id} as it has existing pipeline versions "
                    f"(e.g. {error.version_id}). Set cascade=true to delete all versions"
                ) from None
            if not found:
                layer = f"Failed to delete pipeline with id {pipeline_id} as it was not found"
                raise_missing("Pipeline", pipeline_id, layer)
        return json_response({})

    def list_versions(self, request: Request) -> Response:
        pipeline_id = request.path_params["pipeline_id"]
        listing = parse_listing(VERSIONS, request.query_params)
        with context(f"Failed to list pipeline versions for pipeline {pipeline_id}"):
            self._require_pipeline_of_list(pipeline_id)
        page = self._store.list_versions(pipeline_id, listing)
        if not page.items:
            return json_response(list_body("pipeline_versions", [], page))
        return StreamingResponse(self._version_list(page), media_type="application/json")

    def list_versions_v1beta1(self, request: Request) -> Response:
        query = request.query_params
        pipeline_id = query.get("resource_key.id", "")
        if not pipeline_id:
            raise invalid_input("Failed to list pipeline versions (v1beta1) due to missing pipeline id")
        listing = parse_listing(VERSIONS, query)
        words = f"Failed to list pipeline versions (v1beta1) with pipeline id {pipeline_id}. Check error stack"
        with context(words):
            self._require_pipeline_of_list(pipeline_id)
        page = self._store.list_versions(pipeline_id, listing)
        return json_response(list_body("versions", [v1beta1_version_body(each) for each in page.items], page))

    def get_version(self, request: Request) -> Response:
        version_id = request.path_params["version_id"]
        version, spec = self._store.try_version(version_id), self._store.try_spec(version_id)
        if version is None or spec is None:
            with context(f"Failed to get a pipeline version {version_id}"):
                layer = f"Failed to get a pipeline version with id {version_id}"
                raise_missing("PipelineVersion", version_id, layer)
        return json_text_response(version_body(version, spec))

    async def update_version(self, request: Request) -> Response:
        version_id = request.path_params["version_id"]
        body = await json_body(request)
        with context(f"Failed to update pipeline version {version_id}. Check error stack"):
            display_name, tags = text_field(body, "display_name"), _tags(body)
            version = await run_in_threadpool(self._store.try_update_version, version_id, display_name, tags)
            spec = await run_in_threadpool(self._store.try_spec, version_id)
            if version is None or spec is None:
                layer = f"Failed to get a pipeline version with id {version_id}"
                raise_missing("PipelineVersion", version_id, layer)
        return json_text_response(version_body(version, spec))

    def delete_version(self, request: Request) -> Response:
        pipeline_id, version_id = request.path_params["pipeline_id"], request.path_params["version_id"]
        if not self._store.delete_version(version_id):
            ids = f"{version_id} under pipeline id {pipeline_id}"
            with context(f"Failed to delete a pipeline version id {ids}. Check error stack"):
                layer = f"Failed to delete pipeline version with id {version_id} as it was not found"
                raise_missing("PipelineVersion", version_id, layer)
        return json_response({})

    def _require_pipeline_of_list(self, pipeline_id: str) -> None:
        if self._store.try_pipeline(pipeline_id) is None:
            words = f"Failed to list pipeline versions due to error fetching the namespace for pipeline {pipeline_id}"
            with context(words), context(f"Failed to get namespace for pipeline id {pipeline_id}"):
                raise_missing("Pipeline", pipeline_id, f"Failed to get a pipeline with id {pipeline_id}")

    def _version_list(self, page: Page[Version]) -> Iterator[str]:
        items = ((version, self._store.try_spec(version.id)) for version in page.items)
        # Without a spec: deleted since the page was read.
        texts = (version_body(version, spec) for version, spec in items if spec is not None)
        return streamed_list("pipeline_versions", texts, page)


def _tags(body: dict[str, object]) -> dict[str, str] | None:
    value = body.get("tags")
    if value is None:
        return None
    tags = tag_rules.try_tags(value)
    if tags is None:
        raise invalid_input("invalid value for field tags")
    if words := tag_rules.complaint(tags):
        raise invalid_input(words)
    return tags


def _check_name(name: str) -> None:
    if not name:
        raise invalid_input("name is required")
    if len(name.encode()) > MAX_PIPELINE_NAME:
        raise invalid_input(f"Pipeline.Name length cannot exceed {MAX_PIPELINE_NAME}")

"""Pipelines and their versions: `/apis/v2beta1/pipelines`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from .document_kinds import PIPELINES, VERSIONS, Kind
from .errors import already_exists, context, invalid_input, json_response, not_found
from .json_text import joined, rfc3339, to_json, without_empty
from .listing import parse_listing
from .requests import Resource, tag_fault, text_field, try_tags, with_body
from .store import Documents, DuplicateError, Page, Store

MAX_PIPELINE_NAME = 128
_PIPELINES = "/apis/v2beta1/pipelines"
_PIPELINE = f"{_PIPELINES}/{{pipeline_id}}"
_VERSION = f"{_PIPELINE}/versions/{{version_id}}"


def new_pipeline(store: Store, **fields: object) -> dict[str, object]:
    return without_empty(pipeline_id=str(uuid.uuid4()), **fields, created_at=rfc3339(store.now()))


def new_version(store: Store, pipeline_id: str, **fields: object) -> dict[str, object]:
    """A new version, without its spec."""
    version_id = str(uuid.uuid4())
    return without_empty(
        pipeline_id=pipeline_id, pipeline_version_id=version_id, **fields, created_at=rfc3339(store.now())
    )


def add_version(documents: Documents, version: dict[str, object], spec: str) -> str:
    """Adds a version, in KFP's form; raises DuplicateError if the pipeline has one of this name in any letter case."""
    return joined(documents.add(VERSIONS, version, spec=documents.store_spec(spec)), pipeline_spec=spec)


class Pipelines(Resource):
    def routes(self) -> list[Route]:
        return [
            Route(_PIPELINES, self._lists(PIPELINES, "pipelines"), methods=["GET"]),
            Route(_PIPELINES, with_body(self._create_pipeline), methods=["POST"]),
            Route(f"{_PIPELINES}/names/{{name}}", self._get_pipeline_by_name, methods=["GET"]),
            Route(_PIPELINE, self._get_pipeline, methods=["GET"]),
            Route(_PIPELINE, with_body(self._update_pipeline), methods=["PATCH"]),
            Route(_PIPELINE, self._delete_pipeline, methods=["DELETE"]),
            Route(f"{_PIPELINE}/versions", self._list_versions, methods=["GET"]),
            Route(_VERSION, self._get_version, methods=["GET"]),
            Route(_VERSION, with_body(self._update_version), methods=["PATCH"]),
            Route(_VERSION, self._delete_version, methods=["DELETE"]),
            Route("/apis/v1beta1/pipeline_versions", self._list_versions_v1beta1, methods=["GET"]),
        ]

    def _create_pipeline(self, _request: Request, body: dict[str, object]) -> Response:
        name, display_name = text_field(body, "name"), text_field(body, "display_name")
        pipeline = new_pipeline(
            self._store,
            name=name or display_name,
            display_name=display_name or name,
            description=text_field(body, "description"),
            tags=_tags(body),
        )
        with context("Failed to create a pipeline due to server error"):
            name = name or display_name
            if not name:
                raise invalid_input("name is required")
            if len(name.encode()) > MAX_PIPELINE_NAME:
                raise invalid_input(f"Pipeline.Name length cannot exceed {MAX_PIPELINE_NAME}")
            try:
                with self._store.writing() as documents:
                    return json_response(documents.add(PIPELINES, pipeline))
            except DuplicateError:
                words = f"Failed to create a new pipeline. The name {name} already exist. Please specify a new name"
                raise already_exists(words, "Failed to create a pipeline in PipelineStore") from None

    def _get_pipeline(self, request: Request) -> Response:
        pipeline_id = request.path_params["pipeline_id"]
        with context(f"Failed to get a pipeline {pipeline_id}. Check error stack"), self._store.reading() as documents:
            return json_response(_pipeline(documents, pipeline_id))

    def _get_pipeline_by_name(self, request: Request) -> Response:
        name, namespace = request.path_params["name"], request.query_params.get("namespace", "")
        with self._store.reading() as documents:
            text: str | None = documents.one("SELECT document FROM pipelines WHERE Name = ?", name)
        if text is None:
            outer = f"Failed to get a pipeline with name {name} and namespace {namespace}. Check error stack."
            layer = f"Failed to get a pipeline named {name} in namespace {namespace}"
            raise not_found(f"Namespace/Pipeline {namespace}/{name} not found", outer, layer)
        return json_response(text)

    def _update_pipeline(self, request: Request, body: dict[str, object]) -> Response:
        pipeline_id = request.path_params["pipeline_id"]
        with context(f"Failed to update pipeline {pipeline_id}. Check error stack"):
            changes = _changes(body)
            with self._store.writing() as documents:
                return json_response(_changed(documents, PIPELINES, _pipeline(documents, pipeline_id), changes))

    def _delete_pipeline(self, request: Request) -> Response:
        pipeline_id = request.path_params["pipeline_id"]
        cascade = request.query_params.get("cascade", "").lower() in {"true", "1", "t"}
        outer = f"Failed to delete pipeline {pipeline_id}. Check error stack"
        with context(outer), self._store.writing() as documents:
            version_id = documents.one("SELECT id FROM pipeline_versions WHERE owner = ? LIMIT 1", pipeline_id)
            if version_id and not cascade:
                raise invalid_input(
                    f"Failed to delete pipeline with id {pipeline_id} as it has existing pipeline versions "
                    f"(e.g. {version_id}). Set cascade=true to delete all versions"
                )
            documents.drop(
                PIPELINES, pipeline_id, f"Failed to delete pipeline with id {pipeline_id} as it was not found"
            )
        return json_response({})

    def _list_versions(self, request: Request) -> Response:
        page = self._version_page(
            request, request.path_params["pipeline_id"], "Failed to list pipeline versions for pipeline {}"
        )
        return StreamingResponse(page.json("pipeline_versions", self._with_specs(page)), media_type="application/json")

    def _with_specs(self, page: Page) -> Iterator[str]:
        """The versions of a page, one at a time, so that many large specs are not in memory at once."""
        for version_id, text in zip(page.ids, page.texts, strict=True):
            with self._store.reading() as documents:
                spec = documents.spec(VERSIONS, version_id)
            if spec is not None:  # otherwise it was deleted after the page was read
                yield joined(text, pipeline_spec=spec)

    def _list_versions_v1beta1(self, request: Request) -> Response:
        pipeline_id = request.query_params.get("resource_key.id", "")
        if not pipeline_id:
            raise invalid_input("Failed to list pipeline versions (v1beta1) due to missing pipeline id")
        words = "Failed to list pipeline versions (v1beta1) with pipeline id {}. Check error stack"
        page = self._version_page(request, pipeline_id, words)
        versions = (to_json(_v1beta1(json.loads(text))) for text in page.texts)
        return json_response("".join(page.json("versions", versions)))

    def _version_page(self, request: Request, pipeline_id: str, words: str) -> Page:
        listing = parse_listing(VERSIONS, request.query_params)
        layers = (
            words.format(pipeline_id),
            f"Failed to list pipeline versions due to error fetching the namespace for pipeline {pipeline_id}",
            f"Failed to get namespace for pipeline id {pipeline_id}",
        )
        with self._store.reading() as documents:
            with context(*layers):
                _pipeline(documents, pipeline_id)
            return documents.page(listing, owner=[pipeline_id])

    def _get_version(self, request: Request) -> Response:
        version_id = request.path_params["version_id"]
        with context(f"Failed to get a pipeline version {version_id}"), self._store.reading() as documents:
            text = _version(documents, version_id)
            return json_response(joined(text, pipeline_spec=documents.spec(VERSIONS, version_id) or ""))

    def _update_version(self, request: Request, body: dict[str, object]) -> Response:
        version_id = request.path_params["version_id"]
        with context(f"Failed to update pipeline version {version_id}. Check error stack"):
            changes = _changes(body)
            with self._store.writing() as documents:
                text = _changed(documents, VERSIONS, _version(documents, version_id), changes)
                return json_response(joined(text, pipeline_spec=documents.spec(VERSIONS, version_id) or ""))

    def _delete_version(self, request: Request) -> Response:
        pipeline_id, version_id = request.path_params["pipeline_id"], request.path_params["version_id"]
        ids = f"{version_id} under pipeline id {pipeline_id}"
        layers = (
            f"Failed to delete a pipeline version id {ids}. Check error stack",
            f"Failed to delete pipeline version with id {version_id} as it was not found",
        )
        with self._store.writing() as documents:
            documents.drop(VERSIONS, version_id, *layers)
        return json_response({})


def _pipeline(documents: Documents, pipeline_id: str) -> str:
    return documents.found(PIPELINES, pipeline_id, f"Failed to get a pipeline with id {pipeline_id}")


def _version(documents: Documents, version_id: str) -> str:
    return documents.found(VERSIONS, version_id, f"Failed to get a pipeline version with id {version_id}")


def _tags(body: dict[str, object]) -> dict[str, str] | None:
    value = body.get("tags")
    if value is None:
        return None
    tags = try_tags(value)
    if tags is None:
        raise invalid_input("invalid value for field tags")
    if words := tag_fault(tags):
        raise invalid_input(words)
    return tags


def _changes(body: dict[str, object]) -> dict[str, object]:
    """The fields that an update changes: an empty display name and missing tags leave the stored values unchanged."""
    display_name, tags = text_field(body, "display_name"), _tags(body)
    return {**without_empty(display_name=display_name), **({} if tags is None else {"tags": tags})}


def _changed(documents: Documents, kind: Kind, text: str, changes: dict[str, object]) -> str:
    return documents.put(kind, without_empty(**{**json.loads(text), **changes}))


def _v1beta1(version: dict[str, object]) -> dict[str, object]:
    """A version in v1beta1: without spec, display name and tags."""
    owner = {"key": {"type": "PIPELINE", "id": version["pipeline_id"]}, "relationship": "OWNER"}
    shared = {name: version.get(name) for name in ("name", "created_at", "code_source_url", "description")}
    return without_empty(id=version["pipeline_version_id"], **shared, resource_references=[owner])

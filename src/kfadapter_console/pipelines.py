"""Pipelines: their list, one of them with its versions, uploads, and two versions compared."""

import re
import uuid
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from io import BytesIO
from typing import BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kfadapter_console import page
from kfadapter_grpc.client import Client
from kfadapter_grpc.client.errors import http_status
from kfadapter_grpc.comparison import MISSING, PartKind, compare_specs
from kfadapter_grpc.contract.errors import (
    AdapterError,
    InvalidFieldError,
    InvalidPipelineFileError,
    PipelineExistsError,
    UploadTooLargeError,
    VersionExistsError,
)
from kfadapter_grpc.contract.listing import Page
from kfadapter_grpc.contract.pipelines import IfExists, Pipeline, PipelineVersion
from kfadapter_grpc.contract.spec import ParameterType, SpecSummary, Task
from kfadapter_grpc.pipeline_yaml import write_yaml

EXAMPLE = page.STATIC / "train.yaml"
"""A pipeline for first steps, which is examples/train.yaml."""
YAML_BYTES = 1024 * 1024
"""Up to which size a file is converted to YAML; each MB takes a second."""
TYPES = {
    ParameterType.NUMBER_DOUBLE: "number",
    ParameterType.NUMBER_INTEGER: "integer",
    ParameterType.STRING: "text",
    ParameterType.BOOLEAN: "true or false",
    ParameterType.LIST: "list",
    ParameterType.STRUCT: "object",
}
"""The types of parameters in words."""
_UPLOAD = ("file", "name", "version_name", "description", "tags")
_SUFFIXES = re.compile(r"(\.tar)?\.\w+$")
_FIELDS = {
    InvalidPipelineFileError: "file",
    UploadTooLargeError: "file",
    PipelineExistsError: "name",
    VersionExistsError: "version_name",
}
"""The field of the upload's form that an error is about."""
_NO_PYTHON = (
    "'{0}' is Python, which this page does not compile, because that runs it. Compile it on your machine and upload the"
    " result: kfp dsl compile --py {0} --output pipeline.yaml (kfadapter upload {0} does both)"
)


def show_list(request: Request, upload: page.Form | None = None, status: int = HTTPStatus.OK) -> Response:
    """Shows the pipelines that match, and the form of an upload."""
    where = {name: request.query_params.get(name, "") for name in ("name", "tags", "order", "page")}

    def read() -> Page[Pipeline]:
        tags = page.pairs(where["tags"], "tags", ",")
        pipelines = page.client(request).pipelines
        some = pipelines.list(name_contains=where["name"], tags=tags, order_by=where["order"], page_size=page.PAGE_SIZE)
        return some.page(where["page"])

    found, problem = page.listed(read)
    return page.render(
        request,
        "pipelines.html",
        status,
        found=found,
        where=where,
        problem=problem,
        form=page.Form(where),
        upload=upload or page.Form({"once": str(uuid.uuid4())}),
    )


def show(request: Request, edit: page.Form | None = None, status: int = HTTPStatus.OK) -> Response:
    """Shows a pipeline and one of its versions, by default the latest."""
    client, query = page.client(request), request.query_params
    pipeline, asked = _found(request, client)
    version, edited = asked or pipeline.latest_version, asked or pipeline
    versions = client.pipelines.list_versions(pipeline_id=pipeline.pipeline_id, page_size=page.PAGE_SIZE)
    spec = version.spec if version and version.spec else SpecSummary()
    values = {
        "display_name": edited.display_name if edited.display_name != edited.name else "",
        "tags": "\n".join(map("=".join, edited.tags.items())),
    }
    return page.render(
        request,
        "pipeline.html",
        status,
        pipeline=pipeline,
        version=version,
        versions=versions.page(query.get("page", "")),
        spec=spec,
        types=TYPES,
        tasks=[*named(spec.tasks)],
        query=query,
        not_kept=[name for name in _UPLOAD if name in query.getlist("not_kept")],
        where=request.url.path.removesuffix("/update"),
        edit=edit or page.Form(values),
        upload=page.Form({"once": str(uuid.uuid4()), "name": pipeline.name, "fixed": "1"}),
    )


def _found(request: Request, client: Client) -> tuple[Pipeline, PipelineVersion | None]:
    """Returns the pipeline and, if there is one in the address, the version."""
    asked = request.path_params
    pipeline = client.pipelines.get(pipeline_id=asked["pipeline_id"])
    return pipeline, _version(client, **asked) if "version_id" in asked else None


def _version(client: Client, pipeline_id: str, version_id: str) -> PipelineVersion:
    return client.pipelines.get_version(pipeline_id=pipeline_id, pipeline_version_id=version_id)


def named(tasks: Iterable[Task], above: page.Names = ()) -> Iterator[tuple[page.Names, Task]]:
    """Yields declared tasks with their names and those of their groups."""
    for task in tasks:
        yield (*above, task.name), task
        yield from named(task.tasks, (*above, task.name))


def show_file(request: Request) -> Response:
    """Shows or sends the file of a version as YAML; a large one is sent as the JSON that is stored."""
    client = page.client(request)
    version = _version(client, **request.path_params)
    file, style = BytesIO(), "json"
    client.pipelines.download(to=file, pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id)
    if file.tell() <= YAML_BYTES:
        file.seek(0)
        source, file, style = file, BytesIO(), "yaml"
        write_yaml(source, file)
    if request.url.path.endswith("/yaml"):
        text = file.getvalue().decode() if style == "yaml" else ""
        return page.render(request, "yaml.html", version=version, text=text, most=YAML_BYTES)
    return page.attachment([file.getvalue()], f"{version.name}.{style}", f"application/{style}")


def upload(request: Request, form: FormData) -> Response:
    """Stores a file as a new pipeline, or as a version of one; `example` stands for a file of ours."""
    values, file = dict.fromkeys(_UPLOAD, "") | page.texts_of(form), form.get("file")
    content: BinaryIO | str = str(EXAMPLE)
    try:
        if "example" in form:
            name = EXAMPLE.stem
        elif not isinstance(file, UploadFile) or not file.filename or not file.size:
            raise InvalidFieldError.of("file", "choose a file that is not empty")
        elif file.filename.lower().endswith(".py"):
            raise InvalidFieldError.of("file", _NO_PYTHON.format(file.filename))
        else:
            name, content = _SUFFIXES.sub("", file.filename), file.file
        stored = page.client(request).pipelines.upload(
            content,
            name=values["name"] or name,
            version_name=values["version_name"],
            description=values["description"],
            tags=page.pairs(values["tags"], "tags"),
            if_exists=IfExists.SKIP_IF_SAME,
            request_id=page.request_id(form),
        )
    except AdapterError as error:
        about = next((_FIELDS[kind] for kind in _FIELDS if isinstance(error, kind)), "")
        shown = page.Form(values | {"once": str(uuid.uuid4())}, page.problems_of(error, _UPLOAD, about))
        return show_list(request, shown, http_status(error))
    outcome = "unchecked" if stored.duplicate_check_skipped else "new" if stored.version_created else "same"
    where = ("pipelines", stored.pipeline.pipeline_id, "versions", stored.version.pipeline_version_id)
    return page.back(page.link(*where, uploaded=outcome, not_kept=stored.not_kept))


def update(request: Request, form: FormData) -> Response:
    """Changes the display name and the tags of a pipeline or of a version."""
    calls, asked = page.client(request).pipelines, request.path_params
    values = page.texts_of(form)
    try:
        shown, tags = values.get("display_name", ""), page.pairs(values.get("tags", ""), "tags")
        if version_id := asked.get("version_id"):
            which = {"pipeline_id": asked["pipeline_id"], "pipeline_version_id": version_id}
            calls.update_version(**which, display_name=shown, tags=tags)
        else:
            calls.update(pipeline_id=asked["pipeline_id"], display_name=shown, tags=tags)
    except AdapterError as error:
        return show(request, page.Form(values, page.problems_of(error, values)), http_status(error))
    return page.back(request.url.path.removesuffix("/update"))


def ask_delete(request: Request) -> Response:
    """Asks whether a pipeline, or one of its versions, is to be deleted."""
    pipeline, version = _found(request, page.client(request))
    count = f"{pipeline.version_count} version{'' if pipeline.version_count == 1 else 's'}"
    lost = (
        f"This deletes one version of pipeline {pipeline.name}, which has {count}."
        if version
        else (f"This deletes the pipeline with {count}.")
    )
    return page.render(
        request,
        "confirm.html",
        what=f"version {version.name}" if version else pipeline.name,
        lost=f"{lost} Runs are kept. It cannot be undone.",
        fields=[("versions", pipeline.version_count)],
        cancel=page.link("pipelines", pipeline.pipeline_id),
    )


def delete(request: Request, form: FormData) -> Response:
    """Deletes a pipeline with the number of versions that the user confirmed, or one version."""
    calls, pipeline_id = page.client(request).pipelines, request.path_params["pipeline_id"]
    if version_id := request.path_params.get("version_id"):
        calls.delete_version(pipeline_id=pipeline_id, pipeline_version_id=version_id)
        return page.back(page.link("pipelines", pipeline_id))
    if str(calls.get(pipeline_id=pipeline_id).version_count) != form.get("versions"):
        return ask_delete(request)
    calls.delete(pipeline_id=pipeline_id, force=True)
    return page.back("/pipelines")


def compare(request: Request) -> Response:
    """Shows what changed from one version of a pipeline to another."""
    client, pipeline_id = page.client(request), request.path_params["pipeline_id"]
    versions = [_version(client, pipeline_id, request.query_params.get(name, "")) for name in ("before", "after")]
    changes = compare_specs(*(version.spec or SpecSummary() for version in versions))
    states = {tuple(one.name.split("/")): one.change.value for one in changes if one.kind is PartKind.TASK}
    return page.render(
        request, "compare_versions.html", versions=versions, states=states, changes=changes, missing=MISSING
    )


_PIPELINE = "/pipelines/{pipeline_id}"
_VERSION = f"{_PIPELINE}/versions/{{version_id}}"
ROUTES = [
    Route("/pipelines", show_list),
    Route("/upload", lambda _: page.back("/pipelines")),
    Route("/upload", page.action(upload), methods=["POST"]),
    Route(_PIPELINE, show),
    Route(f"{_PIPELINE}/compare", compare),
    Route(_VERSION, show),
    *(Route(f"{_VERSION}/{way}", show_file) for way in ("yaml", "file")),
    *(Route(f"{one}/delete", ask_delete) for one in (_PIPELINE, _VERSION)),
    *(Route(f"{one}/delete", page.action(delete), methods=["POST"]) for one in (_PIPELINE, _VERSION)),
    *(Route(f"{one}/update", page.action(update), methods=["POST"]) for one in (_PIPELINE, _VERSION)),
]

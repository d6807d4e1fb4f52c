"""Pipelines: their list, one of them with its versions, uploads, and two versions compared."""

from __future__ import annotations

import re
import tempfile
import uuid
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.routing import Route

from kfadapter_console import page
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
from kfadapter_grpc.contract.spec import ParameterType, SpecSummary
from kfadapter_grpc.graph import graph_of, svg
from kfadapter_grpc.pipeline_yaml import write_yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from typing import BinaryIO, TypeAlias

    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.spec import Task

    Path: TypeAlias = tuple[str, ...]

EXAMPLE = page.STATIC / "train.yaml"
"""A pipeline for first steps, which is examples/train.yaml."""
SHOWN_BYTES = 256 * 1024
"""Up to which size a file is shown as YAML."""
YAML_BYTES = 4 * 2**20
"""Up to which size a file is sent as YAML; a larger one as JSON, as each MB takes a second to convert."""
TYPES = {
    ParameterType.NUMBER_DOUBLE: "number",
    ParameterType.NUMBER_INTEGER: "integer",
    ParameterType.STRING: "text",
    ParameterType.BOOLEAN: "true or false",
    ParameterType.LIST: "list, as JSON",
    ParameterType.STRUCT: "object, as JSON",
}
"""The types of parameters in words."""
_CHUNK_BYTES = 256 * 1024
_UPLOAD = ("file", "name", "version_name", "description", "tags", "if_exists")
_IF_EXISTS = {one.value: one for one in IfExists}
_SUFFIXES = re.compile(r"(\.tar)?\.\w+$")
_UPDATE = ("display_name", "tags")
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


# --- forms ----------------------------------------------------------------------------------------------------------


def pairs(text: str, field: str, separator: str = "\n") -> dict[str, str]:
    """Parses `key=value` pairs, one in each line; a value may contain further `=`."""
    found: dict[str, str] = {}
    for one in filter(None, map(str.strip, text.replace(separator, "\n").split("\n"))):
        key, equals, value = (part.strip() for part in one.partition("="))
        if not equals or not key or key in found:
            raise InvalidFieldError.of(field, f"'{one}' {'repeats a key' if key in found else 'is not KEY=VALUE'}")
        found[key] = value
    return found


def text_of(form: FormData, name: str) -> str:
    """Returns the text of a field, with the line breaks that it was given: browsers send CRLF."""
    found = form.get(name, "")
    return found.replace("\r\n", "\n") if isinstance(found, str) else ""


def request_id(form: FormData) -> str:
    """Derives an idempotency key from all that was filled in: a form that is sent twice does its work once.

    A form has a hidden field `once`, which differs each time the form is opened.
    """
    fields = [
        (name, f"{one.filename} {one.size}" if isinstance(one, UploadFile) else one) for name, one in form.multi_items()
    ]
    return str(uuid.uuid5(uuid.NAMESPACE_URL, repr(fields)))


class Problems(dict[str, str]):
    """What is wrong by the field of a form; what is about no field has an empty name."""

    def __missing__(self, field: str) -> str:
        return ""


def problems_of(error: AdapterError, fields: Collection[str], field: str = "") -> Problems:
    """Returns what an error says of each of these fields; one without violations is about `field`."""
    found: dict[str, list[str]] = {}
    for one in error.violations:
        name = one.field.removeprefix("metadata.")
        around = [known for known in fields if name == known or name.startswith((f"{known}.", f"{known}["))]
        place = max(around, key=len, default="")
        found.setdefault(place, []).append(one.description if name == place else f"{name}: {one.description}")
    return Problems({name: "\n".join(texts) for name, texts in found.items()} or {field: error.message})


# --- the list -------------------------------------------------------------------------------------------------------


def show_list(request: Request) -> Response:
    """Shows the pipelines that match."""
    where = {name: request.query_params.get(name, "") for name in ("name", "tags", "order", "page")}
    found: Page[Pipeline] = Page(())
    wrong = Problems()
    try:
        tags = pairs(where["tags"], "tags", ",")
        matching = page.client(request).pipelines.list(
            name_contains=where["name"], tags=tags, order_by=where["order"], page_size=page.PAGE_SIZE
        )
        found = matching.page(where["page"])
    except InvalidFieldError as error:
        wrong = problems_of(error, ["tags"])
    form = _empty_form()
    return page.render(
        request, "pipelines.html", pipelines=found, where=where, wrong=wrong, form=form, problems=Problems()
    )


# --- one pipeline ---------------------------------------------------------------------------------------------------


def show(request: Request) -> Response:
    """Shows a pipeline and one of its versions, by default the latest."""
    client, query = page.client(request), request.query_params
    pipeline, asked = _found(request, client)
    version = asked or pipeline.latest_version
    versions = client.pipelines.list_versions(pipeline_id=pipeline.pipeline_id, page_size=page.PAGE_SIZE)
    spec = version.spec if version and version.spec else SpecSummary()
    return page.render(
        request,
        "pipeline.html",
        pipeline=pipeline,
        version=version,
        changed=asked or pipeline,
        versions=versions.page(query.get("page", "")),
        spec=spec,
        types=TYPES,
        picture=_picture(spec, pipeline.name),
        tasks=[*named(spec.tasks)],
        query=query,
        not_kept=[name for name in _UPLOAD if name in query.getlist("not_kept")],
        form=_empty_form(name=pipeline.name, fixed="1"),
        problems=Problems(),
    )


def _found(request: Request, client: Client) -> tuple[Pipeline, PipelineVersion | None]:
    """Returns the pipeline and, if there is one in the address, the version."""
    asked = request.path_params
    pipeline = client.pipelines.get(pipeline_id=asked["pipeline_id"])
    return pipeline, _version(client, **asked) if "version_id" in asked else None


def _version(client: Client, pipeline_id: str, version_id: str) -> PipelineVersion:
    return client.pipelines.get_version(pipeline_id=pipeline_id, pipeline_version_id=version_id)


def named(tasks: Iterable[Task], above: Path = ()) -> Iterator[tuple[Path, Task]]:
    """Yields declared tasks with their names and those of their groups."""
    for task in tasks:
        yield (*above, task.name), task
        yield from named(task.tasks, (*above, task.name))


def _picture(
    spec: SpecSummary, title: str, where: str = "", states: Mapping[Path, str] | None = None, ids: str = "box-"
) -> Markup:
    """Draws the tasks of a version with their states, each with a link to its details on the page `where`."""
    links = {path: f"{where}#task-{number}" for number, (path, _) in enumerate(named(spec.tasks), 1)}
    graph = graph_of(spec.tasks, states=states)
    drawn = svg(graph, title, embedded=True, states=states, link=lambda node: links[node.path], ids=ids)
    return Markup(drawn)  # noqa: S704  it escapes all texts


# --- files ----------------------------------------------------------------------------------------------------------


def show_file(request: Request) -> Response:
    """Shows or sends the file of a version: as YAML, or as the JSON that is stored if it is large."""
    client, is_shown = page.client(request), request.url.path.endswith("/yaml")
    version = _version(client, **request.path_params)
    file, style = tempfile.TemporaryFile(), "json"  # noqa: SIM115  open until it is sent
    stored = client.pipelines.download(
        to=file, pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
    )
    file.seek(0)
    if stored.size <= (SHOWN_BYTES if is_shown else YAML_BYTES):
        with file as source:
            file, style = tempfile.TemporaryFile(), "yaml"  # noqa: SIM115
            write_yaml(source, file)
        file.seek(0)
    if is_shown:
        with file:
            text = file.read().decode() if style == "yaml" else ""
        return page.render(request, "yaml.html", version=version, text=text, shown=SHOWN_BYTES)
    pieces = iter(partial(file.read, _CHUNK_BYTES), b"")
    return page.attachment(pieces, f"{version.name}.{style}", f"application/{style}", task=BackgroundTask(file.close))


# --- changes --------------------------------------------------------------------------------------------------------


def _empty_form(**values: str) -> dict[str, str]:
    """Returns what the form of an upload holds at first."""
    empty = {"once": str(uuid.uuid4()), "if_exists": IfExists.SKIP_IF_SAME.value}
    return dict.fromkeys((*_UPLOAD, "fixed"), "") | empty | values


def upload(request: Request, form: FormData) -> Response:
    """Stores a file as a new pipeline, or as a version of one; `example` stands for a file of ours."""
    values = {name: text_of(form, name) for name in (*_UPLOAD, "fixed", "once")}
    file = form.get("file")
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
            tags=pairs(values["tags"], "tags"),
            if_exists=_IF_EXISTS.get(values["if_exists"], IfExists.SKIP_IF_SAME),
            request_id=request_id(form),
        )
    except AdapterError as error:
        about = next((_FIELDS[kind] for kind in _FIELDS if isinstance(error, kind)), "")
        values["once"] = str(uuid.uuid4())
        again = {"title": "Upload a pipeline", "form": values, "problems": problems_of(error, _UPLOAD, about)}
        return page.render(request, "form.html", page.http_status(error), **again)
    outcome = "new" if stored.version_created else "same"
    if stored.duplicate_check_skipped and values["if_exists"] == IfExists.SKIP_IF_SAME.value:
        outcome = "unchecked"
    where = page.path("pipelines", stored.pipeline.pipeline_id, "versions", stored.version.pipeline_version_id)
    notes = [("uploaded", outcome), *(("not_kept", name) for name in stored.not_kept)]
    return page.back(f"{where}?{urlencode(notes)}")


def update(request: Request, form: FormData) -> Response:
    """Changes the display name and the tags of a pipeline or of a version."""
    calls, asked = page.client(request).pipelines, request.path_params
    values, where = {name: text_of(form, name) for name in _UPDATE}, request.url.path.removesuffix("/update")
    try:
        shown, tags, pipeline_id = values["display_name"], pairs(values["tags"], "tags"), asked["pipeline_id"]
        if version_id := asked.get("version_id"):
            calls.update_version(pipeline_id=pipeline_id, pipeline_version_id=version_id, display_name=shown, tags=tags)
        else:
            calls.update(pipeline_id=pipeline_id, display_name=shown, tags=tags)
    except AdapterError as error:
        again = {"title": "Edit", "edited": values, "where": where, "problems": problems_of(error, _UPDATE)}
        return page.render(request, "form.html", page.http_status(error), **again)
    return page.back(where)


def ask_delete(request: Request) -> Response:
    """Asks whether a pipeline, or one of its versions, is to be deleted."""
    pipeline, version = _found(request, page.client(request))
    return page.render(request, "delete_pipeline.html", pipeline=pipeline, version=version)


def delete(request: Request, form: FormData) -> Response:
    """Deletes a pipeline with as many versions as the user was told, or one version."""
    calls, pipeline_id = page.client(request).pipelines, request.path_params["pipeline_id"]
    if version_id := request.path_params.get("version_id"):
        calls.delete_version(pipeline_id=pipeline_id, pipeline_version_id=version_id)
        return page.back(page.path("pipelines", pipeline_id))
    if str(calls.get(pipeline_id=pipeline_id).version_count) != form.get("versions"):
        return ask_delete(request)
    calls.delete(pipeline_id=pipeline_id, force=True)
    return page.back("/pipelines")


# --- two versions ---------------------------------------------------------------------------------------------------


def compare(request: Request) -> Response:
    """Shows what changed from one version of a pipeline to another."""
    client, pipeline_id = page.client(request), request.path_params["pipeline_id"]
    versions = [_version(client, pipeline_id, request.query_params.get(name, "")) for name in ("before", "after")]
    specs = [version.spec or SpecSummary() for version in versions]
    changes = compare_specs(*specs)
    changed = {one.name: one.change.value for one in changes if one.kind is PartKind.TASK}
    pictures = []
    for ids, version, spec in zip(("before-", "after-"), versions, specs, strict=True):
        states = {path: changed["/".join(path)] for path, _ in named(spec.tasks) if "/".join(path) in changed}
        where = page.path("pipelines", pipeline_id, "versions", version.pipeline_version_id)
        pictures.append((version, where, _picture(spec, version.name, where, states, ids)))
    return page.render(request, "compare_versions.html", pictures=pictures, changes=changes, missing=MISSING)


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

"""Pipelines: their list, one of them with its versions, uploads, and two versions compared."""

from __future__ import annotations

import tempfile
import uuid
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from markupsafe import Markup
from starlette.datastructures import UploadFile
from starlette.responses import Response, StreamingResponse
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
from kfadapter_grpc.contract.spec import SpecSummary
from kfadapter_grpc.graph import graph_of, svg
from kfadapter_grpc.pipeline_yaml import write_yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import BinaryIO, TypeAlias

    from starlette.datastructures import FormData
    from starlette.requests import Request

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.spec import Task

    Path: TypeAlias = tuple[str, ...]

SHOWN_BYTES = 256 * 1024
"""Up to which size a file is shown as YAML."""
YAML_BYTES = 4 * 2**20
"""Up to which size a file is sent as YAML; a larger one as JSON, as each MB takes a second to convert."""
_CHUNK_BYTES = 256 * 1024
_UPLOAD = ("file", "name", "version_name", "display_name", "description", "tags", "if_exists")
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
    """Parses `key=value` pairs, one in each line; a value may contain further `=`.

    Raises:
        InvalidFieldError: Some are not of this form, or a key occurs twice.
    """
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
    """Returns what an error says of each field.

    Args:
        error: The error.
        fields: The names of the fields.
        field: What an error without violations is about.
    """
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
    query = request.query_params
    where = {name: query.get(name, "") for name in ("name", "tags", "order")}
    found: Page[Pipeline] = Page(())
    problems = Problems()
    try:
        matching = page.client(request).pipelines.list(
            name_contains=where["name"],
            tags=pairs(where["tags"], "tags", ","),
            order_by=where["order"],
            page_size=page.PAGE_SIZE,
        )
        found = matching.page(query.get("page", ""))
    except InvalidFieldError as error:
        problems = problems_of(error, ["tags"])
    return page.render(
        request,
        "pipelines.html",
        pipelines=found,
        where=where,
        wrong=problems,
        pages=_pages(request, found.next_token),
        form=_empty_form(),
        problems=Problems(),
    )


def _pages(request: Request, following: str) -> tuple[str, str]:
    """Returns the addresses of the first and the next page of a list; empty for none."""
    where = {name: value for name, value in request.query_params.items() if name != "page"}
    first = f"?{urlencode(where)}" if "page" in request.query_params else ""
    return first, f"?{urlencode({**where, 'page': following})}" if following else ""


# --- one pipeline ---------------------------------------------------------------------------------------------------


def show(request: Request) -> Response:
    """Shows a pipeline and one of its versions, by default the latest."""
    client, asked = page.client(request), request.path_params
    pipeline = client.pipelines.get(pipeline_id=asked["pipeline_id"])
    version = (
        _version(client, asked["pipeline_id"], asked["version_id"])
        if "version_id" in asked
        else pipeline.latest_version
    )
    versions = client.pipelines.list_versions(pipeline_id=pipeline.pipeline_id, page_size=page.PAGE_SIZE)
    listed = versions.page(request.query_params.get("page", ""))
    spec = version.spec if version and version.spec else SpecSummary()
    return page.render(
        request,
        "pipeline.html",
        pipeline=pipeline,
        version=version,
        spec=spec,
        picture=_picture(spec, pipeline.name),
        tasks=[(path, _task_facts(task)) for path, task in _flat(spec.tasks)],
        versions=listed.items,
        pages=_pages(request, listed.next_token),
        uploaded=request.query_params.get("uploaded", ""),
        not_kept=[name for name in _UPLOAD if name in request.query_params.getlist("not_kept")],
        form=_empty_form(name=pipeline.name, fixed="1"),
        problems=Problems(),
    )


def _version(client: Client, pipeline_id: str, version_id: str) -> PipelineVersion:
    return client.pipelines.get_version(pipeline_id=pipeline_id, pipeline_version_id=version_id)


def _flat(tasks: Sequence[Task], above: Path = ()) -> Iterator[tuple[Path, Task]]:
    for task in tasks:
        yield (*above, task.name), task
        yield from _flat(task.tasks, (*above, task.name))


def _picture(spec: SpecSummary, title: str, where: str = "", states: Mapping[Path, str] | None = None) -> Markup:
    """Draws the tasks of a version, each with a link to its details on the page `where`."""
    links = {path: f"{where}#task-{number}" for number, (path, _) in enumerate(_flat(spec.tasks), 1)}
    drawn = svg(graph_of(spec.tasks), title, embedded=True, states=states, link=lambda node: links.get(node.path, ""))
    return Markup(drawn)  # noqa: S704  it escapes all texts


def _task_facts(task: Task) -> list[tuple[str, str]]:
    """Returns what is known of a task, as names and texts; some are empty."""
    facts = {
        "Kind": task.kind.value.replace("_", " "),
        "Display name": task.display_name if task.display_name != task.name else "",
        "Component": task.component,
        "Image": task.image,
        "After": ", ".join(task.depends_on),
        "If": task.condition,
        "For each of": task.loop_items,
        "Parallelism": str(task.loop_parallelism or ""),
        "Caching": "" if task.kind.is_group else "on" if task.caching_enabled else "off",
        "Retries": str(task.max_retries or ""),
        "Kubernetes": ", ".join(f"{one.kind} {one.name}".strip() for one in task.kubernetes_extras),
    }
    if needs := task.resources:
        facts["CPU"] = " to ".join(dict.fromkeys(filter(None, (needs.cpu_request, needs.cpu_limit))))
        facts["Memory"] = " to ".join(dict.fromkeys(filter(None, (needs.memory_request, needs.memory_limit))))
        facts["Accelerator"] = f"{needs.accelerator_count} {needs.accelerator_type}".strip()
    return [*facts.items()]


# --- files ----------------------------------------------------------------------------------------------------------


def _file(request: Request, yaml_bytes: int) -> tuple[PipelineVersion, BinaryIO, str]:
    """Downloads a version's file; returns it as YAML if it has up to `yaml_bytes`, else as the JSON that is stored."""
    client, asked = page.client(request), request.path_params
    version = _version(client, **asked)
    stored = tempfile.TemporaryFile()  # noqa: SIM115  whoever sends it closes it
    receipt = client.pipelines.download(
        to=stored, pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
    )
    stored.seek(0)
    if receipt.size > yaml_bytes:
        return version, stored, "json"
    with stored:
        write_yaml(stored, made := tempfile.TemporaryFile())  # noqa: SIM115
    made.seek(0)
    return version, made, "yaml"


def show_yaml(request: Request) -> Response:
    """Shows the file of a version as YAML, unless it is large."""
    version, file, style = _file(request, SHOWN_BYTES)
    with file:
        text = file.read().decode() if style == "yaml" else ""
    return page.render(request, "yaml.html", version=version, text=text, shown=SHOWN_BYTES)


def download(request: Request) -> Response:
    """Sends the file of a version."""
    version, file, style = _file(request, YAML_BYTES)
    name = quote(f"{version.name}.{style}", safe="")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}"}
    return StreamingResponse(_chunks(file), media_type=f"application/{style}", headers=headers)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


# --- changes --------------------------------------------------------------------------------------------------------


def _empty_form(**values: str) -> dict[str, str]:
    """Returns what the form of an upload holds at first."""
    empty = {"once": str(uuid.uuid4()), "if_exists": IfExists.SKIP_IF_SAME.value}
    return dict.fromkeys((*_UPLOAD, "fixed"), "") | empty | values


def show_upload(request: Request) -> Response:
    """Shows the form of an upload."""
    return page.render(request, "upload.html", form=_empty_form(), problems=Problems())


def upload(request: Request, form: FormData) -> Response:
    """Stores a file as a new pipeline, or as a version of one."""
    values = {name: text_of(form, name) for name in (*_UPLOAD, "fixed", "once")}
    file = form.get("file")
    try:
        if not isinstance(file, UploadFile) or not file.filename or not file.size:
            raise InvalidFieldError.of("file", "choose a file that is not empty")
        if file.filename.lower().endswith(".py"):
            raise InvalidFieldError.of("file", _NO_PYTHON.format(file.filename))
        stored = page.client(request).pipelines.upload(
            file.file,
            name=values["name"] or file.filename.split(".")[0],
            version_name=values["version_name"],
            display_name=values["display_name"],
            description=values["description"],
            tags=pairs(values["tags"], "tags"),
            if_exists=IfExists(values["if_exists"] or IfExists.SKIP_IF_SAME),
            request_id=request_id(form),
        )
    except AdapterError as error:
        problems = problems_of(error, _UPLOAD, next((_FIELDS[kind] for kind in _FIELDS if isinstance(error, kind)), ""))
        values["once"] = str(uuid.uuid4())
        return page.render(request, "upload.html", page.http_status(error), form=values, problems=problems)
    outcome = "new" if stored.version_created else "same"
    if stored.duplicate_check_skipped and values["if_exists"] == IfExists.SKIP_IF_SAME.value:
        outcome = "unchecked"
    where = page.path("pipelines", stored.pipeline.pipeline_id, "versions", stored.version.pipeline_version_id)
    notes = [("uploaded", outcome), *(("not_kept", name) for name in stored.not_kept)]
    return page.back(f"{where}?{urlencode(notes)}")


def ask_delete(request: Request) -> Response:
    """Asks whether a pipeline, or one of its versions, is to be deleted."""
    client, asked = page.client(request), request.path_params
    pipeline = client.pipelines.get(pipeline_id=asked["pipeline_id"])
    version = _version(client, **asked) if "version_id" in asked else None
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
    for version, spec in zip(versions, specs, strict=True):
        states = {path: changed.get("/".join(path), "") for path, _ in _flat(spec.tasks)}
        where = page.path("pipelines", pipeline_id, "versions", version.pipeline_version_id)
        pictures.append((version, where, _picture(spec, version.name, where, states)))
    return page.render(request, "compare_versions.html", pictures=pictures, changes=changes, missing=MISSING)


_PIPELINE = "/pipelines/{pipeline_id}"
_VERSION = f"{_PIPELINE}/versions/{{version_id}}"
ROUTES = [
    Route("/pipelines", show_list),
    Route("/upload", show_upload),
    Route("/upload", page.action(upload), methods=["POST"]),
    Route(_PIPELINE, show),
    Route(f"{_PIPELINE}/compare", compare),
    Route(_VERSION, show),
    Route(f"{_VERSION}/yaml", show_yaml),
    Route(f"{_VERSION}/file", download),
    *(Route(f"{which}/delete", ask_delete) for which in (_PIPELINE, _VERSION)),
    *(Route(f"{which}/delete", page.action(delete), methods=["POST"]) for which in (_PIPELINE, _VERSION)),
]

"""Pipelines: their list, one of them with its versions, uploads, and two versions compared."""

import re
from http import HTTPStatus
from io import BytesIO
from typing import Any, BinaryIO

from starlette.datastructures import FormData, QueryParams, UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from kfadapter_console import page
from kfadapter_grpc.client import Client
from kfadapter_grpc.comparison import MISSING, PartKind, compare_specs, task_fields
from kfadapter_grpc.contract.errors import AdapterError, InvalidFieldError
from kfadapter_grpc.contract.pipelines import IfExists, PipelineVersion
from kfadapter_grpc.contract.spec import ParameterType, SpecSummary
from kfadapter_grpc.pipeline_yaml import write_yaml

EXAMPLE = page.STATIC / "train.yaml"
"""A pipeline for first steps, which is examples/train.yaml."""
YAML_BYTES = 1024 * 1024
"""The largest file that is converted to YAML; each MB takes a second."""
TYPES = {
    ParameterType.NUMBER_DOUBLE: "number",
    ParameterType.NUMBER_INTEGER: "integer",
    ParameterType.STRING: "text",
    ParameterType.BOOLEAN: "true or false",
    ParameterType.LIST: "list",
    ParameterType.STRUCT: "object",
}
_UPLOAD = ("file", "name", "version_name", "description", "tags")
_SUFFIXES = re.compile(r"(\.tar)?\.\w+$")
_FIELDS = {
    "INVALID_PIPELINE_FILE": "file",
    "UPLOAD_TOO_LARGE": "file",
    "PIPELINE_EXISTS": "name",
    "VERSION_EXISTS": "version_name",
}
"""The field of the upload form that an error is about, by its reason."""
_NO_PYTHON = (
    "'{0}' is Python, which this page does not compile, because that runs it. Compile it on your machine and upload the"
    " result: kfp dsl compile --py {0} --output pipeline.yaml (kfadapter upload {0} does both)"
)


def show_list(client: Client, query: QueryParams, form: page.Form | None = None) -> page.Values:
    """Lists pipelines, with the upload form."""
    name, tags, order, token = (query.get(field, "") for field in ("name", "tags", "order", "page"))
    found, problem = page.listed(
        lambda: client.pipelines.list(
            name_contains=name, tags=page.pairs(tags, "tags", ","), order_by=order, page_size=page.PAGE_SIZE
        ).page(token)
    )
    return {"found": found, "problem": problem, "form": page.Form(query), "upload": form or page.Form({})}


def show(
    client: Client, query: QueryParams, pipeline_id: str, version_id: str = "", form: page.Form | None = None
) -> page.Values:
    """Shows a pipeline with a version, by default the latest, and the form to edit either."""
    pipeline = client.pipelines.get(pipeline_id=pipeline_id)
    requested = _version(client, pipeline_id, version_id) if version_id else None
    version, edited = requested or pipeline.latest_version, requested or pipeline
    versions = client.pipelines.list_versions(pipeline_id=pipeline_id, page_size=page.PAGE_SIZE)
    spec = version.spec if version and version.spec else SpecSummary()
    ports = {
        "parameter": spec.parameters,
        "input artifact": spec.input_artifacts,
        "output": spec.output_parameters,
        "output artifact": spec.output_artifacts,
    }
    values = {
        "display_name": edited.display_name if edited.display_name != edited.name else "",
        "tags": "\n".join(map("=".join, edited.tags.items())),
    }
    return {
        "pipeline": pipeline,
        "version": version,
        "versions": versions.page(query.get("page", "")),
        "spec": spec,
        "ports": [(kind, port) for kind, some in ports.items() for port in some],
        "types": TYPES,
        "tasks": task_fields(spec.tasks),
        "not_kept": [name for name in _UPLOAD if name in query.getlist("not_kept")],
        "edit": form or page.Form(values),
        "upload": page.Form({"name": pipeline.name, "fixed": "1"}),
    }


def _version(client: Client, pipeline_id: str, version_id: str) -> PipelineVersion:
    return client.pipelines.get_version(pipeline_id=pipeline_id, pipeline_version_id=version_id)


def show_yaml(client: Client, _: QueryParams, pipeline_id: str, version_id: str) -> page.Values:
    """Shows the file of a version as YAML, unless it is large."""
    version, file, style = _file(client, pipeline_id, version_id)
    return {"version": version, "text": file.decode() if style == "yaml" else "", "limit": YAML_BYTES}


def download(client: Client, _: QueryParams, pipeline_id: str, version_id: str) -> Response:
    version, file, style = _file(client, pipeline_id, version_id)
    return page.attachment([file], f"{version.name}.{style}", f"application/{style}")


def _file(client: Client, pipeline_id: str, version_id: str) -> tuple[PipelineVersion, bytes, str]:
    """Returns the file of a version as YAML; a large one as the JSON that is stored."""
    version, stored, converted = _version(client, pipeline_id, version_id), BytesIO(), BytesIO()
    client.pipelines.download(to=stored, pipeline_id=pipeline_id, pipeline_version_id=version_id)
    if stored.tell() > YAML_BYTES:
        return version, stored.getvalue(), "json"
    stored.seek(0)
    write_yaml(stored, converted)
    return version, converted.getvalue(), "yaml"


def upload(client: Client, form: FormData) -> str:
    """Stores a file as a new pipeline, or as a version of one; `example` stands for our own file."""
    values, file = dict.fromkeys(_UPLOAD, "") | page.texts_of(form), form.get("file")
    content: BinaryIO | str = str(EXAMPLE)
    if "example" in form:
        name = EXAMPLE.stem
    elif not isinstance(file, UploadFile) or not file.filename or not file.size:
        raise InvalidFieldError.of("file", "choose a file that is not empty")
    elif file.filename.lower().endswith(".py"):
        raise InvalidFieldError.of("file", _NO_PYTHON.format(file.filename))
    else:
        name, content = _SUFFIXES.sub("", file.filename), file.file
    try:
        receipt = client.pipelines.upload(
            content,
            name=values["name"] or name,
            version_name=values["version_name"],
            description=values["description"],
            tags=page.pairs(values["tags"], "tags"),
            if_exists=IfExists.SKIP_IF_SAME,
            request_id=page.request_id(form),
        )
    except AdapterError as error:
        if error.reason not in _FIELDS:
            raise
        raise InvalidFieldError.of(_FIELDS[error.reason], error.message) from error
    outcome = "unchecked" if receipt.duplicate_check_skipped else "new" if receipt.version_created else "same"
    path = ("pipelines", receipt.pipeline.pipeline_id, "versions", receipt.version.pipeline_version_id)
    return page.link(*path, uploaded=outcome, not_kept=receipt.not_kept)


def update(client: Client, form: FormData, pipeline_id: str, version_id: str = "") -> str:
    """Changes the display name and the tags of a pipeline or of a version."""
    values = page.texts_of(form)
    changes: dict[str, Any] = {
        "display_name": values.get("display_name", ""),
        "tags": page.pairs(values.get("tags", ""), "tags"),
    }
    if version_id:
        client.pipelines.update_version(pipeline_id=pipeline_id, pipeline_version_id=version_id, **changes)
        return page.link("pipelines", pipeline_id, "versions", version_id)
    client.pipelines.update(pipeline_id=pipeline_id, **changes)
    return page.link("pipelines", pipeline_id)


def delete(client: Client, form: FormData, pipeline_id: str, version_id: str = "") -> str:
    """Deletes a pipeline with the number of versions that the user confirmed, or one version."""
    calls = client.pipelines
    if version_id:
        calls.delete_version(pipeline_id=pipeline_id, pipeline_version_id=version_id)
        return page.link("pipelines", pipeline_id)
    if (count := calls.get(pipeline_id=pipeline_id).version_count) != page.number(str(form.get("versions"))):
        raise HTTPException(HTTPStatus.CONFLICT, f"Nothing was deleted: the pipeline now has {count} versions.")
    calls.delete(pipeline_id=pipeline_id, force=True)
    return "/pipelines"


def compare(client: Client, query: QueryParams, pipeline_id: str) -> page.Values:
    """Compares two versions of a pipeline."""
    versions = [_version(client, pipeline_id, query.get(name, "")) for name in ("before", "after")]
    changes = compare_specs(*(version.spec or SpecSummary() for version in versions))
    states = {tuple(change.name.split("/")): change.change.value for change in changes if change.kind is PartKind.TASK}
    return {"versions": versions, "states": states, "changes": changes, "missing": MISSING}


_PIPELINE = "/pipelines/{pipeline_id}"
_VERSION = f"{_PIPELINE}/versions/{{version_id}}"
ROUTES = [
    page.view("/pipelines", show_list, "pipelines.html"),
    page.action("/pipelines", upload, show_list, "pipelines.html"),
    page.view(f"{_PIPELINE}/compare", compare, "compare_versions.html"),
    page.view(f"{_VERSION}/yaml", show_yaml, "yaml.html"),
    page.view(f"{_VERSION}/file", download),
    *(page.view(path, show, "pipeline.html") for path in (_PIPELINE, _VERSION)),
    *(page.action(path, update, show, "pipeline.html") for path in (_PIPELINE, _VERSION)),
    *(page.action(f"{path}/delete", delete) for path in (_PIPELINE, _VERSION)),
]

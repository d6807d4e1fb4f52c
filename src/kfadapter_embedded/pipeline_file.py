"""Parses pipeline files as KFP does.

The checks are made in KFP's order, with KFP's messages.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, cast

from google.protobuf import json_format
from google.protobuf.message import Message

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.pipelines import FileKind

from .json_text import JsonValue, as_served, protojson
from .yaml_documents import YamlError, mappings

MAX_FILE_SIZE = 32 << 20
_ARCHIVES = {b"PK": FileKind.ZIP, b"\x1f\x8b": FileKind.TAR_GZ}
_SECONDS = 600.0
_SCHEMA_VERSION = "2.1.0"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_UNKNOWN = "unknown template format"
_CONTAINER_FIELDS = ("container", "script")
_CONTAINER_LISTS = ("initContainers", "sidecars")


class UnreadableFileError(Exception):
    """The file is too large, of an unknown type, or an archive that is broken or contains no pipeline file."""


class NoPipelineError(Exception):
    """The file can be read but is not a pipeline that KFP accepts; the message is KFP's."""


@dataclass
class _Specs:
    pipeline: dict[str, JsonValue] | None = None
    platform: dict[str, JsonValue] | None = None


def open_pipeline_file(filename: str, file: BinaryIO) -> BinaryIO:
    """Opens the text of a pipeline in an upload: YAML and JSON are recognized by file extension, archives by content.

    Returns the file itself or one inside it, at its start; the caller closes both. Raises UnreadableFileError.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if size > MAX_FILE_SIZE:
        raise UnreadableFileError(f"larger than {MAX_FILE_SIZE} bytes")
    if filename.endswith((".yaml", ".yml", ".json")):
        return file
    kind = _ARCHIVES.get(file.read(2))
    file.seek(0)
    if kind is None:
        raise UnreadableFileError("neither YAML nor JSON by its name, nor a zip or tar.gz by its content")
    from kfadapter_grpc.upload.archives import open_member  # noqa: PLC0415  0.1 s, which most uploads do not need
    from kfadapter_grpc.upload.limits import UploadLimits  # noqa: PLC0415

    try:
        _, member = open_member(kind, file, UploadLimits(MAX_FILE_SIZE), Call("upload", _SECONDS))
        return io.BytesIO(member.read_all(MAX_FILE_SIZE + 1))
    except AdapterError as error:
        raise UnreadableFileError(error.message) from error


def read_spec(text: BinaryIO) -> str:
    """The specification that KFP returns for a pipeline file, as compact JSON text; raises NoPipelineError."""
    return protojson(_read(text))


def sent_spec(document: dict[str, JsonValue]) -> str:
    """The same for a specification that was sent as JSON, bare or wrapped."""
    parts = [document.get("pipeline_spec"), document.get("platform_spec")]
    documents = parts if parts[0] else [document]
    return protojson(_specification(each for each in documents if isinstance(each, dict)))


def _read(text: BinaryIO) -> JsonValue:
    specs = _Specs()
    try:
        return _specification(mappings(text), specs)
    except YamlError as error:
        words = "failed to parse pipeline spec YAML" if specs.pipeline is None else "unable to decode yaml document"
        raise NoPipelineError(f"{words}: {error}") from error


def _specification(documents: Iterable[dict[str, JsonValue]], specs: _Specs | None = None) -> JsonValue:
    """The specification that KFP returns for these documents; `specs` is filled as they are read."""
    specs = specs or _Specs()
    for number, document in enumerate(documents):
        if number == 0 and (workflow := _try_workflow(document)):
            return workflow
        _add_document(specs, document)
    if specs.pipeline is None:
        raise NoPipelineError(_UNKNOWN)
    if specs.platform is None:
        return specs.pipeline
    return {"pipeline_spec": specs.pipeline, "platform_spec": specs.platform}


def _add_document(specs: _Specs, document: dict[str, JsonValue]) -> None:
    """Adds a document to `specs`; ignores a document that is neither a pipeline nor a platform spec."""
    if pipeline := _try_pipeline_spec(document):
        if specs.pipeline:
            raise NoPipelineError("multiple pipeline specs provided")
        _check(pipeline)
        specs.pipeline = pipeline
    elif platform := _try_platform_spec(document):
        if specs.platform:
            raise NoPipelineError("multiple platform specs provided")
        specs.platform = platform


def _check(pipeline: dict[str, JsonValue]) -> None:
    version = pipeline.get("schemaVersion", "")
    if version != _SCHEMA_VERSION:
        raise NoPipelineError(
            f"KFP only supports schema version {_SCHEMA_VERSION}, but the pipeline spec has version {version}"
        )
    info = pipeline["pipelineInfo"]
    if not isinstance(info, dict) or not _NAME.fullmatch(str(info["name"])):
        raise NoPipelineError(
            "pipeline's name must contain only lowercase alphanumeric characters or '-' and must start with "
            "alphanumeric characters"
        )


def _try_pipeline_spec(document: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
    """The document as KFP returns it, if it is a pipeline spec with a name and a root."""
    # Python's protobuf parser accepts an empty list for an empty message; Go's does not.
    spec = _through_message("PipelineSpec", document) if isinstance(document.get("root"), dict) else None
    if spec is None or "root" not in spec:
        return None
    info = spec.get("pipelineInfo")
    return spec if isinstance(info, dict) and info.get("name") else None


def _try_platform_spec(document: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
    """The document as KFP returns it, if it is a platform spec for Kubernetes."""
    spec = _through_message("PlatformSpec", document)
    platforms = spec.get("platforms") if spec else None
    return spec if isinstance(platforms, dict) and "kubernetes" in platforms else None


def _through_message(name: str, document: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
    message: Message = getattr(_definitions(), name)()
    try:
        json_format.ParseDict(document, message, max_recursion_depth=1000)
        served = json_format.MessageToDict(message)
    except (json_format.Error, ValueError, OverflowError):
        return None
    return cast("dict[str, JsonValue]", as_served(served))


@functools.cache
def _definitions() -> ModuleType:
    """The generated module of kfp-pipeline-spec, loaded from its file.

    It is part of the package `kfp`, whose import would take a second and 77 MiB.
    """
    package = importlib.util.find_spec("kfp")
    folders = package.submodule_search_locations if package else None
    path = next((each for each in map(_module_path, folders or ()) if each.exists()), None)
    spec = importlib.util.spec_from_file_location("kfadapter_embedded._pipeline_spec_pb2", path) if path else None
    if spec is None or spec.loader is None:
        raise ImportError("kfp-pipeline-spec is not installed: it comes with the extra `embedded`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _module_path(folder: str) -> Path:
    return Path(folder) / "pipeline_spec" / "pipeline_spec_pb2.py"


def _try_workflow(document: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
    """The document as KFP returns it, if it is an Argo Workflow: with the empty fields that Go's types add."""
    version = document.get("apiVersion")
    if not isinstance(version, str) or not version.startswith("argoproj.io/") or document.get("kind") != "Workflow":
        return None
    # A deep copy: a value shared by two aliases must not be filled in twice.
    served = cast("dict[str, JsonValue]", as_served(document))
    served["metadata"] = served.get("metadata") or {}
    served.setdefault("status", {"finishedAt": None, "startedAt": None})
    spec = served.setdefault("spec", {})
    if isinstance(spec, dict):
        _fill_arguments(spec)
        for template in _each_mapping(spec.get("templates")):
            _fill_template(template)
    return served


def _fill_template(template: dict[str, JsonValue]) -> None:
    for name in ("inputs", "metadata", "outputs"):
        template.setdefault(name, {})
    _fill_parameters(template["inputs"])
    lists = [each for name in _CONTAINER_LISTS for each in _each_mapping(template.get(name))]
    for container in [*_each_mapping([template.get(name) for name in _CONTAINER_FIELDS]), *lists]:
        container.setdefault("name", "")
        container.setdefault("resources", {})
    for task in _tasks(template):
        _fill_arguments(task)


def _tasks(template: dict[str, JsonValue]) -> Iterator[dict[str, JsonValue]]:
    dag, steps = template.get("dag"), template.get("steps")
    yield from _each_mapping(dag.get("tasks")) if isinstance(dag, dict) else ()
    for group in steps if isinstance(steps, list) else ():
        yield from _each_mapping(group)


def _fill_arguments(holder: dict[str, JsonValue]) -> None:
    _fill_parameters(holder.setdefault("arguments", {}))


def _fill_parameters(arguments: JsonValue) -> None:
    """Converts the values of parameters to strings, as Argo does."""
    for parameter in _each_mapping(arguments.get("parameters")) if isinstance(arguments, dict) else ():
        for name in ("default", "value"):
            value = parameter.get(name)
            if isinstance(value, bool):
                parameter[name] = str(value).lower()
            elif isinstance(value, int | float):
                parameter[name] = str(value)


def _each_mapping(values: JsonValue) -> Iterator[dict[str, JsonValue]]:
    yield from (each for each in values if isinstance(each, dict)) if isinstance(values, list) else ()

"""What KFP accepts as a pipeline file, and what it makes of it.

The checks come in KFP's order, with KFP's words.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .archives import MAX_FILE_SIZE, UnreadableFileError, is_yaml_name, open_archive
from .argo_workflow import try_workflow
from .pipeline_schema import try_pipeline_spec, try_platform_spec
from .yaml_documents import YamlError, mappings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from .json_text import JsonValue

_SCHEMA_VERSION = "2.1.0"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_UNKNOWN = "unknown template format"


class NoPipelineError(Exception):
    """The file was read, and is no pipeline that KFP takes; the text is KFP's."""


@dataclass
class _Specs:
    pipeline: dict[str, JsonValue] | None = None
    platform: dict[str, JsonValue] | None = None


def open_pipeline_file(filename: str, file: BinaryIO) -> BinaryIO:
    """Finds the text of a pipeline in an uploaded file.

    Args:
        filename: the name it was uploaded under; its ending tells YAML and JSON, archives are told by content.
        file: the upload, at its start.

    Returns:
        The text, at its start: the file itself, or one from inside it. Both are the caller's to close.

    Raises:
        UnreadableFileError: there is no such text.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if size > MAX_FILE_SIZE:
        raise UnreadableFileError(f"larger than {MAX_FILE_SIZE} bytes")
    if is_yaml_name(filename) or filename.endswith(".json"):
        return file
    text = open_archive(file)
    if text is None:
        raise UnreadableFileError("neither YAML nor JSON by its name, nor a zip or tar.gz by its content")
    return text


def read_spec(text: BinaryIO) -> str:
    """The specification that KFP serves for a pipeline file, as compact JSON text.

    Raises:
        NoPipelineError: it is no pipeline.
    """
    return _written(_read(text))


def sent_spec(document: dict[str, JsonValue]) -> str:
    """The specification that KFP serves for one that was sent as JSON, as compact JSON text.

    Args:
        document: a pipeline spec, or an object of `pipeline_spec` and `platform_spec`.

    Raises:
        NoPipelineError: it is no pipeline.
    """
    parts = [document.get("pipeline_spec"), document.get("platform_spec")]
    documents = parts if parts[0] else [document]
    return _written(_of(each for each in documents if isinstance(each, dict)))


def _written(spec: JsonValue) -> str:
    """Writes the keys in order, as KFP does; the messages that the spec went through have none."""
    return json.dumps(spec, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _read(text: BinaryIO) -> JsonValue:
    specs = _Specs()
    try:
        return _of(mappings(text), specs)
    except YamlError as error:
        words = "failed to parse pipeline spec YAML" if specs.pipeline is None else "unable to decode yaml document"
        raise NoPipelineError(f"{words}: {error}") from error


def _of(documents: Iterable[dict[str, JsonValue]], specs: _Specs | None = None) -> JsonValue:
    """What KFP serves for these documents; `specs` is filled as they are read."""
    specs = specs or _Specs()
    for number, document in enumerate(documents):
        if number == 0 and (workflow := try_workflow(document)):
            return workflow
        _take(specs, document)
    if specs.pipeline is None:
        raise NoPipelineError(_UNKNOWN)
    if specs.platform is None:
        return specs.pipeline
    return {"pipeline_spec": specs.pipeline, "platform_spec": specs.platform}


def _take(specs: _Specs, document: dict[str, JsonValue]) -> None:
    """Puts a document where it belongs; what is neither pipeline nor platform spec is passed over."""
    if pipeline := try_pipeline_spec(document):
        if specs.pipeline:
            raise NoPipelineError("multiple pipeline specs provided")
        _check(pipeline)
        specs.pipeline = pipeline
    elif platform := try_platform_spec(document):
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

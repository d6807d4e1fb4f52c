"""What KFP's own message definitions accept as a pipeline, and how they write it back as JSON."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, cast

from google.protobuf import json_format

from .json_text import as_served

if TYPE_CHECKING:
    from types import ModuleType

    from google.protobuf.message import Message

    from .json_text import JsonValue


def try_pipeline_spec(document: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
    """The document as KFP serves it, if it is a pipeline spec with a name and a root."""
    # Python's reader of messages takes an empty list for an empty message; Go's does not.
    spec = _through_message("PipelineSpec", document) if isinstance(document.get("root"), dict) else None
    if spec is None or "root" not in spec:
        return None
    info = spec.get("pipelineInfo")
    return spec if isinstance(info, dict) and info.get("name") else None


def try_platform_spec(document: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
    """The document as KFP serves it, if it is a platform spec for Kubernetes."""
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

    It lives in the package `kfp`; importing that would cost a second and 77 MiB.
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

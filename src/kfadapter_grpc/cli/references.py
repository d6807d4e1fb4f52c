"""What a word of the command line names: a pipeline or a version, by name or by id."""

from __future__ import annotations

import re

import typer

from kfadapter_grpc.domain.models import PipelineRef, VersionRef

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def reference(text: str, *, by_id: bool | None) -> PipelineRef:
    """Tells a name from an id: what looks like a UUID is an id, unless `by_id` says what it is."""
    if by_id or (by_id is None and _UUID.fullmatch(text)):
        return PipelineRef(pipeline_id=text)
    return PipelineRef(name=text)


def one_version(text: str) -> VersionRef:
    """Tells a version's name from its id, as `version_reference`, but does not take nothing for the latest.

    Raises:
        BadParameter: It is empty, as an unset shell variable leaves it.
    """
    if not text:
        message = "an empty text is no version"
        raise typer.BadParameter(message)
    return version_reference(text)


def version_reference(text: str) -> VersionRef:
    """Tells a version's name from its id: what looks like a UUID is an id; nothing is the latest version."""
    return VersionRef(pipeline_version_id=text) if _UUID.fullmatch(text) else VersionRef(name=text)

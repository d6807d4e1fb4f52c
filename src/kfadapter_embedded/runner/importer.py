"""Imports artifacts from elsewhere."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from kfadapter_embedded.execution import State
from kfadapter_embedded.json_text import sound_text, to_json

from .outcome import Outcome, failed
from .placeholders import filled_metadata
from .task_api import recorded
from .values import RuntimeArtifact, Values, as_text

if TYPE_CHECKING:
    from .log import TaskLog
    from .spec import Component, Importer
    from .warned import TaskWarnings


def imported(importer: Importer, component: Component, values: Values, log: TaskLog, warnings: TaskWarnings) -> Outcome:
    """Imports an artifact: nothing is copied, and what lies on this machine must be there."""
    parameter = importer.artifact_uri.get("runtimeParameter", "")
    uri = importer.artifact_uri.get("constant") or as_text(values.parameters.get(parameter, ""))
    parts = urlsplit(uri)
    if parts.scheme in {"", "file"}:
        uri = unquote(parts.path) if parts.scheme else uri
        if not Path(uri).exists():
            return failed(f"it imports {uri}, and there is no such file on this machine")
    log.note(f"imports {uri}; nothing is copied")
    metadata = filled_metadata(importer.metadata or {}, values.parameters, warnings)
    declared = component.output_definitions.artifacts.items()
    made = {
        name: recorded(RuntimeArtifact(name, one.artifact_type, uri, metadata), imported=True) for name, one in declared
    }
    if not importer.reimport:
        made = {name: _reused(artifact) for name, artifact in made.items()}
    return Outcome(State.SUCCEEDED, values=Values(artifacts={name: (one,) for name, one in made.items()}))


def _reused(artifact: RuntimeArtifact) -> RuntimeArtifact:
    """The artifact with the id that the same one had before, so that the cache knows it; a changed file is another."""
    found = Path(artifact.uri).stat() if artifact.uri.startswith("/") else None
    version = (found.st_mtime_ns, found.st_size) if found else ()
    same = to_json([artifact.type, artifact.uri, dict(artifact.metadata), version])
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, sound_text(same)))
    return replace(artifact, records=tuple({**one, "artifact_id": identity} for one in artifact.records))

"""Results of tasks, stored in files: a retry reuses those of its run, and the cache finds those of all runs.

The cache is a folder of links, each from a fingerprint to a result in the folder of a run. Deleting a run deletes its
results, and leaves dangling links.
"""

from __future__ import annotations

import json
import os
import uuid
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from kfadapter_embedded.execution import State
from kfadapter_embedded.json_text import as_served, to_json

from .outcome import Outcome
from .values import RuntimeArtifact, Values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kfadapter_embedded.execution import TaskReport
    from kfadapter_embedded.json_text import JsonValue

    from .dag import Leaf
    from .spec import Component, Task
    from .warned import TaskWarnings

# Escaped as by Go's JSON.
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Kept:
    """Executes tasks, a `Leaf`, unless a result exists: of the run that is retried, or in the cache."""

    def __init__(self, leaf: Leaf, folder: Path, cache: Path | None) -> None:
        """Stores results in a folder that is created with the first; without a cache, for this run only."""
        self._leaf = leaf
        self._folder = folder
        self._cache = cache

    def __call__(
        self, begun: TaskReport, task: Task, component: Component, values: Values, warnings: TaskWarnings
    ) -> Outcome:
        """Executes a task, or returns its stored result."""
        path = self._folder / f"{sha256(begun.name.encode()).hexdigest()[:32]}.json"
        if found := _read(path):
            return found
        mark = begun.details.get("cache_fingerprint")
        entry = self._cache / str(mark) if self._cache and mark else None
        if entry and (found := _read(entry)):
            with suppress(OSError):
                _link(path, entry.resolve())
            return found
        outcome = self._leaf(begun, task, component, values, warnings)
        if outcome.state is State.SUCCEEDED:
            # On a full disk a retry executes the task again; nothing else is lost.
            with suppress(OSError):
                _write(path, outcome)
                if entry:
                    _link(entry, path)
        return outcome


def fingerprint(task: Task, component: Component, values: Values, pipeline: str) -> dict[str, JsonValue]:
    """Identifies the command and its inputs, if results may be reused (`driver/cache.go:getFingerPrintsAndID`)."""
    container, outputs = component.executor.container, component.output_definitions
    if container is None or not task.caching_options.get("enableCache"):
        return {}
    key: dict[str, JsonValue] = {
        "inputArtifactNames": {
            name: {"artifactNames": [identity for one in several for identity in _identities(one)]}
            for name, several in values.artifacts.items()
        },
        "inputParameterValues": dict(values.parameters),
        "outputArtifactsSpec": {
            name: {"name": name, "type": one.artifact_type, **({"metadata": one.metadata} if one.metadata else {})}
            for name, one in outputs.artifacts.items()
        },
        "outputParametersSpec": {name: one.parameter_type for name, one in outputs.parameters.items()},
        "containerSpec": {
            "image": container.image,
            "cmdArgs": [*container.command, *container.args, f"__kfp_pipeline_name={pipeline}"],
        },
    }
    return {"cache_fingerprint": digest({name: each for name, each in key.items() if each})}


def _identities(artifact: RuntimeArtifact) -> list[str]:
    """The ids of an artifact, or its URI: metrics without numbers have no id, but may still have a file."""
    return [str(each["artifact_id"]) for each in artifact.records] or [artifact.uri]


def digest(key: JsonValue) -> str:
    """The fingerprint of a cache key in protobuf's JSON (`cacheutils/cache.go:GenerateFingerPrint`)."""
    text = json.dumps(as_served(key), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return sha256("".join(_ESCAPED.get(each, each) for each in text).encode()).hexdigest()


def _link(path: Path, target: Path) -> None:
    """Creates a link, replacing an existing one."""
    made = path.with_name(f".{uuid.uuid4().hex}")
    path.parent.mkdir(exist_ok=True)
    made.symlink_to(target)
    made.replace(path)


def _write(path: Path, outcome: Outcome) -> None:
    artifacts = {name: [vars(one) for one in several] for name, several in outcome.values.artifacts.items()}
    kept = {
        "attempts": outcome.attempts,
        "parameters": dict(outcome.values.parameters),
        "artifacts": artifacts,
        "files": [one for one in _files(outcome.values) if os.path.exists(one)],  # noqa: PTH110  # of any characters
    }
    made = path.with_name(f".{uuid.uuid4().hex}")
    path.parent.mkdir(exist_ok=True)
    try:
        made.write_text(to_json(kept), encoding="utf-8", errors="surrogatepass")
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _read(path: Path) -> Outcome | None:
    """A result, unless it or one of its files is missing; a linked result is from the cache."""
    try:
        kept = json.loads(path.read_text("utf-8", errors="surrogatepass"))
    except (OSError, ValueError):
        return None
    if not all(os.path.exists(one) for one in kept["files"]):  # noqa: PTH110  # as above
        return None
    artifacts = {
        name: tuple(RuntimeArtifact(**{**one, "records": tuple(one["records"])}) for one in several)
        for name, several in kept["artifacts"].items()
    }
    values = Values(kept["parameters"], artifacts)
    if path.is_symlink():
        return Outcome(State.SUCCEEDED, values=values, known="CACHED")
    return Outcome(State.SUCCEEDED, values=values, attempts=kept["attempts"])


def _files(values: Values) -> Iterator[str]:
    """The paths of the artifacts on this machine."""
    for several in values.artifacts.values():
        for record in (record for one in several for record in one.records):
            if str(record.get("uri")).startswith("file:"):
                yield unquote(urlsplit(str(record["uri"])).path)

"""Small pipelines with the results of KFP 2.17.0's server, driver and launcher, and their comparison with ours.

`tests/data/corpus.tar.xz` holds `compiled/NAME.yaml` and `expected/NAME.json`: of each run its parameters and state,
and of each task (keys of the spec joined by `/`, `key[i]` for an iteration) its state, output parameters, artifacts and
errors. KFP recorded numbers as doubles, and ML Metadata keeps six decimals of them in metadata and no booleans, so
these are compared as numbers of six decimals.

`tests/data/corpus_more.tar.xz` has the same of further pipelines, run by the driver and launcher of the tag 2.17.0 with
ML Metadata 1.14.0 on a database in memory, and files in place of an object store.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

Json: TypeAlias = Any
DATA = Path(__file__).parents[2] / "data"
_MOST_CHARACTERS = 4000
# Types of tasks, and the state of those that never started; the rest of `task_details` are drivers and the run itself.
_SHOWN = {"RUNTIME", "IMPORTER", "LOOP", "DAG", "CONDITION_BRANCH", "SKIPPED"}
_OF_ML_METADATA = {"display_name", "store_session_info"}


def files() -> dict[str, bytes]:
    """The archives' files by path."""
    found: dict[str, bytes] = {}
    for name in ("corpus.tar.xz", "corpus_more.tar.xz"):
        with tarfile.open(DATA / name) as archive:
            found |= {one.name: _content(archive, one) for one in archive if one.isfile()}
    return found


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file
    return file.read()


def differences(expected: Json, run: Json, details: Json, tasks: Json) -> Iterator[tuple[str, str]]:
    """Where a run differs from KFP's: the task's path, or "run", and the difference.

    Args:
        expected: KFP's.
        run: The run as the embedded KFP serves it.
        details: Its `task_details`, whose `display_name` is the task's path.
        tasks: Its tasks as the task API serves them.
    """
    if expected["state"] != run["state"]:
        yield "run", f"{expected['state']} in KFP, {run['state']} here: {run.get('error')}"
    by_id = {one["task_id"]: one for one in tasks}
    known = (one for one in details if by_id.get(one["task_id"], {"type": one["state"]})["type"] in _SHOWN)
    ours = {one["display_name"]: (one, by_id.get(one["task_id"], {})) for one in known}
    for path, theirs in expected["tasks"].items():
        detail, task = ours.pop(path, ({}, {}))
        for difference in _of_task(theirs, detail, task, run["run_id"]):
            yield path, difference
    for path, (detail, _) in ours.items():
        if path and detail["state"] in {"SUCCEEDED", "FAILED"}:
            yield path, f"not in KFP, {detail['state']} here"


def _of_task(theirs: Json, detail: Json, task: Json, run_id: str) -> Iterator[str]:
    state = theirs["state"]
    if not detail:
        if state not in {"OMITTED", "SKIPPED"} and not theirs.get("group"):
            yield f"{state} in KFP, not here"
        return
    # A task that was never started is SKIPPED in `task_details`, whatever the cause.
    shown = task.get("state") or detail["state"]
    if theirs.get("group") and shown == "SKIPPED":
        # In the next KFP's task API, to which ours belongs, an empty loop and a group of skipped tasks are SKIPPED.
        shown = "SUCCEEDED"
    if {"OMITTED": "SKIPPED"}.get(state, state) != shown:
        yield f"{state} in KFP, {shown} here: {(task.get('status_metadata') or {}).get('message')}"
        return
    if theirs.get("group") and "outputs" not in theirs:
        return
    if (wanted := _plain(theirs.get("outputs", {}), run_id)) != (given := _plain(_parameters(task), run_id)):
        yield f"outputs {wanted} in KFP, {given} here"
    if state in {"SUCCEEDED", "CACHED"} and (made := _wanted(theirs)) != (found := _artifacts(task)):
        yield f"artifacts {made} in KFP, {found} here"
    if theirs.get("errors"):
        message = (task.get("status_metadata") or {}).get("message", "")
        kind = "kfp" if message.startswith(("failed to execute component", "failed to execute importer")) else "driver"
        if kind not in theirs["errors"][-1]:
            yield f"{theirs['errors'][-1]} in KFP, {message!r} here"


def _parameters(task: Json) -> dict[str, Json]:
    listed = task.get("outputs", {}).get("parameters", ())
    return {one["parameter_key"]: one["value"] for one in listed if one["type"] == "OUTPUT" or "iteration" in str(one)}


def _plain(value: Json, run_id: str) -> str:
    text = json.dumps(_numbers(value), ensure_ascii=False, sort_keys=True).replace(run_id, "{run id}")
    return re.sub(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{3,4}[0-9a-f-]{16,19}", "{uuid}", text)


def _numbers(value: Json) -> Json:
    """The same, with numbers as doubles, and long texts as their lengths."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return int(float(value)) if abs(value) < 1e300 and float(value).is_integer() else value  # a double
    if isinstance(value, str):
        return {"_chars": len(value)} if len(value) > _MOST_CHARACTERS else _seen(value)
    if isinstance(value, Mapping):
        return {key: _numbers(one) for key, one in value.items()}
    return [_numbers(one) for one in value]


def _seen(text: str) -> str:
    """What a task printed of an artifact's metadata, without the keys that ML Metadata adds."""
    text = re.sub(r"'display_name': '[^']*',? ?|'store_session_info': '\{[^']*\}',? ?", "", text)
    return text.replace(", }", "}")


def _wanted(theirs: Json) -> dict[str, list[Json]]:
    listed = {name: one if isinstance(one, list) else [one] for name, one in theirs.get("artifacts", {}).items()}
    return {name: [_artifact(one) for one in several] for name, several in listed.items()}


def _artifact(one: Json) -> Json:
    metadata = {name: value for name, value in one["metadata"].items() if name not in _OF_ML_METADATA}
    return {"type": one["type"], "metadata": _loose(metadata), "content": one["content"]}


def _loose(value: Json) -> Json:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return round(float(value), 6)
    if isinstance(value, Mapping):
        if len(value) == 1 and value.keys() <= {"list", "struct"}:
            return _loose(next(iter(value.values())))
        return {key: _loose(one) for key, one in value.items()}
    return [_loose(one) for one in value] if isinstance(value, list) else value


_TITLES = {
    "Metric": "system.Metrics",
    "ClassificationMetric": "system.ClassificationMetrics",
    "SlicedClassificationMetric": "system.SlicedClassificationMetrics",
}


def _artifacts(task: Json) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for entry in task.get("outputs", {}).get("artifacts", ()):
        if entry["artifact_key"] == "executor-logs":
            continue
        listed = found.setdefault(entry["artifact_key"], [])
        metrics: dict[str, Json] = {}
        for one in entry["artifacts"]:
            if one["type"] == "Metric":
                metrics[one["name"]] = one.get("number_value", one.get("metadata", {}).get(one["name"]))
                continue
            kind = _TITLES.get(one["type"], f"system.{one['type']}")
            metadata = _loose(one.get("metadata", {}))
            listed.append({"type": kind, "metadata": metadata, "content": _stored(one.get("uri", ""))})
        if metrics:
            listed.append({"type": "system.Metrics", "metadata": _loose(metrics), "content": None})
    return found


def _stored(uri: str) -> Json:
    if not uri.startswith("file://"):
        return {"_uri": uri} if uri else None
    path = Path(unquote(urlsplit(uri).path))
    if path.is_dir():
        names = sorted(str(one.relative_to(path)) for one in path.rglob("*") if one.is_file())
        return {"_directory": {name: _stored((path / name).as_uri()) for name in names}} if names else None
    if not path.is_file():
        return None
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return {"_bytes": len(content)}
    return text if len(text) <= 2000 else {"_chars": len(text)}  # as in the corpus

"""Runs whose tasks may not use earlier results.

KFP has no such option for a run: whether results are used is in the spec. So the run gets the version's spec,
changed, instead of a reference to the version. KFP then does not know what the run was started from; a label does.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import TYPE_CHECKING, cast

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.labels import ORIGIN_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

_ID_BYTES = 16


def without_caching(spec_json: bytes) -> dict[str, object]:
    """A spec in which no task uses earlier results; a wrapper of pipeline and platform spec is kept.

    Raises:
        UnsupportedByKfpError: It is a KFP v1 Workflow.
        KfpError: It is not a pipeline spec.
    """
    try:
        whole = msgspec.json.decode(spec_json, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise errors.KfpError("Kubeflow Pipelines served a pipeline spec that is none") from error
    inner = whole.get("pipeline_spec")
    spec = cast("dict[str, object]", inner) if isinstance(inner, dict) and "root" not in whole else whole
    if "root" not in spec:
        text = "caching cannot be switched off for a KFP v1 pipeline (an Argo Workflow); leave caching_enabled out"
        raise errors.UnsupportedByKfpError(text)
    for task in _tasks(spec):
        task["cachingOptions"] = {"enableCache": False}
    return whole


def _tasks(spec: dict[str, object]) -> Iterator[dict[str, object]]:
    """All tasks, including those of groups."""
    components = spec.get("components")
    groups = [spec["root"], *(components.values() if isinstance(components, dict) else ())]
    for group in groups:
        dag = group.get("dag") if isinstance(group, dict) else None
        tasks = dag.get("tasks") if isinstance(dag, dict) else None
        yield from (task for task in (tasks.values() if isinstance(tasks, dict) else ()) if isinstance(task, dict))


def origin_text(pipeline_id: str, version_id: str) -> str:
    """The two ids as the label holds them: descriptions are short."""
    raw = uuid.UUID(pipeline_id).bytes + uuid.UUID(version_id).bytes
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_origin(text: str) -> tuple[str, str]:
    """The two ids from the label; empty if it contains something else."""
    try:
        raw = base64.b64decode(text + "=", altchars=b"-_", validate=True) if len(text) == ORIGIN_CHARACTERS else b""
    except (binascii.Error, ValueError):
        raw = b""
    if not raw:
        return "", ""
    return str(uuid.UUID(bytes=raw[:_ID_BYTES])), str(uuid.UUID(bytes=raw[_ID_BYTES:]))

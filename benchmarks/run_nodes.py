"""Time to read the tasks of a loop of 300 from the manifest of its run, compared with decoding that as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.workflows import Task, Workflow

from benchmarks.results import Figure, Row, ratio
from benchmarks.sides import ADAPTER
from benchmarks.spec_summary import timed
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.stage import Stage

_ITERATIONS = 300
_ROUNDS = 15
_COMPONENT = json.dumps(
    {"executorLabel": "exec-train", "inputDefinitions": {"parameters": {"x" * 60: {}}}} | {"y": "z" * 900}
)
_JSON = "json.loads"


def run(_: Stage) -> Iterator[Row]:
    """Measures in this process."""
    manifest = json.loads(Workflow((Task("each", "loop", (Task("train"),), _ITERATIONS), Task("total"))).manifest())
    for node in manifest["status"]["nodes"].values():
        if node["templateName"].endswith("-driver") and "inputs" in node:
            node["inputs"]["parameters"].append({"name": "component", "value": _COMPONENT})
    text = json.dumps(manifest)
    seconds, _stall = timed(lambda: read_nodes(text, is_over=True), _ROUNDS)
    plain, _stall = timed(lambda: json.loads(text), _ROUNDS)
    figures = (Figure(ADAPTER, seconds * 1e3, seconds * 1e3, _ROUNDS), Figure(_JSON, plain * 1e3, plain * 1e3, _ROUNDS))
    row = Row(
        "run_nodes", f"tasks of a loop of {_ITERATIONS} from its manifest ({len(text) / 1e6:.1f} MB)", "ms", figures
    )
    yield replace(row, findings=(ratio(row, ADAPTER, _JSON),))

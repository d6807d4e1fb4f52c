"""The request that O-RAN's training manager sends to start a run."""

from __future__ import annotations

from typing import Any


def details(pipeline_name: str, **arguments: str) -> dict[str, Any]:
    """Returns the request that the training manager sends to start a run; all its values are strings."""
    own = {
        "trainingjob_id": "42",
        "featuregroup_name": "기지국",
        "modelName": "qoe",
        "modelVersion": "1",
        "modellocation": "",
    }
    return {
        "pipeline_name": pipeline_name,
        "experiment_name": "Default",
        "pipeline_version": pipeline_name,
        "arguments": {"s": "글", **arguments, **own},
    }

"""The id of a run follows from the request id under which it is created, so whoever repeats the call means that run."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("6f0f6c3e-3f0b-5d0a-9c55-5b1f6b1c7a10")
"""Ours: no other program makes ids from it. It must never change."""


def run_id_for(request_id: str, namespace: str = "") -> str:
    """Tells the id of the run that Create makes under a request id.

    Args:
        request_id: The request id.
        namespace: The run's namespace in KFP; empty where the adapter has none configured and the call names none.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{namespace}/{request_id}"))

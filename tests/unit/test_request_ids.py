"""The id of a run is derived from its request id."""

from __future__ import annotations

import uuid

from kfadapter_grpc.contract.runs import run_id_for


def test_it_never_changes() -> None:
    """Every release derives the same id from a request id, or retries would start second runs."""
    assert run_id_for("nightly-2026-11-24") == run_id_for("nightly-2026-11-24", "")
    assert run_id_for("nightly-2026-11-24") == "df6cb8bb-bc0c-5a58-8e4b-6dded54ce12d"
    assert run_id_for("nightly-2026-11-24", "team-a") == "7c3e8136-9783-5f0c-909d-f90b648a024b"


def test_it_is_an_id_of_kfps() -> None:
    """It is a UUID, different for every request id and namespace."""
    ids = {run_id_for(request, namespace) for request in ("a", "b") for namespace in ("", "x", "y")}
    assert len(ids) == 6
    assert all(str(uuid.UUID(one)) == one for one in ids)

"""Pipelines and runs for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.embedded.conftest import Caller, unique

if TYPE_CHECKING:
    from tests.embedded.conftest import Reply

Reference = dict[str, str]


def a_pipeline(caller: Caller, content: bytes | None = None) -> Reference:
    """Uploads a pipeline; returns a reference to its version as in a run."""
    pipeline_id = caller.upload(content)["pipeline_id"]
    versions = caller.get(f"/pipelines/{pipeline_id}/versions").json["pipeline_versions"]
    assert isinstance(versions, list)
    return {"pipeline_id": pipeline_id, "pipeline_version_id": versions[0]["pipeline_version_id"]}


def try_run(caller: Caller, **fields: object) -> Reply:
    """Requests a run, of a new pipeline unless one is given."""
    if not {"pipeline_version_reference", "pipeline_spec"} & fields.keys():
        fields["pipeline_version_reference"] = a_pipeline(caller)
    return caller.call("POST", "/runs", json_body={"display_name": unique("run"), **fields})


def a_run(caller: Caller, **fields: object) -> str:
    """Creates a run; returns its id."""
    made = try_run(caller, **fields)
    assert made.status == 200, made.text
    return made["run_id"]


def tasks_of(run: dict[str, object]) -> dict[str, dict[str, object]]:
    """The tasks of a run as it is served, by name."""
    details = run["run_details"]
    assert isinstance(details, dict)
    return {task["display_name"]: task for task in details["task_details"]}

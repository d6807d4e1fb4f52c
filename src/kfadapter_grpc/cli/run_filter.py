"""The options that choose runs, shared by the commands that list or change several."""
# ruff: noqa: PLC0415  imports are deferred to keep the help fast

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from kfadapter_grpc.cli.completion import pipeline_names
from kfadapter_grpc.cli.option_types import (
    Archived,
    Contains,
    CreatedAfter,
    InExperiment,
    Labels,
    StateChoice,
    order_by_fields,
)
from kfadapter_grpc.cli.references import (
    experiment_reference,
    find_version,
    pipeline_id,
    pipeline_reference,
    recurring_run_id,
)
from kfadapter_grpc.cli.values import labels, past_moment

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.client.runs import RunsWhere

NEWEST = 20
"""How many runs are listed unless more are requested."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are listed or changed."""

    contains: Contains = ""
    experiment: InExperiment = ""
    pipeline: Annotated[
        str,
        typer.Option(
            "--pipeline", metavar="NAME|ID", help="Only runs of this pipeline.", autocompletion=pipeline_names
        ),
    ] = ""
    version: Annotated[
        str, typer.Option("--version", metavar="NAME|ID", help="Only runs of this version of --pipeline.")
    ] = ""
    recurring: Annotated[
        str, typer.Option("--recurring", metavar="NAME|ID", help="Only runs that this recurring run started.")
    ] = ""
    state: Annotated[
        list[StateChoice] | None,
        typer.Option("--state", case_sensitive=False, help="Only runs in this state; may be repeated."),
    ] = None
    created_after: CreatedAfter = ""
    finished_after: Annotated[
        str, typer.Option(metavar="TIME", help="Only runs that finished later, as --created-after.")
    ] = ""
    label: Labels = None

    def where(self, client: "Client", *, archived: bool = False, states: Sequence[StateChoice] = ()) -> "RunsWhere":
        """Converts them for the client, which resolves the ids of pipeline and version.

        Args:
            client: The adapter.
            archived: Choose archived runs instead of the others.
            states: The states if none is set.

        Raises:
            BadParameter: A time or a label is malformed, or a version has no pipeline.
        """
        from kfadapter_grpc.contract.runs import RunState

        if self.version and not self.pipeline:
            raise typer.BadParameter("--version needs --pipeline")
        created, finished, own_labels = (
            past_moment(self.created_after),
            past_moment(self.finished_after),
            labels(self.label),
        )
        in_experiment = experiment_reference(client, self.experiment)
        of_pipeline, of_version = _pipeline(client, self.pipeline, self.version)
        return {
            "experiment_name": in_experiment.name,
            "experiment_id": in_experiment.experiment_id,
            "states": [RunState(one.value.upper()) for one in self.state or states],
            "created_after": created,
            "finished_after": finished,
            "display_name_contains": self.contains,
            "labels": own_labels,
            "pipeline_id": of_pipeline,
            "pipeline_version_id": of_version,
            "recurring_run_id": recurring_run_id(client, self.recurring) if self.recurring else "",
            "archived": archived,
        }


@dataclass(frozen=True, slots=True)
class Selection(RunFilter):
    """Which runs are listed, how many, and in which order."""

    archived: Archived = False
    order_by: Annotated[str, order_by_fields("created_at, finished_at, display_name or run_id", "created_at")] = ""
    limit: Annotated[int, typer.Option("--limit", min=0, metavar="N", help="Maximum number; 0 for all.")] = NEWEST


def _pipeline(client: "Client", pipeline: str, version: str) -> tuple[str, str]:
    """Resolves the ids of the pipeline and the version of a filter."""
    if version:
        found = find_version(client, pipeline_reference(client, pipeline), version)
        return found.pipeline_id, found.pipeline_version_id
    return pipeline_id(client, pipeline) if pipeline else "", ""

"""What the commands about experiments do."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.column_widths import Step
from kfadapter_grpc.cli.confirmation import ask, can_answer
from kfadapter_grpc.cli.filters import page_size
from kfadapter_grpc.cli.pipeline_view import SHORT_NAME, SHORT_TIME, shown_time
from kfadapter_grpc.cli.records import record
from kfadapter_grpc.cli.references import experiment_id, experiment_reference
from kfadapter_grpc.contract.errors import ExperimentNotFoundError
from kfadapter_grpc.contract.listing import StorageState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.experiments import Experiment


def list_experiments(
    options: ClientOptions, style: Format, *, contains: str, archived: bool, order_by: str, limit: int
) -> None:
    """Lists experiments."""
    with options.client() as client:
        found = client.experiments.list(
            name_contains=contains, archived=archived, order_by=order_by, page_size=page_size(limit)
        )
        experiments = list(itertools.islice(found, limit or None))
    if style is Format.NAME:
        output.print_names(one.name for one in experiments)
    elif style is not Format.TABLE:
        output.print_document([record(one) for one in experiments], style)
    elif experiments:
        _print_table(experiments)
    else:
        output.note("no experiments")


def show(options: ClientOptions, experiment: str, style: Format) -> None:
    """Shows one experiment."""
    with options.client() as client:
        ref = experiment_reference(experiment)
        found = client.experiments.get(ref.name, experiment_id=ref.experiment_id)
    _print(found, style)


def create(options: ClientOptions, name: str, style: Format, *, description: str, allow_existing: bool) -> None:
    """Makes an experiment."""
    with options.client() as client:
        made = client.experiments.create(name, description=description, allow_existing=allow_existing)
    _print(made, style)


def archive(options: ClientOptions, experiment: str, style: Format) -> None:
    """Puts an experiment away, with its runs."""
    with options.client() as client:
        found = client.experiments.archive(experiment_id(client, experiment))
    _print(found, style, f"archived the experiment {found.name} and its runs")


def unarchive(options: ClientOptions, experiment: str, style: Format) -> None:
    """Takes an experiment back; its runs stay in the archive."""
    with options.client() as client:
        found = client.experiments.unarchive(experiment_id(client, experiment))
    _print(found, style, f"took the experiment {found.name} back from the archive; its runs stay there")


def delete(options: ClientOptions, experiment: str, style: Format, *, allow_missing: bool, yes: bool) -> None:
    """Deletes an experiment, after asking where somebody can answer."""
    if not yes and can_answer():
        ask(f"Delete the experiment {experiment_reference(experiment)}? Its runs stay.")
    with options.client() as client:
        deleted = _delete(client, experiment, allow_missing=allow_missing)
    if style in (Format.JSON, Format.YAML):
        output.print_document({"experiment_id": deleted}, style)
    elif not deleted:
        output.note(f"there was no experiment {experiment_reference(experiment)}")
    elif style is Format.NAME:
        output.print_names([experiment])
    else:
        output.print_line(f"deleted the experiment {experiment}; its runs stay")


def _delete(client: Client, experiment: str, *, allow_missing: bool) -> str:
    """Deletes it; tells its id, or nothing if there was none."""
    try:
        which = experiment_id(client, experiment)
    except ExperimentNotFoundError:
        if not allow_missing:
            raise
        return ""
    return which if client.experiments.delete(which, allow_missing=allow_missing) else ""


def _print(found: Experiment, style: Format, said: str = "") -> None:
    if style is Format.NAME:
        output.print_names([found.name])
    elif style is not Format.TABLE:
        output.print_document(record(found), style)
    elif said:
        output.print_line(said)
    else:
        output.print_fields(_fields(found))


def _fields(found: Experiment) -> list[tuple[str, str]]:
    return [
        ("Name", found.name),
        ("Id", found.experiment_id),
        ("Namespace", found.namespace),
        ("Description", found.description),
        ("Created", shown_time(found.created_at)),
        ("Last run", shown_time(found.last_run_created_at)),
        ("Archived", "yes" if found.storage_state is StorageState.ARCHIVED else ""),
    ]


def _print_table(experiments: Sequence[Experiment]) -> None:
    head = ("NAME", "ID", "LAST RUN", "DESCRIPTION")
    rows = [(one.name, one.experiment_id, shown_time(one.last_run_created_at), one.description) for one in experiments]
    steps = (
        Step("DESCRIPTION", 12),
        Step("DESCRIPTION", 0),
        Step("LAST RUN", SHORT_TIME),
        Step("LAST RUN", 0),
        Step("NAME", SHORT_NAME),
    )
    output.print_table(head, rows, steps=steps, cut=("LAST RUN", "DESCRIPTION"))

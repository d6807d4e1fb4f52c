"""Human-readable runs."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from operator import itemgetter
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.listings import Column, Table
from kfadapter_grpc.cli.output import SHORT_NAME, Shrink
from kfadapter_grpc.cli.pipeline_view import format_tags
from kfadapter_grpc.cli.run_tree import marks_for, short_error, task_lines
from kfadapter_grpc.codec import json_moment
from kfadapter_grpc.contract.artifacts import ListMetricsRequest
from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.run_paths import TaskPaths, paths_of
from kfadapter_grpc.contract.runs import ListRunsRequest
from kfadapter_grpc.folding import rows_of, shown_state, tasks_in_order
from kfadapter_grpc.printable import counted, one_line, printable
from kfadapter_grpc.times import elapsed, shown_duration, shown_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.client.metrics import Rows
    from kfadapter_grpc.contract.run_outputs import RunArtifact, RunOutput
    from kfadapter_grpc.contract.runs import Run, RunSource, RunSources, RunTask
    from kfadapter_grpc.contract.spec import Json

MAX_VALUE = 200
"""The maximum number of characters of a value; `-o json` has all."""


def print_run(run: Run) -> None:
    output.print_fields(
        [
            *run_fields(run),
            ("Error", run.error),
            ("Warnings", "\n".join(run.warnings)),
            ("Missing", "\n".join(_missing(run.sources))),
            ("Archived", "yes" if run.storage_state is StorageState.ARCHIVED else ""),
            ("Recurring", run.recurring_run_id),
            ("Account", run.service_account),
            ("Parameters", "\n".join(f"{name} = {shown_value(value)}" for name, value in run.parameters.items())),
        ]
    )
    now = datetime.now(timezone.utc)
    if lines := [line.text for line in task_lines(rows_of(run), now, marks_for(), output.encodable, unfolds=True)]:
        output.print_section("TASKS", lines)
    paths = paths_of(run.tasks)
    for task in tasks_in_order(run):
        if task.log_tail:
            lines = [printable(line) for line in task.log_tail.splitlines()]
            output.print_section(f"LOG OF {one_line(paths[task.task_id])}, LAST LINES", lines)
    print_outputs(run)


def _missing(sources: RunSources | None) -> Iterator[str]:
    for name in ("tasks", "outputs", "logs"):
        source: RunSource | None = getattr(sources, name, None)
        if source and source.state.is_missing:
            yield f"{name}: {source.message or source.state.value}"


def run_fields(run: Run) -> list[tuple[str, str]]:
    took = length(run)
    return [
        ("Run", run.display_name),
        ("Id", run.run_id),
        ("State", shown_state(run.state)),
        ("Pipeline", run.pipeline_name or run.pipeline_id),
        ("Version", run.pipeline_version_name or run.pipeline_version_id),
        ("Experiment", run.experiment_name or run.experiment_id),
        ("Description", run.description),
        ("Labels", format_tags(run.labels)),
        ("Caching", "off" if run.caching_disabled else ""),
        ("Created", shown_time(run.created_at)),
        ("Finished", shown_time(run.finished_at)),
        ("Time", "" if took is None else shown_duration(took)),
    ]


def print_outputs(run: Run, most: int = 0) -> None:
    """Prints the outputs of the tasks, if any, after an empty line; with `most` metrics first, and none of loops."""
    paths = TaskPaths(run.tasks)
    rows = [
        row
        for task in tasks_in_order(run)
        for output in task.outputs
        for row in _output_rows(paths.of(task), task, output)
    ]
    visible = rows
    if most:
        metrics = {(metric.task, f"{metric.output}.{metric.name}") for metric in run.metrics}
        visible = [row for row in rows if row[:2] in metrics]
        visible += [row for row in rows if row[:2] not in metrics and "[" not in row[0]]
        visible = visible[:most]
    if visible:
        output.print_line("")
        steps = (Shrink("VALUE", 16), Shrink("TASK", 12), Shrink("OUTPUT", 12))
        output.print_table(("TASK", "OUTPUT", "VALUE"), visible, steps=steps)
    if len(visible) < len(rows):
        output.print_line(
            f"{marks_for().ellipsis} {len(rows) - len(visible)} more outputs; `kfadapter runs show` prints all"
        )


def length(run: Run) -> timedelta | None:
    """Returns the duration of a run, or its elapsed time."""
    return elapsed(run.created_at, run.finished_at, datetime.now(timezone.utc), is_over=run.state.is_over)


RUNS: Table[Run] = Table(
    "runs",
    lambda run: run.run_id,
    (
        Column("NAME", "display_name", cut=True),
        Column("ID", "run_id", is_id=True),
        Column("STATE", "state", lambda run: shown_state(run.state)),
        Column("CREATED", "created_at"),
        Column("TIME", "duration", length),
        Column("FINISHED", "finished_at", wide=True),
        Column("PIPELINE", "pipeline_id", wide=True),
        Column("VERSION", "pipeline_version_id", wide=True),
        Column("EXPERIMENT", "experiment_id", wide=True),
        Column("LABELS", "labels", format=lambda run: format_tags(run.labels), wide=True, if_any=True),
        Column("ERROR", "error", format=lambda run: short_error(run.error, marks_for()), if_any=True, cut=True),
    ),
    (
        Shrink("ERROR", 24),
        Shrink("NAME", 32),
        Shrink("ERROR", 0),
        Shrink("NAME", SHORT_NAME),
        Shrink("TIME", 0),
        Shrink("CREATED", 0),
    ),
    ListRunsRequest.ORDERS,
)


def shown_value(value: Json) -> str:
    """Formats a value: text as it is, anything else as JSON; long ones are cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    mark = marks_for().ellipsis
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + mark


def _output_rows(path: str, task: RunTask, output: RunOutput) -> Iterator[tuple[str, str, str]]:
    """Yields the rows of an output; for an artifact of the task itself all details, including metrics."""
    artifacts = output.artifacts or (
        (output.artifact,) if output.artifact else ()
    )  # an older adapter sends a single one
    if not artifacts:
        yield path, output.name, shown_value(output.value)
    for artifact in artifacts:
        is_typed = artifact.roc_curve or artifact.confusion_matrix or artifact.slices
        if is_typed:
            yield path, output.name, summary(artifact)
        elif artifact.task_id in {"", task.task_id}:
            for key, value in artifact.metadata.items():
                yield path, f"{output.name}.{key}", shown_value(value)
        if artifact.uri or not is_typed:
            yield path, output.name, artifact.uri or artifact.type


def summary(artifact: RunArtifact) -> str:
    """Summarizes an artifact: its metrics, otherwise its URI."""
    parts = [f"{name} = {value:.6g}" for name, value in sorted(artifact.metrics.items())]
    if artifact.roc_curve:
        parts.append(f"ROC curve of {len(artifact.roc_curve)} points")
    if artifact.confusion_matrix:
        parts.append(f"confusion matrix of {', '.join(artifact.confusion_matrix.categories)}")
    if artifact.slices:
        parts.append(counted(len(artifact.slices), "slice"))
    return ", ".join(parts) or artifact.uri


ARTIFACTS: Table[RunArtifact] = Table(
    "artifacts",
    lambda artifact: artifact.artifact_id,
    (
        Column("TASK", "task"),
        Column("OUTPUT", "name"),
        Column("TYPE", "type", lambda artifact: artifact.type.removeprefix("system.")),
        Column("ID", "artifact_id"),
        Column("CREATED", "created_at", wide=True),
        Column("URI", "uri", wide=True),
        Column("CONTENT", "content", summary),
    ),
    (Shrink("CONTENT", 20), Shrink("ID", 0), Shrink("CONTENT", 0), Shrink("TASK", SHORT_NAME)),
)


# --- tables of metrics ----------------------------------------------------------------------------------------------

_TITLES = {"run_id": "ID", "display_name": "NAME", "state": "STATE", "created_at": "CREATED"}


def metrics_table(rows: Rows) -> Table[dict[str, Json | datetime]]:
    """Defines a table of metrics; missing values are empty, or null in JSON."""
    keys = list(rows[0] if rows else _TITLES)
    titles = [key if _TITLES.get(key) in keys else _TITLES.get(key, key) for key in keys]
    return Table(
        "runs",
        lambda row: str(row["run_id"]),
        [
            Column(title, key, itemgetter(key), cut=key == "display_name", is_id=key == "run_id")
            for title, key in zip(titles, keys, strict=True)
        ],
        (Shrink(titles[3], 0), Shrink(titles[1], SHORT_NAME), Shrink(titles[0], 0)),
        ListMetricsRequest.ORDERS,
        lambda row: {key: json_moment(value) if isinstance(value, datetime) else value for key, value in row.items()},
    )

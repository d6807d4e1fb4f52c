"""Human-readable runs."""

from __future__ import annotations

import csv
import json
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.output import SHORT_NAME, SHORT_TIME, Step
from kfadapter_grpc.cli.pipeline_view import shown_tags
from kfadapter_grpc.cli.run_tree import marks_for, short_error, task_lines
from kfadapter_grpc.cli.text import one_line, plain
from kfadapter_grpc.cli.values import shown_time
from kfadapter_grpc.codec import json_moment
from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.run_paths import TaskPaths, paths_of
from kfadapter_grpc.folding import rows_of, shown_state
from kfadapter_grpc.times import shown_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfadapter_grpc.cli.option_types import TableFormat
    from kfadapter_grpc.client.metrics import Rows
    from kfadapter_grpc.contract.run_outputs import RunArtifact, RunOutput
    from kfadapter_grpc.contract.runs import Run, RunSource, RunSources, RunTask
    from kfadapter_grpc.contract.spec import Json

LONGEST_VALUE = 200
"""How many characters of an output's value are shown; `-o json` shows all."""


def print_run(run: Run) -> None:
    """Prints a run with its tasks and their outputs."""
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
    for task in run.tasks:
        if task.log_tail:
            lines = [plain(line) for line in task.log_tail.splitlines()]
            output.print_section(f"LOG OF {one_line(paths[task.task_id])}, LAST LINES", lines)
    print_outputs(run)


def print_warnings(run: Run) -> None:
    """Prints the full warnings of a watched run, which are cut in the live view."""
    if run.warnings:
        output.print_section("WARNINGS", [plain(text) for text in run.warnings])


def _missing(sources: RunSources | None) -> Iterator[str]:
    for name in ("tasks", "outputs", "logs"):
        source: RunSource | None = getattr(sources, name, None)
        if source and source.state.is_missing:
            yield f"{name}: {source.message or source.state.value}"


def run_fields(run: Run) -> list[tuple[str, str]]:
    """Returns the fields of a run."""
    return [
        ("Run", run.display_name),
        ("Id", run.run_id),
        ("State", shown_state(run.state)),
        ("Pipeline", run.pipeline_name or run.pipeline_id),
        ("Version", run.pipeline_version_name or run.pipeline_version_id),
        ("Experiment", run.experiment_name or run.experiment_id),
        ("Description", run.description),
        ("Labels", shown_tags(run.labels)),
        ("Created", shown_time(run.created_at)),
        ("Finished", shown_time(run.finished_at)),
        ("Time", shown_length(run)),
    ]


def print_outputs(run: Run, most: int = 0) -> None:
    """Prints the outputs of the tasks, if any, after an empty line.

    Args:
        run: The run with its tasks.
        most: How many to print, metrics first, and others only from outside of loops; 0 for all.
    """
    paths = TaskPaths(run.tasks)
    rows = [row for task in run.tasks for one in task.outputs for row in _output_rows(paths.of(task), task, one)]
    shown = rows
    if most and len(rows) > most:
        metrics = {(one.task, f"{one.output}.{one.name}") for one in run.metrics}
        shown = [row for row in rows if row[:2] in metrics]
        shown += [row for row in rows if row[:2] not in metrics and "[" not in row[0]]
        shown = shown[:most]
    if shown:
        output.print_line("")
        steps = (Step("VALUE", 16), Step("TASK", 12), Step("OUTPUT", 12))
        output.print_table(("TASK", "OUTPUT", "VALUE"), shown, steps=steps)
    if len(shown) < len(rows):
        output.print_line(f"{marks_for().cut} {len(rows) - len(shown)} more outputs; `kfadapter runs show` prints all")


def print_runs(runs: Sequence[Run]) -> None:
    """Prints runs, one per row."""
    head = ("NAME", "ID", "STATE", "CREATED", "TIME", "ERROR")
    rows = [
        (
            run.display_name,
            run.run_id,
            shown_state(run.state),
            shown_time(run.created_at),
            shown_length(run),
            short_error(run.error, marks_for()),
        )
        for run in runs
    ]
    shown = [index for index, title in enumerate(head) if title != "ERROR" or any(row[index] for row in rows)]
    steps = (
        Step("ERROR", 16),
        Step("ERROR", 0),
        Step("CREATED", SHORT_TIME),
        Step("CREATED", 0),
        Step("TIME", 0),
        Step("NAME", SHORT_NAME),
    )
    output.print_table(
        [head[index] for index in shown],
        [[row[index] for index in shown] for row in rows],
        steps=[step for step in steps if step.title in [head[index] for index in shown]],
        cut=("CREATED", "ERROR"),
    )


def shown_length(run: Run) -> str:
    """Returns the duration of a run, or its elapsed time."""
    if run.created_at is None:
        return ""
    return shown_duration((run.finished_at or datetime.now(timezone.utc)) - run.created_at)


def shown_value(value: Json) -> str:
    """Formats a value: text as it is, anything else as JSON; long ones are cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    mark = marks_for().cut
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + mark


def _output_rows(path: str, task: RunTask, made: RunOutput) -> Iterator[tuple[str, str, str]]:
    """Yields the rows of an output; for an artifact of the task itself all details, including metrics."""
    artifacts = made.artifacts or ((made.artifact,) if made.artifact else ())  # an older adapter sends a single one
    if not artifacts:
        yield path, made.name, shown_value(made.value)
    for artifact in artifacts:
        is_typed = artifact.roc_curve or artifact.confusion_matrix or artifact.slices
        if is_typed:
            yield path, made.name, summary(artifact)
        elif artifact.task_id in {"", task.task_id}:
            for key, value in artifact.metadata.items():
                yield path, f"{made.name}.{key}", shown_value(value)
        if artifact.uri or not is_typed:
            yield path, made.name, artifact.uri or artifact.type


def summary(artifact: RunArtifact) -> str:
    """Summarizes an artifact: its metrics, otherwise its URI."""
    parts = [f"{name} = {value:.6g}" for name, value in sorted(artifact.metrics.items())]
    if artifact.roc_curve:
        parts.append(f"ROC curve of {len(artifact.roc_curve)} points")
    if artifact.confusion_matrix:
        parts.append(f"confusion matrix of {', '.join(artifact.confusion_matrix.categories)}")
    if artifact.slices:
        parts.append(f"{len(artifact.slices)} slices")
    return ", ".join(parts) or artifact.uri


def print_artifacts(found: Sequence[RunArtifact]) -> None:
    """Prints artifacts, one per row."""
    rows = [(one.task, one.name, one.type.removeprefix("system."), one.artifact_id, summary(one)) for one in found]
    steps = (Step("CONTENT", 20), Step("ID", 0), Step("CONTENT", 0), Step("TASK", SHORT_NAME))
    output.print_table(("TASK", "OUTPUT", "TYPE", "ID", "CONTENT"), rows, steps=steps)


# --- tables of metrics ----------------------------------------------------------------------------------------------

_TITLES = {"run_id": "ID", "display_name": "NAME", "state": "STATE", "created_at": "CREATED"}


def print_metrics(rows: Rows, style: TableFormat) -> None:
    """Prints a table of metrics; missing values are empty, or null in JSON."""
    plain_rows = [
        {key: json_moment(one) if isinstance(one, datetime) else one for key, one in row.items()} for row in rows
    ]
    if style == "json":
        output.print_document(plain_rows, "json")
    elif style == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(rows[0] if rows else _TITLES)
        writer.writerows([_cell(one) for one in row.values()] for row in plain_rows)
    elif not rows:
        output.note("no runs")
    else:
        titles = [_TITLES.get(key, key) if _TITLES.get(key) not in rows[0] else key for key in rows[0]]
        cells = [[_shown(one) for one in row.values()] for row in rows]
        steps = (Step(titles[3], SHORT_TIME), Step(titles[3], 0), Step(titles[1], SHORT_NAME), Step(titles[0], 0))
        output.print_table(titles, cells, steps=steps, cut=(titles[3],))


def _cell(value: Json) -> str:
    """A value in a CSV file: text and numbers as they are, anything else as JSON, None as empty."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shown(value: Json | datetime) -> str:
    if isinstance(value, datetime):
        return shown_time(value)
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else shown_value(value)

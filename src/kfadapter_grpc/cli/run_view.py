"""Runs as a person reads them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output, run_tree
from kfadapter_grpc.cli.output import SHORT_NAME, SHORT_TIME, Step
from kfadapter_grpc.cli.pipeline_view import shown_tags
from kfadapter_grpc.cli.run_tree import marks_for, shown_state
from kfadapter_grpc.cli.text import one_line, plain
from kfadapter_grpc.cli.values import shown_duration, shown_time
from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.run_paths import TaskPaths, paths_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfadapter_grpc.contract.run_outputs import RunOutput
    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.contract.spec import Json

LONGEST_VALUE = 200
"""How many characters of an output's value are shown; `-o json` shows all."""


def print_run(run: Run) -> None:
    """Prints a run with its tasks and what they made."""
    output.print_fields(
        [
            *run_fields(run),
            ("Error", run.error),
            ("Warnings", "\n".join(run.warnings)),
            ("Archived", "yes" if run.storage_state is StorageState.ARCHIVED else ""),
            ("Recurring", run.recurring_run_id),
            ("Account", run.service_account),
            ("Parameters", "\n".join(f"{name} = {shown_value(value)}" for name, value in run.parameters.items())),
        ]
    )
    if lines := run_tree.task_lines(run, (), datetime.now(timezone.utc), marks_for(), output.encodable):
        output.print_section("TASKS", lines)
    paths = paths_of(run.tasks)
    for task in run.tasks:
        if task.log_tail:
            lines = [plain(line) for line in task.log_tail.splitlines()]
            output.print_section(f"LOG OF {one_line(paths[task.task_id])}, LAST LINES", lines)
    print_outputs(run)


def run_fields(run: Run) -> list[tuple[str, str]]:
    """Tells what a run is, in lines."""
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


def print_outputs(run: Run) -> None:
    """Prints what the tasks made, behind an empty line, if they made anything."""
    paths = TaskPaths(run.tasks)
    rows = [row for task in run.tasks for one in task.outputs for row in _output_rows(paths.of(task), one)]
    if rows:
        output.print_line("")
        steps = (Step("VALUE", 16), Step("TASK", 12), Step("OUTPUT", 12))
        output.print_table(("TASK", "OUTPUT", "VALUE"), rows, steps=steps)


def print_runs(runs: Sequence[Run]) -> None:
    """Prints runs, one on a row."""
    head = ("NAME", "ID", "STATE", "CREATED", "TIME", "ERROR")
    mark = marks_for().cut
    rows = [
        (
            run.display_name,
            run.run_id,
            shown_state(run.state),
            shown_time(run.created_at),
            shown_length(run),
            run_tree.short_error(run.error, mark),
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
    """Tells how long a run took, or has taken so far."""
    if run.created_at is None:
        return ""
    return shown_duration((run.finished_at or datetime.now(timezone.utc)) - run.created_at)


def shown_value(value: Json) -> str:
    """Writes a value: a text as it is, anything else as JSON; a long one is cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    mark = marks_for().cut
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + mark


def _output_rows(task: str, made: RunOutput) -> Iterator[tuple[str, str, str]]:
    """Tells an output; of an artifact each thing that is known of it, metrics among others, and where it lies."""
    if not made.artifacts:
        yield task, made.name, shown_value(made.value)
    for artifact in made.artifacts:
        for key, value in artifact.metadata.items():
            yield task, f"{made.name}.{key}", shown_value(value)
        yield task, made.name, artifact.uri or artifact.type

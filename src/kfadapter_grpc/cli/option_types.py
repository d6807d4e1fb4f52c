"""Typer arguments and options shared by several commands, and the choices of options."""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from kfadapter_grpc.cli.completion import (
    experiment_names,
    parameter_names,
    pipeline_names,
    recurring_run_names,
    run_names,
    task_paths,
    version_names,
)

Format: TypeAlias = Literal["table", "json", "yaml", "name"]
"""How data is printed."""
TableFormat: TypeAlias = Literal["table", "csv", "json"]
"""How a table of numbers is printed."""


class StateChoice(str, enum.Enum):
    """The states of runs; in capitals, values of `contract.runs.RunState`. Typer does not accept a list of literals."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELING = "canceling"
    CANCELED = "canceled"
    PAUSED = "paused"


RUN_REFERENCES = "its name, its id or the beginning of it, @latest or @failed, of a pipeline as @latest:NAME"
"""What a run can be given by."""


def order_by_fields(fields: str, example: str = "") -> Any:  # noqa: ANN401  as `typer.Option`
    """An option for the order of a list."""
    shown = f": '{example} desc'" if example else ""
    return typer.Option("--order-by", metavar="FIELD", help=f"{fields}; desc behind it turns it round{shown}.")


Output = Annotated[Format, typer.Option("--output", "-o", help="Output format.")]
PipelineName = Annotated[
    str,
    typer.Argument(
        metavar="NAME|ID", help="Pipeline: its name, its id or the beginning of it.", autocompletion=pipeline_names
    ),
]
Version = Annotated[
    str,
    typer.Option(
        "--version",
        metavar="NAME|ID",
        help="Version: its name, its id or the beginning of it.",
        autocompletion=version_names,
    ),
]
OneVersion = Annotated[
    str | None,
    typer.Option(
        "--version",
        metavar="NAME|ID",
        help="Only this version: its name, its id or the beginning of it.",
        autocompletion=version_names,
    ),
]
ById = Annotated[bool | None, typer.Option("--id/--name", help="Take the reference as an id or as a name.")]
Limit = Annotated[int, typer.Option("--limit", min=0, metavar="N", help="Maximum number; 0 for all.")]
File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="YAML, JSON, zip or tar.gz; a .py is compiled first; - is stdin."),
]
Function = Annotated[
    str | None, typer.Option("--function", metavar="NAME", help="Pipeline function of a .py; defaults to all.")
]
Description = Annotated[str, typer.Option("--description", help="Description.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag; may be repeated.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="NAME=VALUE",
        help="Parameter, converted to its declared type: number, true or false, JSON, text; may be repeated.",
        autocompletion=parameter_names,
    ),
]
ParameterFile = Annotated[
    Path | None,
    typer.Option(
        "--params",
        metavar="FILE",
        help="Parameters as JSON or YAML, which keep their types; - is stdin. Those of -p precede them.",
    ),
]
PipelineOrFile = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE|FILE",
        help="Pipeline name or id, or a file: a path with a / or a suffix of pipeline files (.yaml, .py, ...).",
        autocompletion=pipeline_names,
    ),
]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label; may be repeated.")]
RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help=f"Run: {RUN_REFERENCES}.", autocompletion=run_names),
]
TaskName = Annotated[
    str,
    typer.Argument(metavar="TASK", help="Task: its name, its id or its path.", autocompletion=task_paths),
]
RunDisplayName = Annotated[str, typer.Option("--display-name", help="Display name; generated if omitted.")]
InExperiment = Annotated[
    str,
    typer.Option(
        "--experiment",
        metavar="NAME|ID",
        help="Experiment: its name, its id or the beginning of it.",
        autocompletion=experiment_names,
    ),
]
ExperimentName = Annotated[
    str,
    typer.Argument(
        metavar="NAME|ID", help="Experiment: its name, its id or the beginning of it.", autocompletion=experiment_names
    ),
]
RecurringId = Annotated[
    str,
    typer.Argument(
        metavar="NAME|ID",
        help="Recurring run: its name, its id or the beginning of it.",
        autocompletion=recurring_run_names,
    ),
]
ServiceAccount = Annotated[
    str, typer.Option("--service-account", metavar="NAME", help="The Kubernetes service account of the tasks.")
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Watch the run; the exit code is its outcome.")]
Archived = Annotated[bool, typer.Option("--archived", help="Archived ones instead of the others.")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Succeed if it does not exist.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Contains = Annotated[str, typer.Option("--contains", metavar="TEXT", help="Only names that contain this text.")]
CreatedAfter = Annotated[
    str,
    typer.Option(
        "--created-after",
        "--since",
        metavar="TIME",
        help="Only newer ones: 2d for the last two days, 2026-01-31, 2026-01-31T08:00:00+09:00; no zone means UTC.",
    ),
]
CreatedBefore = Annotated[
    str,
    typer.Option("--created-before", metavar="TIME", help="Only older ones, as --since; newer ones are read, too."),
]


@dataclass(frozen=True, slots=True)
class Watching:
    """What is shown while runs are watched."""

    logs: Annotated[bool, typer.Option("--logs", help="While watching, show what running tasks write.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="While watching, print no progress.")] = False

    def check(self, *, watch: bool) -> None:
        """Checks that they make sense; `watch` is whether runs are watched.

        Raises:
            BadParameter: They do not.
        """
        if (self.logs or self.quiet) and not watch:
            raise typer.BadParameter("--logs and --quiet need --watch")
        if self.logs and self.quiet:
            raise typer.BadParameter("use either --logs or --quiet")

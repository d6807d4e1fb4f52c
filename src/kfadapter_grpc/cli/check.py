"""`kfadapter check`: what of a pipeline fails or differs on Kubeflow Pipelines; nothing is run or uploaded."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

import io
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.cli.options import ClientOptions, File, Function
from kfadapter_grpc.cli.pipeline_file import PipelineFile, pipeline_files
from kfadapter_grpc.cli.text import STDIN
from kfadapter_grpc.contract.errors import AdapterError, listed
from kfadapter_grpc.printable import counted, one_line, printable

if TYPE_CHECKING:
    from kfadapter_grpc.check.rule import Finding

MAX_LISTED = 10
MAX_TASKS = 5
MAX_CHECKED_BYTES = 2 * 1024 * 1024
"""The largest file that an upload checks: larger ones would take too long."""


def check(
    options: Annotated[ClientOptions, "timeout"],
    file: File,
    *,
    function: Function = None,
    output: Annotated[
        Literal["table", "json", "yaml"], typer.Option("--output", "-o", help="Output format.")
    ] = "table",
) -> None:
    """Check a pipeline file for what fails or is otherwise on Kubeflow Pipelines; nothing is run.

    Each finding has a task, a rule, the versions of KFP, or the laptop, that it is about, what happens and what to do.
    The exit code is 8 if there are errors, which fail on a cluster; warnings may fail, or are otherwise there.
    """
    with pipeline_files(file, function, options.timeout) as files:
        checked = [(file.function or file.name, *_checked(file)) for file in files]
    findings_by_file = [(name, finding) for name, findings, _ in checked for finding in findings]
    if output == "table":
        labelled = [replace(finding, task=f"{name}/{finding.task}".rstrip("/")) for name, finding in findings_by_file]
        for lines in _grouped([finding for _, finding in findings_by_file] if len(checked) == 1 else labelled):
            sys.stdout.writelines(f"{printable(line)}\n" for line in lines)
        counts = Counter(finding.severity for _, finding in findings_by_file)
        parts = [counted(counts[severity], severity) for severity in ("error", "warning") if counts[severity]]
        out.note(", ".join(parts) or "nothing found")
    else:
        out.print_document(
            [{"pipeline": name, **asdict(finding), "kfp": list(finding.kfp)} for name, finding in findings_by_file],
            output,
        )
    for _, _, notes in checked:
        _note(_grouped(notes))
    if any(finding.severity == "error" for _, finding in findings_by_file):
        raise typer.Exit(ExitCode.REFUSED)


def print_findings(file: PipelineFile) -> None:
    """Prints the findings of a file to be uploaded; the adapter decides whether to accept it."""
    if file.path == STDIN or file.path.stat().st_size > MAX_CHECKED_BYTES:
        return
    try:
        findings, notes = _checked(file)
    except (AdapterError, OSError):
        return
    grouped = _grouped([*findings, *notes])
    _note(grouped[:MAX_LISTED])
    if len(grouped) > MAX_LISTED:
        out.note(f"and {len(grouped) - MAX_LISTED} more; kfadapter check prints all")


def _note(grouped: Sequence[Sequence[str]]) -> None:
    for lines in grouped:
        for line in lines:
            out.note(line)


def _checked(file: PipelineFile) -> tuple[list["Finding"], list["Finding"]]:
    """The findings and the notes of a file."""
    from kfadapter_grpc.check.findings import findings, notes
    from kfadapter_grpc.check.reading import read_pipeline

    if file.path == STDIN:
        pipeline = read_pipeline(io.BytesIO(sys.stdin.buffer.read()))
    else:
        with file.path.open("rb") as stream:
            pipeline = read_pipeline(stream)
    return findings(pipeline), notes(pipeline)


def _grouped(findings: Sequence["Finding"]) -> list[tuple[str, str, str]]:
    """Formats each finding once for all of its tasks."""
    tasks: dict[Finding, list[str]] = {}
    for finding in findings:
        tasks.setdefault(replace(finding, task=""), []).append(finding.task)
    return [
        (
            f"{finding.severity}: {_tasks(names)}{finding.rule} ({', '.join(finding.kfp)})",
            f"  {finding.what}.",
            f"  {finding.do}",
        )
        for finding, names in tasks.items()
    ]


def _tasks(names: list[str]) -> str:
    text = listed([one_line(name) for name in names], MAX_TASKS)
    return f"{text}: " if text else ""

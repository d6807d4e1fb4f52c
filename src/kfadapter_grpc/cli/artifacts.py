"""`kfadapter artifacts`: the artifacts of the tasks of a run."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

import os
from typing import TYPE_CHECKING, Annotated

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.completion import output_names, task_paths
from kfadapter_grpc.cli.errors import CommandError, NotFoundError, UsageError
from kfadapter_grpc.cli.invocation import RUN, again, other
from kfadapter_grpc.cli.listings import ListOptions
from kfadapter_grpc.cli.options import ClientOptions, RunName, TaskName, argument
from kfadapter_grpc.cli.references import run_id
from kfadapter_grpc.cli.text import native_path
from kfadapter_grpc.contract.errors import listed
from kfadapter_grpc.printable import counted, one_line

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client, RunArtifact

_STDOUT = "-"
_MAX_LISTED = 10


def list_(
    options: ClientOptions,
    run: RunName,
    *,
    task: Annotated[
        str,
        typer.Option(metavar="TASK", help="Only outputs of this task, by name, id or path.", autocompletion=task_paths),
    ] = "",
    type_: Annotated[str, typer.Option("--type", metavar="TYPE", help="Only this type: Model, Dataset, ...")] = "",
    name: Annotated[str, typer.Option(metavar="OUTPUT", help="Only outputs with this name.")] = "",
    listed: ListOptions,
) -> None:
    """List the artifacts that the tasks of a run made."""
    from kfadapter_grpc.cli.run_view import ARTIFACTS

    with options.client() as client:
        listed.print(client.artifacts.list(run_id(client, run), task=task, type=type_, name=name), ARTIFACTS)


def get(
    options: ClientOptions,
    run: RunName,
    task: TaskName,
    name: Annotated[str, argument("Name of the output.", output_names, "OUTPUT")],
    *,
    to: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR|-",
            help="File or folder to write; - is stdout, where a folder is a tar archive.",
        ),
    ] = ".",
    path: Annotated[str, typer.Option(metavar="PATH", help="One file of a folder.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Download an artifact: a file, or a folder with all its files."""
    with options.client() as client:
        found_id = run_id(client, run)
        artifacts = list(client.artifacts.list(found_id, task=task, name=name))
        target = native_path(to)
        is_folder = target.is_dir() or to.endswith(("/", os.sep))
        if not artifacts:
            raise _not_found_error(client, found_id, task, name)
        if len(artifacts) > 1 and not (is_folder and to != _STDOUT):
            raise _ambiguous_error(artifacts, name)
        if to == _STDOUT:
            with out.progress_bar(f"downloading {one_line(name)}") as progress, out.stdout() as stream:
                client.artifacts.download(found_id, artifacts[0].artifact_id, to=stream, path=path, progress=progress)
            return
        for number, artifact in enumerate(artifacts):
            destination = target / str(number) if len(artifacts) > 1 else target
            _save(client, artifact, f"{destination}{os.sep}" if is_folder else str(destination), path, force=force)


def _save(client: "Client", artifact: "RunArtifact", to: str, path: str, *, force: bool) -> None:
    try:
        with out.progress_bar(f"downloading {one_line(artifact.name)}") as progress:
            receipt = client.artifacts.download(
                artifact.run_id, artifact.artifact_id, to=to, path=path, force=force, progress=progress
            )
    except FileExistsError as error:
        raise CommandError(
            f"it exists: {error.filename}",
            why="a download never replaces a file unasked",
            next_step=again("--force", text="replaces it; -o FILE saves it elsewhere"),
        ) from error
    count = receipt.content.entry_count
    files = f" in {counted(count, 'file')}" if receipt.content.is_directory else ""
    of_task = f" of task '{artifact.task}'" if artifact.task else ""
    out.note(f"wrote {receipt.path} ({receipt.size} bytes{files}){of_task}")


def _not_found_error(client: "Client", run: str, task: str, name: str) -> CommandError:
    names = list(dict.fromkeys(artifact.name for artifact in client.artifacts.list(run, task=task)))
    known_names = listed([f"'{name}'" for name in names], _MAX_LISTED) or "none"
    return NotFoundError(
        f"not found: artifact '{name}' of task '{task}'",
        why=f"its artifacts are: {known_names}; parameters are shown by kfadapter runs show",
        next_step=other("artifacts", "list", RUN, text="shows the artifacts of the run"),
    )


def _ambiguous_error(artifacts: "list[RunArtifact]", name: str) -> CommandError:
    paths = list(dict.fromkeys(artifact.task for artifact in artifacts))
    is_by_path = len({artifact.task for artifact in artifacts if artifact.name == name}) == len(artifacts)
    by_path = "; a path as TASK selects one" if is_by_path else ""
    return UsageError(
        f"there are {len(artifacts)} artifacts '{name}'",
        why=f"they are of: {listed(paths, _MAX_LISTED)}",
        next_step=again("--output", "DIR/", without="-o", text=f"saves all of them{by_path}"),
    )


artifacts = group("List and download what the tasks of a run made.", list_, get)

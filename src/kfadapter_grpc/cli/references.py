"""What a word of the command line names: a pipeline, a version, an experiment or a run, by name or by id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.invocation import other
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client

LATEST = "@latest"
"""Stands for the newest run."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def reference(text: str, *, by_id: bool | None) -> PipelineRef:
    """Tells a name from an id: what looks like a UUID is an id, unless `by_id` says what it is."""
    if by_id or (by_id is None and _UUID.fullmatch(text)):
        return PipelineRef(pipeline_id=text)
    return PipelineRef(name=text)


def one_version(text: str) -> VersionRef:
    """Tells a version's name from its id, as `version_reference`, but does not take nothing for the latest.

    Raises:
        BadParameter: It is empty, as an unset shell variable leaves it.
    """
    if not text:
        message = "an empty text is no version"
        raise typer.BadParameter(message)
    return version_reference(text)


def version_reference(text: str) -> VersionRef:
    """Tells a version's name from its id: what looks like a UUID is an id; nothing is the latest version."""
    return VersionRef(pipeline_version_id=text) if _UUID.fullmatch(text) else VersionRef(name=text)


def experiment_reference(text: str) -> ExperimentRef:
    """Tells an experiment's name from its id: what looks like a UUID is an id."""
    return ExperimentRef(experiment_id=text) if _UUID.fullmatch(text) else ExperimentRef(name=text)


def experiment_id(client: Client, text: str) -> str:
    """Tells the id of an experiment that is named by its name or its id."""
    ref = experiment_reference(text)
    return ref.experiment_id or client.experiments.get(ref.name).experiment_id


def run_id(client: Client, text: str) -> str:
    """Tells the id of a run that is named by its id, or as the newest one.

    Raises:
        BadParameter: It is empty, as an unset shell variable leaves it.
        CommandError: There is no run yet.
    """
    if not text:
        message = "an empty text is no run"
        raise typer.BadParameter(message)
    if text != LATEST:
        return text
    newest = client.runs.list(page_size=1).page().items
    if not newest:
        raise CommandError(
            "there is no run yet",
            why=f"{LATEST} is the newest run that is not archived",
            next_step=other("list", words="shows the pipelines; kfadapter run NAME runs one"),
            exit_code=ExitCode.NOT_FOUND,
        )
    return newest[0].run_id

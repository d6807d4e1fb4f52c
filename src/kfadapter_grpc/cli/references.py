"""Finds the run, pipeline, version, experiment or recurring run that a text refers to.

A text is an id, a name, or the first characters of an id, at least 6; for runs also `@latest` and `@failed`, the
newest (failed) run that is not archived, and `@latest:PIPELINE` and `@failed:PIPELINE`, the newest of one pipeline.
KFP's times have whole seconds, so of runs that were created within one second any may be the newest.
A text in the format of a whole id is always taken as an id. An exact name precedes the beginning of an id.

What it costs: an id, no call. The name of a pipeline, version or experiment, no call, or one if it could be the
beginning of an id; for runs and recurring runs, whose calls take ids only, one listing. KFP cannot search for the
beginning of an id, so the newest SEARCHED of a kind are listed, in pages of PAGE; where there are more, a note on
stderr reports it. `@latest` and `@failed` are one call each, with `:PIPELINE` two, of which the adapter serves the
second by reading the runs of all pipelines.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.errors import CommandError, NotFoundError
from kfadapter_grpc.cli.invocation import other
from kfadapter_grpc.cli.text import did_you_mean
from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.pipelines import PipelineRef, PipelineVersion, VersionRef
from kfadapter_grpc.contract.runs import RUN_ID, RunState
from kfadapter_grpc.folding import shown_state
from kfadapter_grpc.times import shown_age

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.client.connection import Pages

LATEST = "@latest"
FAILED = "@failed"
SEARCHED = 1000
"""The maximum number of the newest records that are searched."""
PAGE = 200
_FILTERED_PAGE = 20
_MAX_LISTED = 10
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ID_PREFIX = re.compile(r"[0-9a-f]{6,8}|[0-9a-f]{8}-[0-9a-f-]{0,27}", re.IGNORECASE)
_FIELDS = {
    "runs": ("display_name", "run_id"),
    "pipelines": ("name", "pipeline_id"),
    "versions": ("name", "pipeline_version_id"),
    "experiments": ("name", "experiment_id"),
    "recurring runs": ("display_name", "recurring_run_id"),
}


class Candidate(NamedTuple):
    """A record that a text may refer to."""

    name: str
    id: str
    created_at: datetime | None
    state: str


def candidates(resource: str, records: Iterable[Any]) -> Iterator[Candidate]:
    """Yields the names and ids of records; `resource` is their kind, in the plural."""
    name, key = _FIELDS[resource]
    for record in records:
        state = shown_state(record.state) if resource == "runs" else ""
        yield Candidate(getattr(record, name), getattr(record, key), record.created_at, state)


# --- runs -----------------------------------------------------------------------------------------------------------


def run_id(client: Client, text: str, *, archived: bool = False, allow_missing: bool = False) -> str:
    """Returns the id of a run, archived ones first if `archived`; empty if `allow_missing` and none matches."""
    if not text:  # as from an unset shell variable
        raise typer.BadParameter("an empty text is no run")
    special, _, pipeline = text.partition(":")
    if special in (LATEST, FAILED):
        return _newest_run(client, text, pipeline, failed=special == FAILED)
    if _UUID.fullmatch(text):
        return text
    for is_archived in (archived, not archived):
        named = client.runs.list(display_name_contains=text, archived=is_archived, page_size=PAGE)
        if found := _by_name(text, "runs", named) or _by_id_prefix(
            text, "runs", client.runs.list(archived=is_archived, page_size=PAGE)
        ):
            return found
    if RUN_ID.fullmatch(text):  # KFP accepts ids that are no UUIDs
        return text
    if allow_missing:
        return ""
    raise errors.RunNotFoundError(f"not found: run '{text}'", resource_name=text)


def _newest_run(client: Client, text: str, pipeline: str, *, failed: bool) -> str:
    parent = pipeline_id(client, pipeline) if pipeline else ""
    states = [RunState.FAILED] if failed else []
    # KFP filters neither by pipeline nor by failures alone: the adapter reads runs in such pages until one matches.
    newest = next(
        client.runs.list(pipeline_id=parent, states=states, page_size=_FILTERED_PAGE if parent or failed else 1), None
    )
    if newest is None:
        raise NotFoundError(
            f"no{' failed' if failed else ''} runs{f' of {pipeline}' if pipeline else ''} yet",
            why=f"{text} is the newest such run that is not archived",
            next_step=other("runs", text="shows the newest runs; kfadapter run NAME runs a pipeline"),
        )
    return newest.run_id


# --- pipelines and versions -----------------------------------------------------------------------------------------


def pipeline_reference(client: Client, text: str, *, by_id: bool | None = None) -> PipelineRef:
    """Returns a reference to a pipeline; `by_id`, if set, decides whether the text is an id or a name."""
    if _UUID.fullmatch(text) and by_id is not False:
        return PipelineRef(pipeline_id=text)
    reference = PipelineRef(pipeline_id=text) if by_id else PipelineRef(name=text)
    if by_id is False or not _ID_PREFIX.fullmatch(text):
        return reference
    if not by_id:
        with suppress(errors.PipelineNotFoundError):
            client.pipelines.get(text, view=View.BASIC)
            return reference
    found = _by_id_prefix(text, "pipelines", client.pipelines.list(page_size=PAGE))
    return PipelineRef(pipeline_id=found) if found else reference


def pipeline_id(client: Client, text: str) -> str:
    """Returns the id of a pipeline that exists, or a whole id as it is."""
    ref = pipeline_reference(client, text)
    return ref.pipeline_id or client.pipelines.get(ref.name, view=View.BASIC).pipeline_id


def version_reference(client: Client, pipeline: PipelineRef, text: str | None) -> VersionRef:
    """Returns a reference to a version of a pipeline; None is the latest."""
    reference = _parse_version(text)
    if text and not reference.pipeline_version_id and _ID_PREFIX.fullmatch(text):
        with suppress(errors.VersionNotFoundError):
            return VersionRef(find_version(client, pipeline, text).pipeline_version_id)
    return reference


def find_version(client: Client, pipeline: PipelineRef, text: str | None) -> PipelineVersion:
    """Gets a version of a pipeline by its reference; None is the latest."""
    of = {"name": pipeline.name, "pipeline_id": pipeline.pipeline_id}
    version = _parse_version(text)
    try:
        return client.pipelines.get_version(
            **of, version_name=version.name, pipeline_version_id=version.pipeline_version_id
        )
    except errors.VersionNotFoundError:
        newest = client.pipelines.list_versions(pipeline.name, pipeline_id=pipeline.pipeline_id, page_size=PAGE)
        version_id = _by_id_prefix(text or "", "versions", newest)
        if not version_id:
            raise
        return client.pipelines.get_version(**of, pipeline_version_id=version_id)


def _parse_version(text: str | None) -> VersionRef:
    if text == "":  # as from an unset shell variable
        raise typer.BadParameter("an empty text is no version")
    return VersionRef(pipeline_version_id=text) if text and _UUID.fullmatch(text) else VersionRef(name=text or "")


# --- experiments and recurring runs ---------------------------------------------------------------------------------


def experiment_reference(client: Client, text: str) -> ExperimentRef:
    """Returns a reference to an experiment; an empty text is the default one."""
    if _UUID.fullmatch(text):
        return ExperimentRef(experiment_id=text)
    if _ID_PREFIX.fullmatch(text):
        with suppress(errors.ExperimentNotFoundError):
            client.experiments.get(text)
            return ExperimentRef(name=text)
        for is_archived in (False, True):
            newest = client.experiments.list(archived=is_archived, page_size=PAGE)
            if found := _by_id_prefix(text, "experiments", newest):
                return ExperimentRef(experiment_id=found)
    return ExperimentRef(name=text)


def experiment_id(client: Client, text: str) -> str:
    """Returns the id of an experiment that exists, or a whole id as it is."""
    ref = experiment_reference(client, text)
    return ref.experiment_id or client.experiments.get(ref.name).experiment_id


def recurring_run_id(client: Client, text: str, *, allow_missing: bool = False) -> str:
    """Returns the id of a recurring run; with `allow_missing` an empty text if none matches."""
    if _UUID.fullmatch(text):
        return text
    newest = [*islice(client.recurring_runs.list(page_size=PAGE), SEARCHED + 1)]
    found = _by_name(text, "recurring runs", newest) or _by_id_prefix(text, "recurring runs", newest)
    if not found and not allow_missing:
        raise errors.RecurringRunNotFoundError(f"not found: recurring run '{text}'", resource_name=text)
    return found


# --- similar names --------------------------------------------------------------------------------------------------


def similar_name(client: Client, error: errors.AdapterError, pipeline: str) -> str:
    """Returns a sentence with the name that is most like one that was not found, among the newest; one call.

    A version is searched among those of the pipeline in the command.
    """
    lists: dict[type[errors.AdapterError], tuple[str, Callable[..., Pages[Any]]]] = {
        errors.PipelineNotFoundError: ("pipelines", client.pipelines.list),
        errors.VersionNotFoundError: ("versions", client.pipelines.list_versions),
        errors.RunNotFoundError: ("runs", client.runs.list),
        errors.ExperimentNotFoundError: ("experiments", client.experiments.list),
        errors.RecurringRunNotFoundError: ("recurring runs", client.recurring_runs.list),
    }
    text, listing = error.resource_name, lists.get(type(error))
    if not listing or not text or _UUID.fullmatch(text):
        return ""
    resource, newest = listing
    if resource == "versions":
        ref = pipeline_reference(client, pipeline)
        newest = partial(newest, ref.name, pipeline_id=ref.pipeline_id)
    names = [candidate.name for candidate in candidates(resource, newest(page_size=SEARCHED).page().items)]
    return did_you_mean(text, [*names, LATEST, FAILED] if resource == "runs" else names)


# --- one of several -------------------------------------------------------------------------------------------------


def _by_name(text: str, resource: str, records: Iterable[object]) -> str:
    return _unique_match(text, resource, records, lambda candidate: candidate.name == text)


def _by_id_prefix(text: str, resource: str, newest: Iterable[object]) -> str:
    if not _ID_PREFIX.fullmatch(text):
        return ""
    return _unique_match(text, resource, newest, lambda candidate: candidate.id.lower().startswith(text.lower()))


def _unique_match(text: str, resource: str, newest: Iterable[object], matches: Callable[[Candidate], bool]) -> str:
    """Returns the id of the only candidate that matches; empty if none does."""
    every = candidates(resource, newest)
    # A record that is added while pages are read moves the last one of a page onto the next one, too.
    matching = list({candidate.id: candidate for candidate in islice(every, SEARCHED) if matches(candidate)}.values())
    if not matching and next(every, None):
        out.note(f"'{text}' was searched among the newest {SEARCHED} {resource} only; there are more")
    if len(matching) > 1:
        raise CommandError(
            f"'{text}' is ambiguous: {len(matching)} {resource} match",
            why="AMBIGUOUS_NAME\n" + "\n".join(_candidate_lines(matching)),
            next_step="the same command with an id, or with as many of its first characters as make it unique",
        )
    return matching[0].id if matching else ""


def _candidate_lines(matching: list[Candidate]) -> Iterator[str]:
    """Yields a line for each candidate, with as much of its id as makes it unique."""
    from rich.cells import cell_len  # noqa: PLC0415  the help does not need it

    now = datetime.now(timezone.utc)
    length = next(
        (size for size in range(8, 36) if len({candidate.id[:size] for candidate in matching}) == len(matching)), None
    )
    rows = [
        (
            candidate.name,
            candidate.id[:length],
            candidate.state,
            shown_age(candidate.created_at, now) if candidate.created_at else "",
        )
        for candidate in matching[:_MAX_LISTED]
    ]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True) if width)
        yield "  ".join(cells).rstrip()
    if len(matching) > _MAX_LISTED:
        yield f"and {len(matching) - _MAX_LISTED} more"

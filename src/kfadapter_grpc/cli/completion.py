"""Names for shell completion, requested from the adapter when Tab is pressed.

It is fast or offers nothing, and prints no messages, which would appear within a half-typed command line.
"""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stderr
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer  # noqa: TC002  Typer reads the annotations

from kfadapter_grpc.cli.text import utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.pipelines import PipelineRef

SECONDS = 1.0
MAX_OFFERS = 50
_PAGE = 200
SHELL_VARIABLE = "_KFADAPTER_COMPLETE"
_WORDS = "COMP_WORDS"
_CURSOR = "COMP_CWORD"
_BREAKS = frozenset(":=")
"""The characters besides blanks at which bash splits words."""
_SHELL_SPECIAL = frozenset("\\`$\"'")
"""With these, a name could make a shell run something: zsh's completion evaluates what it is offered."""
_TO_QUOTE = re.compile(r"([^\w@%+=:,./-])")


def _offers(*before: str) -> Callable[[Callable[..., Iterable[str]]], Callable[[typer.Context, str], list[str]]]:
    """Makes a completion of a function of the client, the text to complete and the arguments typed before it.

    Without these there is nothing to offer. A pipeline is a reference.
    """

    def decorate(query: Callable[..., Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
        def offer(context: typer.Context, incomplete: str) -> list[str]:
            # If an option lacks its value, the words before it are not parsed yet.
            typed = [
                context.params.get(parameter) or next(iter(context.args[position:]), "")
                for position, parameter in enumerate(before)
            ]
            if not all(typed):
                return []
            prefix, words = utf8(incomplete), [utf8(str(word)) for word in typed]

            def query_context(client: Client) -> Iterable[str]:
                from kfadapter_grpc.cli.references import pipeline_reference  # noqa: PLC0415

                if before != ("pipeline",):
                    return query(client, prefix, *words)
                return query(client, prefix, pipeline_reference(client, words[0], by_id=context.params.get("by_id")))

            return _offered(context, prefix, query_context)

        return offer

    return decorate


@_offers()
def _pipeline_names(client: Client, prefix: str) -> Iterable[str]:
    pipelines = client.pipelines.list(name_contains=prefix, order_by="name", page_size=_PAGE)
    return (pipeline.name for pipeline in pipelines.page().items)


def pipeline_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offers the names of pipelines; none where an id is expected."""
    return [] if context.params.get("by_id") else _pipeline_names(context, incomplete)


@_offers()
def experiment_names(client: Client, prefix: str) -> Iterable[str]:
    experiments = client.experiments.list(name_contains=prefix, order_by="name", page_size=_PAGE)
    return (experiment.name for experiment in experiments.page().items)


@_offers()
def recurring_run_names(client: Client, _: str) -> Iterable[str]:
    recurring_runs = client.recurring_runs.list(page_size=_PAGE).page().items
    return (
        name
        for recurring_run in recurring_runs
        for name in (recurring_run.display_name, recurring_run.recurring_run_id)
    )


@_offers()
def run_names(client: Client, prefix: str) -> Iterable[str]:
    """Offers references to runs, names before ids."""
    from kfadapter_grpc.cli.references import FAILED, LATEST  # noqa: PLC0415

    special, colon, pipeline = prefix.partition(":")
    if special in (LATEST, FAILED) and colon:
        named = client.pipelines.list(name_contains=pipeline, order_by="name", page_size=_PAGE)
        return (f"{special}:{pipeline.name}" for pipeline in named.page().items)
    newest = client.runs.list(page_size=_PAGE).page().items
    return (LATEST, FAILED, *(run.display_name for run in newest), *(run.run_id for run in newest))


@_offers("pipeline")
def version_names(client: Client, _: str, pipeline: PipelineRef) -> Iterable[str]:
    versions = client.pipelines.list_versions(pipeline.name, pipeline_id=pipeline.pipeline_id, page_size=_PAGE)
    return (version.name for version in versions.page().items)


@_offers("pipeline")
def parameter_names(client: Client, _: str, pipeline: PipelineRef) -> Iterable[str]:
    spec = client.pipelines.get_version(pipeline.name, pipeline_id=pipeline.pipeline_id).spec
    return (f"{parameter.name}=" for parameter in spec.parameters) if spec else ()


@_offers("run")
def task_paths(client: Client, _: str, run: str) -> Iterable[str]:
    from kfadapter_grpc.cli.references import run_id  # noqa: PLC0415
    from kfadapter_grpc.contract.run_paths import paths_of  # noqa: PLC0415

    return paths_of(client.runs.get(run_id(client, run)).tasks).values()


@_offers("run", "task")
def output_names(client: Client, _: str, run: str, task: str) -> Iterable[str]:
    from kfadapter_grpc.cli.references import run_id  # noqa: PLC0415

    return (artifact.name for artifact in client.artifacts.list(run_id(client, run), task=task))


def context_names(incomplete: str) -> list[str]:
    from kfadapter_grpc.cli.contexts import read  # noqa: PLC0415
    from kfadapter_grpc.cli.errors import CommandError  # noqa: PLC0415

    try:
        return [name for name in sorted(read().contexts) if name.startswith(utf8(incomplete))]
    except (CommandError, OSError):
        return []


def _offered(context: typer.Context, prefix: str, query: Callable[[Client], Iterable[str]]) -> list[str]:
    try:
        with redirect_stderr(io.StringIO()), _options(context).client() as client:
            names = [name for name in dict.fromkeys(query(client)) if name.startswith(prefix) and _is_harmless(name)]
    except Exception:  # noqa: BLE001  no adapter, no response in time, no such pipeline: nothing to offer
        return []
    return [_quoted(name, prefix) for name in names[:MAX_OFFERS]]


def _options(context: Any) -> ClientOptions:  # noqa: ANN401  the outer ones are Click's, which has no public name
    """Parses the line so far; options after the command take precedence over those before it."""
    from kfadapter_grpc.cli.options import ClientOptions  # noqa: PLC0415  which imports this module

    outer = context.parent
    options = _options(outer) if outer is not None else ClientOptions()
    return replace(options.override(context.params), timeout=SECONDS)


def _is_harmless(name: str) -> bool:
    """Returns whether a name can be typed as is; one like `--force` would be parsed as an option."""
    return name.isprintable() and _SHELL_SPECIAL.isdisjoint(name) and not name.startswith("-")


def join_bash_words(environment: MutableMapping[str, str]) -> None:
    """Joins what bash splits: it takes `:` and `=` for separate words, as in `--target host:50051`."""
    if not _is_bash(environment):
        return
    words: list[str] = []
    cursor = int(environment.get(_CURSOR, "0"))
    split = False
    for index, word in enumerate(environment.get(_WORDS, "").split("\n")):
        separator = word != "" and _BREAKS.issuperset(word)
        if words and (separator or split):
            words[-1] += word
        else:
            words.append(word)
        split = separator
        if index == cursor:
            environment[_CURSOR] = str(len(words) - 1)
    environment[_WORDS] = "\n".join(words)


def _quoted(name: str, prefix: str) -> str:
    """Quotes a name for the shell; only bash leaves that to the program, and only outside quotes."""
    words, cursor = os.environ.get(_WORDS, "").split("\n"), int(os.environ.get(_CURSOR, "0"))
    is_quoted = cursor < len(words) and words[cursor].startswith(("'", '"'))
    if not _is_bash(os.environ) or is_quoted:
        return name
    start = max(prefix.rfind(char) for char in _BREAKS) + 1  # bash continues after it
    return _Quoted(_TO_QUOTE.sub(r"\\\1", name[start:]))


def _is_bash(environment: Mapping[str, str]) -> bool:
    return environment.get(SHELL_VARIABLE) == "complete_bash"


class _Quoted(str):
    """A name quoted for bash. Typer would compare it with what was typed, which is already done."""

    __slots__ = ()

    def startswith(self, *_: object) -> bool:
        return True

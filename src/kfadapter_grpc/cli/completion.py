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

from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.streams import utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.pipelines import PipelineRef

SECONDS = 1.0
"""How long the adapter has to answer."""
MOST = 50
"""How many names are offered."""
_PAGE = 200
SHELL_VARIABLE = "_KFADAPTER_COMPLETE"
_WORDS = "COMP_WORDS"
_CURSOR = "COMP_CWORD"
_BREAKS = frozenset(":=")
"""What bash takes words apart at, besides blanks."""
_STEERING = frozenset("\\`$\"'")
"""With these, a name could make a shell run something: zsh's completion evaluates what it is offered."""
_TO_QUOTE = re.compile(r"([^\w@%+=:,./-])")


def _offers(ask: Callable[[Client, str], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    """Returns a completion of what `ask` returns for the client and the typed text."""

    def offer(context: typer.Context, incomplete: str) -> list[str]:
        wanted = utf8(incomplete)
        return _offered(context, wanted, lambda client: ask(client, wanted))

    return offer


def _offers_of_pipeline(ask: Callable[[Client, PipelineRef], Iterable[str]]) -> Callable[..., list[str]]:
    """Returns a completion of what `ask` returns for the client and the pipeline typed before."""

    def offer(context: typer.Context, incomplete: str) -> list[str]:
        from kfadapter_grpc.cli.references import pipeline_reference  # noqa: PLC0415

        # The option still lacks its value, so the words before it are not parsed yet: the first is the pipeline.
        typed = context.params.get("pipeline") or next(iter(context.args), "")
        if not typed:
            return []
        by_id = context.params.get("by_id")

        def ask_about(client: Client) -> Iterable[str]:
            return ask(client, pipeline_reference(client, utf8(str(typed)), by_id=by_id))

        return _offered(context, utf8(incomplete), ask_about)

    return offer


def pipeline_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offers the names of pipelines; none where an id is expected."""
    return [] if context.params.get("by_id") else _pipeline_names(context, incomplete)


def _parameters(client: Client, ref: PipelineRef) -> Iterable[str]:
    spec = client.pipelines.get_version(ref.name, pipeline_id=ref.pipeline_id).spec
    return (f"{parameter.name}=" for parameter in spec.parameters) if spec else ()


def _runs(client: Client, wanted: str) -> Iterable[str]:
    """Yields what runs can be given by, names before ids."""
    from kfadapter_grpc.cli.references import FAILED, LATEST  # noqa: PLC0415

    special, colon, pipeline = wanted.partition(":")
    if special in (LATEST, FAILED) and colon:
        named = client.pipelines.list(name_contains=pipeline, order_by="name", page_size=_PAGE).page().items
        return (f"{special}:{one.name}" for one in named)
    newest = client.runs.list(page_size=_PAGE).page().items
    return (LATEST, FAILED, *(one.display_name for one in newest), *(one.run_id for one in newest))


_pipeline_names = _offers(
    lambda client, wanted: (
        one.name for one in client.pipelines.list(name_contains=wanted, order_by="name", page_size=_PAGE).page().items
    )
)
experiment_names = _offers(
    lambda client, wanted: (
        one.name for one in client.experiments.list(name_contains=wanted, order_by="name", page_size=_PAGE).page().items
    )
)
run_names = _offers(_runs)
recurring_run_names = _offers(
    lambda client, _: (
        name
        for one in client.recurring_runs.list(page_size=_PAGE).page().items
        for name in (one.display_name, one.recurring_run_id)
    )
)
version_names = _offers_of_pipeline(
    lambda client, ref: (
        one.name
        for one in client.pipelines.list_versions(ref.name, pipeline_id=ref.pipeline_id, page_size=_PAGE).page().items
    )
)
parameter_names = _offers_of_pipeline(_parameters)


def task_paths(context: typer.Context, incomplete: str) -> list[str]:
    """Offers the paths of the tasks of the run typed before."""
    from kfadapter_grpc.cli.references import run_id  # noqa: PLC0415
    from kfadapter_grpc.contract.run_paths import paths_of  # noqa: PLC0415

    run = _typed(context, "run", 0)

    def ask(client: Client) -> Iterable[str]:
        return paths_of(client.runs.get(run_id(client, run)).tasks).values()

    return _offered(context, utf8(incomplete), ask) if run else []


def output_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offers the artifacts of the task typed before."""
    from kfadapter_grpc.cli.references import run_id  # noqa: PLC0415

    run, task = _typed(context, "run", 0), _typed(context, "task", 1)

    def ask(client: Client) -> Iterable[str]:
        return dict.fromkeys(one.name for one in client.artifacts.list(run_id(client, run), task=task))

    return _offered(context, utf8(incomplete), ask) if run and task else []


def _typed(context: typer.Context, name: str, place: int) -> str:
    """An argument typed before; if an option lacks its value, the words are not parsed yet."""
    return utf8(str(context.params.get(name) or next(iter(context.args[place:]), "")))


def _offered(context: typer.Context, wanted: str, ask: Callable[[Client], Iterable[str]]) -> list[str]:
    try:
        with redirect_stderr(io.StringIO()), _options(context).client() as client:
            found = [name for name in dict.fromkeys(ask(client)) if name.startswith(wanted) and _is_harmless(name)]
    except Exception:  # noqa: BLE001  no adapter, no answer in time, no such pipeline: nothing to offer
        return []
    return [_spelled(name, wanted) for name in found[:MOST]]


def _options(context: Any) -> ClientOptions:  # noqa: ANN401  the outer ones are Click's, which has no public name
    """Parses the line so far; options after the command take precedence over those before it."""
    outer = context.parent
    options = _options(outer) if outer is not None else ClientOptions()
    return replace(options.override(context.params), timeout=SECONDS)


def _is_harmless(name: str) -> bool:
    """Returns whether a name can be typed as is; one like `--force` would be parsed as an option."""
    return name.isprintable() and _STEERING.isdisjoint(name) and not name.startswith("-")


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


def _spelled(name: str, wanted: str) -> str:
    """Quotes a name for the shell; only bash leaves that to the program, and only outside quotes."""
    words, cursor = os.environ.get(_WORDS, "").split("\n"), int(os.environ.get(_CURSOR, "0"))
    is_quoted = cursor < len(words) and words[cursor].startswith(("'", '"'))
    if not _is_bash(os.environ) or is_quoted:
        return name
    begun = max(wanted.rfind(char) for char in _BREAKS) + 1  # bash continues after it
    return _Spelled(_TO_QUOTE.sub(r"\\\1", name[begun:]))


def _is_bash(environment: Mapping[str, str]) -> bool:
    return environment.get(SHELL_VARIABLE) == "complete_bash"


class _Spelled(str):
    """A name quoted for bash. Typer would compare it with what was typed, which is already done."""

    __slots__ = ()

    def startswith(self, *_: object) -> bool:
        return True

"""Argo's expressions in words.

Argo substitutes values for `{{...}}` as texts; here the names of their sources are substituted instead:
`{{tasks.flip.outputs.parameters.side}} == heads` becomes `flip.side == heads`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.spec.values import ITEM, Source, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.kfp.spec.values import Sources

_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
_PIECE = re.compile(
    r"""(?P<quote>["'])\{\{(?P<quoted>[^{}]*)\}\}(?P=quote) | \{\{(?P<bare>[^{}]*)\}\}
      | (?P<text>"[^"]*"|'[^']*') | [ \t\n]{0,8}(?P<both>&&|\|\|)[ \t\n]{0,8} | (?P<not>!(?!=))[ ]?""",
    re.VERBOSE,
)
_OUTPUT = re.compile(r"(?:tasks|steps)\.([^.\s]+)\.outputs\.(?:parameters|artifacts)\.(\S+)")
_RESULT = re.compile(r"(?:tasks|steps)\.([^.\s]+)\.(?:outputs\.)?(result|exitCode|status|ip|id|startedAt|finishedAt)")
_INPUT = re.compile(r"inputs\.(?:parameters|artifacts)\.(\S+)")
_ARGUMENT = re.compile(r"workflow\.parameters\.(\S+)")
_WORKFLOW = re.compile(r"workflow\.\S+")
_DEPENDENCY = re.compile(
    r"([A-Za-z0-9_-]+)(?:\.(Succeeded|Failed|Errored|Skipped|Omitted|Daemoned|AnySucceeded|AllFailed))?"
)
_ALL_SUCCEEDED = re.compile(r"\s*[\w-]+(?:\.Succeeded)?(?:\s*&&\s*[\w-]+(?:\.Succeeded)?)*\s*")
_BETWEEN = {"&&": " and ", "||": " or "}


@dataclass(frozen=True, slots=True)
class Words:
    """A text in words, and whether all of it was understood."""

    text: str
    understood: bool = True


def source_of(reference: str, sources: Sources) -> Source | None:
    """Finds the source of the value of a reference, the text between `{{` and `}}`; None if it is unknown."""
    reference = reference.strip()
    if reference == ITEM or reference.startswith(f"{ITEM}."):
        found = sources(ITEM)
        return found and found.field(reference[len(ITEM) + 1 :])
    for pattern in (_OUTPUT, _RESULT):
        if output := pattern.fullmatch(reference):
            return Source(shortened(f"{output[1]}.{output[2]}"))
    if given := _INPUT.fullmatch(reference):
        return sources(given[1]) or Source(shortened(given[1]))
    if argument := _ARGUMENT.fullmatch(reference):
        return Source(shortened(argument[1]))
    return Source(shortened(reference)) if _WORKFLOW.fullmatch(reference) else None


def value_source(value: str, sources: Sources) -> Source:
    """Finds the source of the value of an argument: a reference's source, or the text with sources substituted."""
    whole = _PLACEHOLDER.fullmatch(value.strip())
    found = source_of(whole[1], sources) if whole else None
    return found or Source(shortened(in_braces(shortened(value), sources)))


def in_braces(text: str, sources: Sources) -> str:
    """Substitutes words for references and keeps the braces: `{{cpu}}`."""

    def words(found: re.Match[str]) -> str:
        source = source_of(found[1], sources)
        return f"{{{{{source.words}}}}}" if source else found[0]

    return _PLACEHOLDER.sub(words, text)


def condition_in_words(when: str, sources: Sources) -> Words:
    return _in_words(when, lambda reference: source_of(reference, sources))


def items_in_words(text: str, sources: Sources) -> Words:
    return condition_in_words(text, sources) if "{{" in text else Words(text)


def _in_words(text: str, source: Callable[[str], Source | None]) -> Words:
    unknown: list[str] = []

    def words(reference: str, as_it_stands: str) -> str:
        known = source(reference)
        unknown.extend([] if known else [reference])
        return known.words if known else as_it_stands

    def piece(found: re.Match[str]) -> str:
        if found["text"]:
            return _PLACEHOLDER.sub(lambda inner: words(inner[1], inner[0]), found["text"])
        if found["both"]:
            return _BETWEEN[found["both"]]
        if found["not"]:
            return "not "
        return words(found["bare"] if found["quoted"] is None else found["quoted"], found[0])

    result = _PIECE.sub(piece, text.strip())
    return Words(result, understood=not unknown and "{{" not in result)


def names_in_depends(depends: str) -> list[str]:
    return [found[1] for found in _DEPENDENCY.finditer(depends)]


def depends_in_words(depends: str) -> str:
    """Puts a `depends` into words; empty if it only requires that all have succeeded."""
    if _ALL_SUCCEEDED.fullmatch(depends):
        return ""
    return _in_words(depends, lambda _reference: None).text

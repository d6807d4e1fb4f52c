"""Argo's expressions as readable text.

Argo substitutes values for `{{...}}` as texts; here the names of their sources are substituted instead:
`{{tasks.flip.outputs.parameters.side}} == heads` becomes `flip.side == heads`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kfadapter_grpc.kfp.spec.values import ITEM, Source, Sources, shortened

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


def source_of(reference: str, sources: Sources) -> Source | None:
    """Finds the source of the value of a reference, the text between `{{` and `}}`; None if it is unknown."""
    reference = reference.strip()
    if reference == ITEM or reference.startswith(f"{ITEM}."):
        item = sources(ITEM)
        return item and item.field(reference[len(ITEM) + 1 :])
    for pattern in (_OUTPUT, _RESULT):
        if output := pattern.fullmatch(reference):
            return Source(shortened(f"{output[1]}.{output[2]}"))
    if input_ := _INPUT.fullmatch(reference):
        return sources(input_[1]) or Source(shortened(input_[1]))
    if argument := _ARGUMENT.fullmatch(reference):
        return Source(shortened(argument[1]))
    return Source(shortened(reference)) if _WORKFLOW.fullmatch(reference) else None


def value_source(value: str, sources: Sources) -> Source:
    """Finds the source of the value of an argument: a reference's source, or the text with sources substituted."""
    match = _PLACEHOLDER.fullmatch(value.strip())
    source = source_of(match[1], sources) if match else None
    return source or Source(shortened(with_sources_in_braces(shortened(value), sources)))


def with_sources_in_braces(text: str, sources: Sources) -> str:
    """Substitutes labels for references and keeps the braces: `{{cpu}}`."""

    def label(match: re.Match[str]) -> str:
        source = source_of(match[1], sources)
        return f"{{{{{source.label}}}}}" if source else match[0]

    return _PLACEHOLDER.sub(label, text)


def describe_condition(when: str, sources: Sources) -> tuple[str, bool]:
    """Describes a condition; also returns whether all of it was understood."""
    return _describe(when, lambda reference: source_of(reference, sources))


def describe_items(text: str, sources: Sources) -> tuple[str, bool]:
    return describe_condition(text, sources) if "{{" in text else (text, True)


def _describe(text: str, source: Callable[[str], Source | None]) -> tuple[str, bool]:
    unknown: list[str] = []

    def label(reference: str, original: str) -> str:
        known = source(reference)
        unknown.extend([] if known else [reference])
        return known.label if known else original

    def piece(match: re.Match[str]) -> str:
        if match["text"]:
            return _PLACEHOLDER.sub(lambda inner: label(inner[1], inner[0]), match["text"])
        if match["both"]:
            return _BETWEEN[match["both"]]
        if match["not"]:
            return "not "
        return label(match["bare"] if match["quoted"] is None else match["quoted"], match[0])

    result = _PIECE.sub(piece, text.strip())
    return result, not unknown and "{{" not in result


def names_in_depends(depends: str) -> list[str]:
    return [match[1] for match in _DEPENDENCY.finditer(depends)]


def describe_depends(depends: str) -> str:
    """Describes a `depends`; empty if it only requires that all have succeeded."""
    if _ALL_SUCCEEDED.fullmatch(depends):
        return ""
    return _describe(depends, lambda _reference: None)[0]

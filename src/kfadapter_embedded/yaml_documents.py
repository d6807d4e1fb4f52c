"""Parses YAML as KFP's parser (go-yaml 3) does, in bounded time and memory.

The documents are built from libyaml's events one by one: there is no recursion, other threads can run between events,
and expanded aliases are counted before they are used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import yaml
from yaml import events

from .json_text import JsonValue

# Pipelines are about 15 levels deep; later stages recurse.
MAX_DEPTH = 100
# The count of a compiled pipeline of 32 MiB (one per 35 bytes), which takes about five seconds.
MAX_NODES = 1_000_000
# The limit for the text that all aliases together expand to.
_MAX_EXPANDED_CHARACTERS = 64 << 20

_INTEGER = re.compile(r"[-+]?(0x[0-9a-f_]+|0o?[0-7_]+|0b[01_]+|[0-9][0-9_]*)", re.IGNORECASE)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DAY = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_MAX_INTEGER_DIGITS = 25
_WORDS: dict[str, JsonValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_TAG = "tag:yaml.org,2002:"


class YamlError(Exception):
    """go-yaml's message about invalid YAML, for example "yaml: line 3: ..."."""


def mappings(stream: BinaryIO) -> Iterator[dict[str, JsonValue]]:
    """Yields the documents of a stream that are mappings and can be written as JSON.

    Skips others: lists and scalars, and mappings with a duplicate key or one that is not a string. Raises YamlError at
    the position where the text is not valid YAML or exceeds a limit.
    """
    document = _Document()
    for event in _events(stream):
        document.add(event)
        if isinstance(event, events.DocumentEndEvent):
            if isinstance(document.root, dict) and document.usable:
                yield document.root
            document = _Document()


def _events(stream: BinaryIO) -> Iterator[events.Event]:
    try:
        yield from yaml.parse(stream, Loader=yaml.CSafeLoader)
    except yaml.reader.ReaderError as error:
        raise YamlError(f"yaml: {error.reason}") from None
    except yaml.MarkedYAMLError as error:
        raise YamlError(_marked(error)) from None


def _marked(error: yaml.MarkedYAMLError) -> str:
    """The error with go-yaml's line number: none on the first line, and one more in errors of the scanner."""
    for mark in (error.context_mark, error.problem_mark):
        if mark is not None and mark.line:
            line = mark.line + isinstance(error, yaml.scanner.ScannerError)
            return f"yaml: line {line}: {error.problem}"
    return f"yaml: {error.problem}"


@dataclass
class _Size:
    """The size of a node, aliases expanded."""

    nodes: int = 1
    characters: int = 0
    height: int = 1

    def include(self, child: _Size) -> None:
        self.nodes += child.nodes
        self.characters += child.characters
        self.height = max(self.height, child.height + 1)


@dataclass
class _Open:
    """A list or mapping that has not ended yet."""

    value: list[JsonValue] | dict[str, JsonValue]
    anchor: str | None
    size: _Size = field(default_factory=_Size)
    key: str | None = None
    merging: bool = False
    merged: list[JsonValue] = field(default_factory=list)


class _Document:
    """A document under construction.

    Attributes:
        root: its value, once complete.
        usable: whether everything so far can be written as JSON.
    """

    def __init__(self) -> None:
        self.root: JsonValue = None
        self.usable = True
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[JsonValue, _Size]] = {}
        self._nodes = 0
        self._alias_nodes = 0
        self._alias_characters = 0

    def add(self, event: events.Event) -> None:
        if isinstance(event, events.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, events.MappingStartEvent):
            self._start({}, event.anchor)
        elif isinstance(event, events.SequenceStartEvent):
            self._start([], event.anchor)
        elif isinstance(event, events.CollectionEndEvent):
            self._end()
        elif isinstance(event, events.AliasEvent):
            self._alias(event.anchor or "")

    def _scalar(self, event: events.ScalarEvent) -> None:
        value = _resolve(event)
        if isinstance(value, float) and not math.isfinite(value):
            self.usable = False
        self._add_value(value, event.anchor, _Size(characters=len(event.value)), is_merge=_is_merge(event))

    def _start(self, value: list[JsonValue] | dict[str, JsonValue], anchor: str | None) -> None:
        self._open.append(_Open(value, anchor))
        if len(self._open) > MAX_DEPTH:
            raise YamlError(f"yaml: exceeded max depth of {MAX_DEPTH}")
        # Inside this node, its anchor must not refer to an earlier node with the same anchor.
        self._anchors.pop(anchor or "", None)

    def _end(self) -> None:
        closed = self._open.pop()
        if isinstance(closed.value, dict):
            for source in closed.merged:
                self._merge(closed.value, source)
        self._add_value(closed.value, closed.anchor, closed.size)

    def _alias(self, anchor: str) -> None:
        if anchor not in self._anchors:
            inside_itself = any(each.anchor == anchor for each in self._open)
            words = (
                f"anchor '{anchor}' value contains itself" if inside_itself else f"unknown anchor '{anchor}' referenced"
            )
            raise YamlError(f"yaml: {words}")
        value, size = self._anchors[anchor]
        self._alias_nodes += size.nodes
        self._alias_characters += size.characters
        self._nodes += size.nodes
        too_many = self._nodes > 1000 and self._alias_nodes / self._nodes > _allowed_alias_share(self._nodes)  # noqa: PLR2004  # go-yaml's own number
        if too_many or self._alias_characters > _MAX_EXPANDED_CHARACTERS:
            raise YamlError("yaml: document contains excessive aliasing")
        self._add_value(value, None, size)

    def _add_value(self, value: JsonValue, anchor: str | None, size: _Size, *, is_merge: bool = False) -> None:
        """Adds a complete node to its parent."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise YamlError(f"yaml: more than {MAX_NODES} values in a document")
        if len(self._open) + size.height > MAX_DEPTH + 1:
            raise YamlError(f"yaml: exceeded max depth of {MAX_DEPTH}")
        if anchor:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self.root = value
            return
        parent = self._open[-1]
        parent.size.include(size)
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.merging:
            parent.merged += value if isinstance(value, list) else [value]
            parent.merging = False
        elif parent.key is not None:
            parent.value[parent.key] = value
            parent.key = None
        elif is_merge:
            parent.merging = True
        else:
            parent.key = self._key(parent.value, value)

    def _key(self, mapping: dict[str, JsonValue], key: JsonValue) -> str:
        if not isinstance(key, str) or key in mapping:
            self.usable = False
        return key if isinstance(key, str) else ""

    def _merge(self, target: dict[str, JsonValue], source: JsonValue) -> None:
        if not isinstance(source, dict):
            raise YamlError("yaml: map merge requires map or sequence of maps as the value")
        for key, value in source.items():
            target.setdefault(key, value)


def _is_merge(event: events.ScalarEvent) -> bool:
    return event.value == "<<" and bool(event.implicit[0])


def _allowed_alias_share(nodes: int) -> float:
    """go-yaml's limit for the share of a document that comes from aliases: the larger the document, the lower."""
    low, high = 400_000, 4_000_000
    return 0.99 - 0.89 * (min(max(nodes, low), high) - low) / (high - low)


def _resolve(event: events.ScalarEvent) -> JsonValue:
    """The value of a scalar: by its tag or, for a plain scalar, by its form."""
    text: str = event.value
    if event.implicit[0]:
        return _plain(text)
    tag = (event.tag or "").removeprefix(_TAG)
    convert = _TAGGED.get(tag)
    return convert(text) if convert and not event.implicit[1] else text


def _plain(text: str) -> JsonValue:
    if text in _WORDS:
        return _WORDS[text]
    if not text[0].isdecimal() and text[0] not in "+-.":
        return text
    if _INTEGER.fullmatch(text) and len(text) <= _MAX_INTEGER_DIGITS:
        return _integer(text)
    if _FLOAT.fullmatch(text) and text.isascii():
        number = float(text)
        return number if math.isfinite(number) else text
    if day := _DAY.fullmatch(text):
        # Go parses a date as a timestamp, and writes it as one.
        return f"{day[1]}-{int(day[2]):02}-{int(day[3]):02}T00:00:00Z"
    return text


def _integer(text: str) -> int | str:
    plain = text.replace("_", "").lower()
    # As in Go, a leading zero alone makes a number octal.
    octal = re.fullmatch(r"([-+]?)0([0-7]+)", plain)
    try:
        return int(f"{octal[1]}0o{octal[2]}" if octal else plain, 0)
    except ValueError:
        return text


def _number(text: str) -> JsonValue:
    return float(text) if _FLOAT.fullmatch(text) and text.isascii() else text


_TAGGED: dict[str, Callable[[str], JsonValue]] = {
    "null": lambda _: None,
    "bool": _plain,
    "int": _plain,
    "float": _number,
}

r"""Checks a YAML or JSON text by the events of libyaml's parser: nothing is built, no alias expanded.

KFP reads files with Go's yaml.v3, and where that fails in the middle of a file, 2.5.0 and 2.17.0 spin indefinitely. So
this also rejects what libyaml accepts and yaml.v3 does not: `%YAML 1.2`, aliases without anchor, `\/` in quotes, an
unquoted text with `?` and a tag without value in flow style, and keys that are not texts.

The position of a fault that KFP does not name is found after it rejected the file, or failed to store it: searching for
it beforehand takes time, and some of it KFP accepts in an Argo Workflow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import yaml

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import InvalidPipelineFileError
from kfadapter_grpc.upload.limits import LATE, invalid_file, quoted
from kfadapter_grpc.upload.text import CheckedText

if TYPE_CHECKING:
    from yaml._yaml import Mark as CMark
    from yaml.error import Mark

MAX_ALIASES = 100_000
MAX_DEPTH = 1_000
MAX_EVENTS = 5_000_000
"""Limit of texts, starts and ends of lists and mappings; a compiled pipeline of 32 MiB has about 1.6 million."""

_MAX_TOTAL_DEPTH = 50_000_000
"""The depth of every collection, summed up: libyaml's work grows with the depth."""

_NO_TEXT_AS_KEY = "the key of a mapping has to be a text."

_MAX_KEYS = 100_000
"""Maximum number of keys that are remembered at once; a file with more is not searched."""
_NOT_TEXT = re.compile(
    r"[-+]?(?:0[bx]?[0-9a-fA-F_]+|[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?i:inf|nan)"
    r"|~|(?i:null|true|false|yes|no|on|off)|\d{4}-\d\d?-\d\d?(?:[Tt ].*)?"
)
"""Keys that are numbers, booleans, null or dates in YAML, unless they are quoted."""

_EVENTS_PER_CHECK = 1_000
_NULLS = ("", "~", "null", "Null", "NULL")
_SURROGATES = "found invalid Unicode character escape code"


_SEQUENCE, _KEY, _VALUE = range(3)
"""The position of the next node."""


def check_syntax(text: CheckedText, call: Call) -> None:
    """Parses the text to its end. Raises InvalidPipelineFileError if it is not a YAML that KFP can read."""
    shape = _EventChecker(text)
    try:
        for number, event in enumerate(yaml.parse(text, Loader=yaml.CBaseLoader)):
            if not number % _EVENTS_PER_CHECK:
                call.ensure_active(LATE)
                shape.check_limits(number)
            text.token_bytes = 0
            shape.take(event)
    except yaml.YAMLError as error:
        text.raise_failure()
        raise _syntax_error(error) from None
    text.raise_failure()
    if not shape.has_mapping:
        raise invalid_file("The file is empty. Upload the YAML or JSON that the kfp compiler writes.")


class _EventChecker:
    """Follows the events of one file and rejects what KFP cannot read."""

    def __init__(self, text: CheckedText) -> None:
        self.has_mapping = False
        self._text = text
        self._inside: list[int] = []
        self._flow_levels = 0
        self._anchors: set[str] = set()
        self._total_depth = 0
        self._references = 0

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._start(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._total_depth += len(self._inside)
            self._inside.pop()
            # Everything inside a flow collection is in flow style, too.
            self._flow_levels = max(0, self._flow_levels - 1)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _invalid_at(event.start_mark, f"the alias {quoted(f'*{event.anchor}')} has no anchor before it.")
            self._count_node(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._text.between_documents = False
            self._anchors.clear()
            if event.version not in {None, (1, 1)}:
                raise _invalid_at(event.start_mark, "KFP reads YAML 1.1 only; remove the line `%YAML`.")
        elif isinstance(event, yaml.DocumentEndEvent):
            self._text.between_documents = True

    def check_limits(self, events: int) -> None:
        """Rejects a file whose parsing would take much longer than its size allows."""
        if events > MAX_EVENTS:
            raise invalid_file(f"The file has more than {MAX_EVENTS // 1_000_000} million parts. Make it smaller.")
        if self._total_depth > _MAX_TOTAL_DEPTH:
            raise invalid_file("The file is nested too deeply too often. Make it flatter.")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        mark, value = event.start_mark, event.value
        if not self._inside and (event.style or value not in _NULLS):
            raise _invalid_at(mark, f"this is a text, {quoted(value)}, not a pipeline: a mapping is needed.")
        self._count_node(event)
        if event.style == '"':
            end = event.end_mark
            if mark is not None and end is not None and self._text.escapes_slash(mark.index, end.index):
                raise _invalid_at(mark, r"KFP cannot read the escape `\/`; write `/` instead.")
        elif self._flow_levels and not event.style:
            if "?" in value[1:]:
                raise _invalid_at(mark, f"KFP cannot read {quoted(value)} with its `?` here; put it into quotes.")
            if event.tag is not None and not value:
                raise _invalid_at(mark, f"the tag {quoted(event.tag)} has no value.")

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if not self._inside and not is_mapping:
            raise _invalid_at(event.start_mark, "this is a list, not a pipeline: a mapping is needed.")
        self.has_mapping = True
        self._count_node(event)
        self._inside.append(_KEY if is_mapping else _SEQUENCE)
        if event.flow_style:
            self._flow_levels += 1
        if len(self._inside) > MAX_DEPTH:
            raise _invalid_at(event.start_mark, f"the file is nested deeper than {MAX_DEPTH} levels.")

    def _count_node(self, event: yaml.NodeEvent) -> None:
        """Handles a node at its position: in a mapping, keys and values alternate."""
        if self._inside:
            place = self._inside[-1]
            if place == _KEY:
                if not isinstance(event, yaml.ScalarEvent):
                    raise _invalid_at(event.start_mark, _NO_TEXT_AS_KEY)
                self._inside[-1] = _VALUE
            elif place == _VALUE:
                self._inside[-1] = _KEY
        if event.anchor is not None:
            self._anchors.add(event.anchor)
            self._references += 1
            if self._references > MAX_ALIASES:
                raise _invalid_at(event.start_mark, f"the file has more than {MAX_ALIASES} anchors and aliases.")


def find_faulty_key(text: CheckedText, call: Call) -> InvalidPipelineFileError | None:
    """Finds the first key that its mapping already has, or that is not a text."""
    mappings: list[dict[str, int] | None] = []  # of each open collection; a mapping's keys with their lines
    expects_key: list[bool] = []
    remembered = 0
    for event in _events(text, call):
        if isinstance(event, yaml.CollectionEndEvent):
            remembered -= len(mappings.pop() or ())
            expects_key.pop()
        elif isinstance(event, yaml.NodeEvent):
            keys = mappings[-1] if mappings else None
            if keys is not None and expects_key[-1]:
                fault = _fault_of_key(event, keys)
                remembered += 1
                if fault is not None or remembered > _MAX_KEYS:
                    return fault
            if expects_key:
                expects_key[-1] = not expects_key[-1]
            if isinstance(event, yaml.CollectionStartEvent):
                mappings.append({} if isinstance(event, yaml.MappingStartEvent) else None)
                expects_key.append(True)
    return None


def find_wide_character(text: CheckedText, call: Call) -> InvalidPipelineFileError | None:
    """Finds the first text with a character of 4 bytes of UTF-8, written as it is or as an escape."""
    for event in _events(text, call):
        if isinstance(event, yaml.ScalarEvent) and event.value and (widest := max(event.value)) > "\uffff":
            return _invalid_at(
                event.start_mark,
                f"Kubeflow Pipelines failed to store the file, and the text that begins here has the character "
                f"{widest} (U+{ord(widest):X}): its connection to MySQL takes at most 3 bytes of UTF-8 for each. "
                "Leave such characters out.",
            )
    return None


def _events(text: CheckedText, call: Call) -> Iterator[yaml.Event]:
    for event in yaml.parse(text, Loader=yaml.CBaseLoader):
        text.token_bytes = 0
        call.ensure_active(LATE)
        yield event
    text.raise_failure()


def _fault_of_key(event: yaml.NodeEvent, keys: dict[str, int]) -> InvalidPipelineFileError | None:
    if not isinstance(event, yaml.ScalarEvent):
        return _invalid_at(event.start_mark, _NO_TEXT_AS_KEY)
    name = quoted(event.value)
    if event.value in keys:
        message = f"the key {name} is in this mapping twice, first in line {keys[event.value]}. Remove one."
        return _invalid_at(event.start_mark, message)
    if not event.style and event.tag is None and _NOT_TEXT.fullmatch(event.value):
        return _invalid_at(event.start_mark, f"the key {name} is not a text. Put it into quotes.")
    keys[event.value] = event.start_mark.line + 1 if event.start_mark else 0
    return None


def _invalid_at(mark: Mark | CMark | None, message: str) -> InvalidPipelineFileError:
    return invalid_file(message) if mark is None else invalid_file(message, line=mark.line + 1, column=mark.column + 1)


def _syntax_error(error: yaml.YAMLError) -> InvalidPipelineFileError:
    if not isinstance(error, yaml.MarkedYAMLError):
        return invalid_file(f"This is not valid YAML: {error}.")
    problem = f"{error.problem}, {error.context}" if error.context else str(error.problem)
    if error.problem == _SURROGATES:
        problem += "; write characters beyond U+FFFF as they are, not as two `\\u` escapes"
    return _invalid_at(error.problem_mark, f"this is not valid YAML: {problem}. Correct the file.")

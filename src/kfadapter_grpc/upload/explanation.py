"""Finds the place in a file that KFP refused, or failed to store, without naming it.

None of this is looked for beforehand: it takes time, and some of it KFP accepts in an Argo Workflow.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from kfadapter_grpc.upload.limits import ensure_wanted, quoted
from kfadapter_grpc.upload.syntax import NO_TEXT_AS_KEY, refused_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.errors import InvalidPipelineFileError
    from kfadapter_grpc.upload.text import CheckedText

_MOST_KEYS = 100_000
"""Keys that are remembered at once; a file with more is not looked through."""
_NOT_TEXT = re.compile(
    r"[-+]?(?:0[bx]?[0-9a-fA-F_]+|[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?i:inf|nan)"
    r"|~|(?i:null|true|false|yes|no|on|off)|\d{4}-\d\d?-\d\d?(?:[Tt ].*)?"
)
"""Keys that are numbers, truth values, null or dates in YAML, unless they are quoted."""


def faulty_key(text: CheckedText, call: Call) -> InvalidPipelineFileError | None:
    """Finds the first key that its mapping has already, or that is not a text."""
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
                found = _fault_of_key(event, keys)
                remembered += 1
                if found is not None or remembered > _MOST_KEYS:
                    return found
            if expects_key:
                expects_key[-1] = not expects_key[-1]
            if isinstance(event, yaml.CollectionStartEvent):
                mappings.append({} if isinstance(event, yaml.MappingStartEvent) else None)
                expects_key.append(True)
    return None


def wide_character(text: CheckedText, call: Call) -> InvalidPipelineFileError | None:
    """Finds the first text with a character of 4 bytes of UTF-8, written as it is or as an escape."""
    for event in _events(text, call):
        if isinstance(event, yaml.ScalarEvent) and event.value and (widest := max(event.value)) > "\uffff":
            return refused_at(
                event.start_mark,
                f"Kubeflow Pipelines failed to store the file, and the text that begins here has the character "
                f"{widest} (U+{ord(widest):X}): its connection to MySQL takes at most 3 bytes of UTF-8 for each. "
                "Leave such characters out.",
            )
    return None


def _events(text: CheckedText, call: Call) -> Iterator[yaml.Event]:
    for event in yaml.parse(text, Loader=yaml.CBaseLoader):
        text.token_bytes = 0
        ensure_wanted(call)
        yield event
    text.ensure_sound()


def _fault_of_key(event: yaml.NodeEvent, keys: dict[str, int]) -> InvalidPipelineFileError | None:
    """Checks a key, and adds it to those of its mapping."""
    if not isinstance(event, yaml.ScalarEvent):
        return refused_at(event.start_mark, NO_TEXT_AS_KEY)
    name = quoted(event.value)
    if event.value in keys:
        message = f"the key {name} is in this mapping twice, first in line {keys[event.value]}. Remove one."
        return refused_at(event.start_mark, message)
    if not event.style and event.tag is None and _NOT_TEXT.fullmatch(event.value):
        return refused_at(event.start_mark, f"the key {name} is not a text. Put it into quotes.")
    keys[event.value] = event.start_mark.line + 1 if event.start_mark else 0
    return None

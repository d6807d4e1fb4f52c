"""Labels of a run, stored in the last line of KFP's description, as KFP has no field for them.

The description for users.
kfadapter: {"model":"cnn","team":"vision"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from kfadapter_grpc.contract.values import well_formed

LINE_START = "kfadapter: "
MAX_DESCRIPTION_BYTES = 255
"""The largest description of a run in KFP, including the line with the labels."""

ORIGIN_LABEL = "_from"
"""The label that records from which version a run was started if KFP itself does not know it."""
ORIGIN_CHARACTERS = 43
RESERVED_PREFIX = "_"


def with_labels(description: str, labels: Mapping[str, str]) -> str:
    """A description for KFP that contains the labels; `split_labels` restores both."""
    if not labels and not _last_line(description).startswith(LINE_START):
        return description
    line = LINE_START + json.dumps(dict(sorted(labels.items())), ensure_ascii=False, separators=(",", ":"))
    return f"{description}\n{line}" if description else line


def split_labels(text: str) -> tuple[str, dict[str, str]]:
    """Splits KFP's description into the user's text and the labels; one without labels is unchanged."""
    line = _last_line(text)
    labels = _read(line)
    if labels is None:
        return text, {}
    return text[: len(text) - len(line)].removesuffix("\n"), labels


def label_text(key: str, value: str) -> str:
    return json.dumps({key: value}, ensure_ascii=False, separators=(",", ":"))[1:-1]


def label_key_text(key: str) -> str:
    """A substring of every description that has a label with this key."""
    return json.dumps(key, ensure_ascii=False) + ":"


def _last_line(text: str) -> str:
    return text[text.rfind("\n") + 1 :]


def _read(line: str) -> dict[str, str] | None:
    """The labels in a line; None if it is another text."""
    if not line.startswith(LINE_START):
        return None
    try:
        labels = json.loads(line.removeprefix(LINE_START))
    except (ValueError, RecursionError):
        return None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        return None
    return {well_formed(key): well_formed(value) for key, value in labels.items()}

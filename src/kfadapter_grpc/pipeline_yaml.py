"""Human-readable pipeline files: block-style YAML, converted from the JSON that Kubeflow Pipelines stores."""

from __future__ import annotations

import json
import re
from typing import BinaryIO

import yaml

try:
    from yaml import CSafeDumper as _SafeDumper
except ImportError:  # a PyYAML without libyaml: the same output, five times as slow
    from yaml import SafeDumper as _SafeDumper  # type: ignore[assignment]

_SEPARATOR = "\n---\n"
_NEVER_FOLD = 1_000_000_000
_STRING = "tag:yaml.org,2002:str"
_LINE_BREAK = "\n"
# What some YAML parser reads as a number, a boolean, null, a date or a merge key. PyYAML quotes
# what it would itself read as one; KFP's parser reads `1e-3` as a number and `y` as true.
_AMBIGUOUS = re.compile(
    r"[-+]?[.\d][\d._,:xXoOa-fA-F+-]*|[-+]?\.(inf|nan)|y|n|yes|no|on|off|true|false|null|~|=|<<", re.IGNORECASE
)
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
"""Characters that only escapes represent reliably: some readers take a few of them for line breaks."""


def write_yaml(source: BinaryIO, target: BinaryIO) -> None:
    """Writes the documents of a downloaded file as YAML in UTF-8.

    Values, order of keys and scripts are unchanged; multi-line texts become blocks. The whole file is held in
    memory, and each MB takes about a second.
    """
    documents = [json.loads(document) for document in source.read().decode().split(_SEPARATOR)]
    yaml.dump_all(
        documents,
        target,
        Dumper=_BlockDumper,
        encoding="utf-8",
        allow_unicode=True,
        default_flow_style=False,
        sort_keys=False,
        width=_NEVER_FOLD,
    )


class _BlockDumper(_SafeDumper):
    """Writes strings readably, and so that every YAML parser reads them as strings."""

    def ignore_aliases(self, data: object) -> bool:
        """Writes every value in full, without aliases."""
        del data
        return True


def _represent_text(dumper: _BlockDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(_STRING, text, style=_style(text))


def _style(text: str) -> str | None:
    if _UNSEEN.search(text):
        return '"'
    if _LINE_BREAK in text:
        return "|"
    return "'" if _AMBIGUOUS.fullmatch(text) else None


_BlockDumper.add_representer(str, _represent_text)

"""Reads the parameters of a run from a file: a JSON object or a YAML mapping, whose values keep their types.

YAML is read by the core schema of YAML 1.2, of which JSON is a part: `1e-3` is a number, `no`, `0x1F` and `2026-01-31`
are texts. Refused, with the line, is what JSON cannot carry, and what would be read otherwise than it looks.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

import yaml

from kfadapter_grpc.cli.errors import UsageError
from kfadapter_grpc.cli.text import STDIN
from kfadapter_grpc.contract.values import LARGEST_EXACT_INTEGER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kfadapter_grpc.contract.spec import Json

MAX_BYTES = 4 * 1024 * 1024
"""The size of the largest message that gRPC takes."""
_NO_NUMBERS = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|NaN|[-+]?Infinity")
_SHOWN_DIGITS = 40
_EXAMPLE = 'write NAME: VALUE on each line (YAML), or {"NAME": VALUE, ...} (JSON)'


def read_parameters(path: Path) -> dict[str, Json]:
    """Reads the parameters in a file; `-` is the standard input."""
    name = "the standard input" if path == STDIN else str(path)
    with sys.stdin.buffer if path == STDIN else path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        _refuse(name, f"it has more than {MAX_BYTES} bytes", "leave large data to artifacts")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        _refuse(name, f"line {line}: it is not UTF-8", "save it as UTF-8")
    try:
        document = _read(text, is_json=path.suffix.lower() == ".json")
    except json.JSONDecodeError as error:
        _refuse(name, f"line {error.lineno}, column {error.colno}: {error.msg}", _EXAMPLE)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        _refuse(name, f"{position}{error.problem or error.context}", _EXAMPLE)
    except yaml.YAMLError as error:  # a character that YAML does not allow
        _refuse(name, str(error), _EXAMPLE)
    except RecursionError:
        _refuse(name, "it is nested too deeply", _EXAMPLE)
    if not isinstance(document, dict):
        kind = "empty" if document is None else "a list" if isinstance(document, list) else "a single value"
        _refuse(name, f"it is {kind}, not a mapping", _EXAMPLE)
    return document


def _refuse(name: str, why: str, next_step: str) -> NoReturn:
    raise UsageError(f"{name} has no parameters that can be read", why=why, next_step=next_step)


def _read(text: str, *, is_json: bool) -> Json:
    """Reads JSON, or else YAML, whose parser reports the lines of all faults."""
    try:
        return cast("Json", _JSON.decode(text))
    except json.JSONDecodeError:
        if is_json:
            raise
    except ValueError:  # it is JSON, with a fault whose line the other reader finds
        pass
    return cast("Json", _Yaml(text).get_single_data())


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(text)


def _integer(text: str) -> int:
    """Reads an integer; ValueError beyond 2^53, or for more digits than Python reads."""
    number = int(text)
    if abs(number) > LARGEST_EXACT_INTEGER:
        raise ValueError(text)
    return number


def _unique(pairs: list[tuple[str, Json]]) -> Mapping[str, Json]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError
    return mapping


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_constant=_refuse_constant)


class _Yaml(yaml.SafeLoader):
    """Reads one document."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  as PyYAML has it

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses aliases: a few lines of them can expand beyond any memory."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed; repeat the value", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses names that are not strings, and duplicates."""
        names = set[str]()
        for key, _ in node.value:
            name = self.construct_object(key)
            if not isinstance(name, str):
                fault = f"the name {json.dumps(key.value)} is no text; put it into quotes"
                raise yaml.MarkedYAMLError(problem=fault, problem_mark=key.start_mark)
            if name in names:
                raise yaml.MarkedYAMLError(problem=f"'{name}' is set twice", problem_mark=key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Reads a number that JSON keeps exactly."""
        try:
            if _NO_NUMBERS.fullmatch(node.value):
                raise ValueError
            return float(node.value) if node.tag.endswith("float") else _integer(node.value)
        except ValueError:
            digits = node.value[:_SHOWN_DIGITS]
            fault = f"{digits} is a number that JSON does not keep exactly; put it into quotes to send it as text"
            raise yaml.MarkedYAMLError(problem=fault, problem_mark=node.start_mark) from None


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+", [*"-+0123456789"]),
    (
        "float",
        rf"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|{_NO_NUMBERS.pattern}",
        [*"-+.0123456789NI"],
    ),
):
    _Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
for _tag in ("int", "float"):
    _Yaml.add_constructor(f"tag:yaml.org,2002:{_tag}", _Yaml.construct_number)

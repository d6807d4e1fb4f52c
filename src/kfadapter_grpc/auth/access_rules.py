"""Access rules: who may do what in which namespaces, from a YAML file that is re-read when it changes.

All rules that match a caller add up; per namespace the highest role counts. The JSON schema of the file is made from
the types below (`scripts/document.py` writes it).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import yaml
from msgspec import UNSET, UnsetType

from kfadapter_grpc.contract.call import Grant, Role
from kfadapter_grpc.contract.errors import listed
from kfadapter_grpc.contract.identity import Identity, Way
from kfadapter_grpc.contract.spec import Json

MAX_RULES = 500
"""The maximum number of rules in a file: each new caller is compared with all of them, about 5 µs each."""
MAX_CACHED = 10_000
"""The maximum number of cached callers."""
_NAMESPACE = re.compile(r"[a-z0-9*-]{0,63}")
_MAX_LISTED = 5
_ROLES = tuple(role.value for role in Role)
_SCALARS = (str, bool, int, float)

Texts: TypeAlias = str | list[str]
"""A pattern, or several of which one must match. `*` matches any text, everything else itself."""
_Test: TypeAlias = "Callable[[Identity], bool]"


class RulesError(ValueError):
    """A rules file is invalid; the message has the line numbers."""


def _description(text: str) -> Any:  # noqa: ANN401 - msgspec.Meta, in the position of any annotation
    return msgspec.Meta(description=text)


class Match(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The callers of a rule. All conditions must match; of a list one suffices. `*` in a text matches any text."""

    issuer: Annotated[Texts | UnsetType, _description("The issuer (`iss`) of the token.")] = UNSET
    subject: Annotated[Texts | UnsetType, _description("The token's subject (`sub`).")] = UNSET
    groups: Annotated[Texts | UnsetType, _description("A group in the token.")] = UNSET
    claims: Annotated[
        dict[str, Any] | UnsetType,
        _description("Claims of the token: a text, a number, a boolean, a list of them, or claims within."),
    ] = UNSET
    certificate: Annotated[
        Texts | UnsetType, _description("A name in the client certificate: DNS name, URI or common name.")
    ] = UNSET
    token: Annotated[Texts | UnsetType, _description("A name in the token file.")] = UNSET
    way: Annotated[
        Literal["token-file", "certificate", "issuer", "token-review"] | UnsetType,
        _description("How the caller authenticates."),
    ] = UNSET


class Rule(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A rule: who gets which roles."""

    match: Annotated[
        Match | Literal["everyone"], _description("The callers; `everyone` is every caller that is authenticated.")
    ]
    grants: Annotated[
        dict[str, Role],
        _description(
            "The role (reader, writer or admin) per namespace or pattern (`team-*`); the empty text is what is in no "
            "namespace: shared pipelines, and everything in a single-user KFP; `*` is all of them."
        ),
    ]
    description: str = ""


class RulesFile(msgspec.Struct, forbid_unknown_fields=True):
    """Access rules of the adapter: who may do what in which namespaces."""

    rules: list[Rule]


class Rules:
    """The rules of a file. Safe to use from many threads."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.matches = [rule.match for rule in rules]
        self._rules = [(tuple(_tests(rule.match)), rule.grants) for rule in rules]
        self._cache: dict[tuple[object, ...], tuple[Identity, tuple[Grant, ...]]] = {}

    def __len__(self) -> int:
        return len(self._rules)

    def grants(self, identity: Identity) -> tuple[Grant, ...]:
        """Returns what a caller may do: the highest role per pattern, sorted by pattern; empty if no rule matches."""
        key = identity.way, identity.name, identity.issuer, identity.subject
        cached = self._cache.get(key)
        if cached is not None and cached[0] == identity:
            return cached[1]
        matching = self._matching(identity)
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()
        self._cache[key] = identity, matching
        return matching

    def _matching(self, identity: Identity) -> tuple[Grant, ...]:
        roles: dict[str, Role] = {}
        for tests, grants in self._rules:
            if all(test(identity) for test in tests):
                for namespace, role in grants.items():
                    if namespace not in roles or role.allows(roles[namespace]):
                        roles[namespace] = role
        return tuple(Grant(namespace, roles[namespace]) for namespace in sorted(roles))


# --- matching -------------------------------------------------------------------------------------------------------


def _tests(match: Match | str) -> Iterator[_Test]:
    """The conditions of a rule; none for everyone."""
    if isinstance(match, str):
        return
    compared: list[tuple[Texts | UnsetType, Callable[[Identity], Iterable[str]]]] = [
        (match.issuer, lambda who: (who.issuer,)),
        (match.subject, lambda who: (who.subject,)),
        (match.groups, lambda who: who.groups),
        (match.certificate, lambda who: who.certificate_names),
        (match.token, lambda who: (who.name,) if who.way is Way.TOKEN_FILE else ()),
    ]
    yield from (_any_match(patterns, values) for patterns, values in compared if patterns is not UNSET)
    if match.way is not UNSET:
        way = Way(match.way)
        yield lambda who: who.way is way
    if match.claims is not UNSET:
        claims = match.claims
        yield lambda who: _claim_matches(claims, who.claims)


def _any_match(patterns: Texts, values: Callable[[Identity], Iterable[str]]) -> _Test:
    """Whether one of the values matches one of the patterns; an empty text, for what a caller lacks, never does."""
    expected = {patterns} if isinstance(patterns, str) else set(patterns)
    starred = [pattern for pattern in expected if "*" in pattern]

    def test(identity: Identity) -> bool:
        present = [value for value in values(identity) if value]
        return not expected.isdisjoint(present) or any(
            matches_pattern(value, pattern) for value in present for pattern in starred
        )

    return test


def matches_pattern(text: str, pattern: str) -> bool:
    """Whether a text matches a pattern, in which `*` matches any text. Takes linear time, unlike a regex."""
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    *middle, last = others
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    start, end = len(first), len(text) - len(last)
    for part in middle:
        start = text.find(part, start, end)
        if start < 0:
            return False
        start += len(part)
    return True


def _claim_matches(expected: Any, claim: Json) -> bool:  # noqa: ANN401 - a condition of any kind
    if isinstance(expected, dict):
        return isinstance(claim, Mapping) and all(
            key in claim and _claim_matches(value, claim[key]) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return any(_claim_matches(value, claim) for value in expected)
    if isinstance(claim, list | tuple):
        return any(_claim_matches(expected, value) for value in claim if isinstance(value, _SCALARS))
    if isinstance(expected, str):
        return isinstance(claim, str) and matches_pattern(claim, expected)
    return isinstance(claim, bool) is isinstance(expected, bool) and expected == claim


def rules_schema() -> dict[str, Any]:
    """Returns the JSON schema of a rules file, for editors."""
    schema = msgspec.json.schema(RulesFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Access rules", **schema}


# --- reading --------------------------------------------------------------------------------------------------------


def parse_rules(data: bytes) -> Rules:
    """Parses a rules file. Raises RulesError if it is not YAML, or a rule is invalid."""
    document = _Document(data)
    if not isinstance(document.value, dict) or not isinstance(document.value.get("rules"), list):
        raise RulesError("line 1: it must hold a list named `rules`")
    if unknown := [key for key in document.value if key != "rules"]:
        raise RulesError(f"line {document.line((unknown[0],))}: there is no `{unknown[0]}`, only `rules`")
    tables = document.value["rules"]
    if not 0 < len(tables) <= MAX_RULES:
        raise RulesError(f"it holds {len(tables)} rules; 1 to {MAX_RULES} are allowed")
    mistakes: list[str] = []
    rules: list[Rule] = []
    for index, table in enumerate(tables):
        if wrong := list(_invalid_roles(table)):
            mistakes += [f"line {document.line(('rules', index, *path))}: {text}" for path, text in wrong]
            continue
        try:
            rule = msgspec.convert(table, Rule)
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at ")
            mistakes.append(f"line {document.line(('rules', index, *_steps(path)))}: {text}")
            continue
        mistakes += [f"line {document.line(('rules', index, *path))}: {text}" for path, text in _faults(rule)]
        rules.append(rule)
    if mistakes:
        raise RulesError(listed(mistakes, _MAX_LISTED, "; "))
    return Rules(rules)


def _invalid_roles(rule: object) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields values that are no roles; msgspec does not report their namespace."""
    grants = rule.get("grants") if isinstance(rule, dict) else None
    for namespace, role in grants.items() if isinstance(grants, dict) else ():
        if role not in _ROLES:
            yield ("grants", namespace), f"`{role}` is no role; there are {', '.join(_ROLES)}"


def _faults(rule: Rule) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields faults that the types of a rule cannot express."""
    if not rule.grants:
        yield ("grants",), "it grants nothing; name namespaces with a role, as `team-a: writer`"
    for namespace in rule.grants:
        if not _NAMESPACE.fullmatch(namespace):
            yield ("grants", namespace), f"`{namespace}` is not a namespace, or a pattern such as `team-*`"
    if isinstance(rule.match, str):
        return
    conditions = {name: value for name, value in msgspec.structs.asdict(rule.match).items() if value is not UNSET}
    if not conditions:
        yield ("match",), "it is empty; `match: everyone` is for every authenticated caller"
    for name, value in conditions.items():
        if value in ("", []) or (isinstance(value, list) and "" in value):
            yield ("match", name), f"`{name}` has an empty value; `*` is any"
    if "claims" in conditions:
        yield from _invalid_claims(conditions["claims"], ("match", "claims"))


def _invalid_claims(expected: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if not expected:
        yield path, "it names no claim"
    for name, value in expected.items():
        if isinstance(value, dict):
            yield from _invalid_claims(value, (*path, name))
        elif not value and value is not False and value != 0:
            yield (*path, name), f"the claim `{name}` has an empty value; `*` is any text"
        elif not all(isinstance(text, _SCALARS) for text in (value if isinstance(value, list) else [value])):
            yield (
                (*path, name),
                f"the claim `{name}` must be a text, a number, a boolean, a list of them, or claims within",
            )


def _steps(path: str) -> list[str | int]:
    """The steps of a path of msgspec (`$.match.groups[1]`, `$.grants[...]`)."""
    steps = re.findall(r"\.(\w+)|\[(\d+)\]", path)
    return [name or int(index) for name, index in steps]


class _Document:
    """A YAML document with the line of each value; without aliases, and without a key twice."""

    def __init__(self, data: bytes) -> None:
        self._lines: dict[tuple[str | int, ...], int] = {}
        self._seen: set[int] = set()
        try:
            self._loader = yaml.SafeLoader(data.decode("utf-8-sig"))
            node = self._loader.get_single_node()
            self.value = self._read(node, ()) if node is not None else None
        except UnicodeDecodeError:
            raise RulesError("it is not UTF-8 text") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise RulesError(f"line {mark.line + 1 if mark else 1}: {error.problem or error.context}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            if isinstance(error, RulesError):
                raise
            raise RulesError(f"it is not valid YAML: {str(error).splitlines()[0]}") from None

    def line(self, path: tuple[str | int, ...]) -> int:
        """Returns the line of a value, or of the innermost one around it that has one."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _read(self, node: yaml.Node, path: tuple[str | int, ...]) -> object:
        line = node.start_mark.line + 1
        if id(node) in self._seen:
            raise RulesError(
                f"line {line}: an anchor and its aliases (`&`, `*`) cannot be used; quote a text that begins so"
            )
        self._seen.add(id(node))
        self._lines.setdefault(path, line)
        if isinstance(node, yaml.SequenceNode):
            return [self._read(item, (*path, index)) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return self._loader.construct_object(node)
        mapping: dict[str, object] = {}
        for key, value in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise RulesError(f"line {at}: a key must be a text")
            name = str(key.value)
            if name in mapping:
                raise RulesError(f"line {at}: duplicate `{name}`")
            inside = (*path, name)
            self._lines[inside] = at
            mapping[name] = self._read(value, inside)
        return mapping

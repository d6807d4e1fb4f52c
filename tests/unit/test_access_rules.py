"""Access rules: which callers a rule matches, what rules grant together, and what is wrong with a file."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kfadapter_grpc.auth.access_rules import MAX_RULES, RulesError, matches_pattern, parse_rules, rules_schema
from kfadapter_grpc.contract.call import Caller, Grant, Role, role_in
from kfadapter_grpc.contract.errors import PermissionDeniedError
from kfadapter_grpc.contract.identity import Identity, Way

TOKEN = Identity("dashboard", Way.TOKEN_FILE)
HOLDER = Identity("trainer", Way.CERTIFICATE, certificate_names=("spiffe://cluster.local/ns/ml/sa/trainer", "trainer"))
REVIEWED = Identity(
    "system:serviceaccount:ml:trainer",
    Way.TOKEN_REVIEW,
    subject="system:serviceaccount:ml:trainer",
    groups=("system:serviceaccounts", "system:serviceaccounts:ml"),
)
PERSON = Identity(
    "김민지",
    Way.ISSUER,
    issuer="https://login.example.com",
    subject="김민지",
    groups=("team-a", "연구"),
    claims={
        "email": "minji@example.com",
        "email_verified": True,
        "level": 3,
        "aud": ["kfadapter", "other"],
        "kubernetes.io": {"namespace": "team-a", "serviceaccount": {"name": "pipeline-runner"}},
    },
)
IDENTITIES = {"token": TOKEN, "certificate": HOLDER, "review": REVIEWED, "person": PERSON}


def matched(match: object) -> list[str]:
    """Which of the identities a rule matches."""
    rules = parse_rules(json.dumps({"rules": [{"match": match, "grants": {"*": "reader"}}]}).encode())
    return [name for name, identity in IDENTITIES.items() if rules.grants(identity)]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("everyone", [*IDENTITIES]),
        ({"token": "dashboard"}, ["token"]),
        ({"token": "*"}, ["token"]),
        ({"token": "trainer"}, []),
        ({"certificate": "trainer"}, ["certificate"]),
        ({"certificate": "spiffe://cluster.local/ns/*/sa/trainer"}, ["certificate"]),
        ({"issuer": "https://login.example.com"}, ["person"]),
        ({"issuer": "*"}, ["person"]),
        ({"issuer": ["https://other", "https://login.*"]}, ["person"]),
        ({"subject": "system:serviceaccount:ml:*"}, ["review"]),
        ({"subject": "*"}, ["review", "person"]),
        ({"subject": "*", "way": "token-review"}, ["review"]),
        ({"groups": "연구"}, ["person"]),
        ({"groups": ["nobody", "system:serviceaccounts"]}, ["review"]),
        ({"groups": "연구", "issuer": "https://other"}, []),
        ({"way": "certificate"}, ["certificate"]),
        ({"claims": {"email": "*@example.com"}}, ["person"]),
        ({"claims": {"email": "*@example.com", "level": 4}}, []),
        ({"claims": {"email_verified": True}}, ["person"]),
        ({"claims": {"email_verified": 1}}, []),
        ({"claims": {"level": [2, 3]}}, ["person"]),
        ({"claims": {"level": "3"}}, []),
        ({"claims": {"aud": "kfadapter"}}, ["person"]),
        ({"claims": {"aud": ["nobody", "other"]}}, ["person"]),
        ({"claims": {"kubernetes.io": {"namespace": "team-a", "serviceaccount": {"name": "pipeline-*"}}}}, ["person"]),
        ({"claims": {"kubernetes.io": {"namespace": "team-b"}}}, []),
        ({"claims": {"kubernetes.io": "team-a"}}, []),
        ({"claims": {"missing": "*"}}, []),
        ({"claims": {"email": {"inside": "*"}}}, []),
    ],
)
def test_matching(match: object, expected: list[str]) -> None:
    """All conditions must hold; of a list one suffices; a missing value matches nothing, not even `*`."""
    assert matched(match) == expected


def test_rules_add_up() -> None:
    """Per pattern the highest role is granted, and per namespace the highest of the patterns."""
    rules = parse_rules(
        b"""
rules:
  - match: everyone
    grants: {"": reader, team-a: writer}
  - match: {groups: team-a}
    grants: {"team-*": reader, team-a: admin}
  - match: {groups: "\xec\x97\xb0\xea\xb5\xac"}
    grants: {team-a: reader, team-b: writer}
"""
    )
    grants = rules.grants(PERSON)
    assert grants == (
        Grant("", Role.READER),
        Grant("team-*", Role.READER),
        Grant("team-a", Role.ADMIN),
        Grant("team-b", Role.WRITER),
    )
    roles = {one: role_in(one, grants) for one in ("", "team-a", "team-b", "team-c", "other")}
    assert list(roles.values()) == [Role.READER, Role.ADMIN, Role.WRITER, Role.READER, None]
    assert rules.grants(TOKEN) == (Grant("", Role.READER), Grant("team-a", Role.WRITER))


def test_limits() -> None:
    """A caller with the same role everywhere has no limits; an unknown namespace is seen by a rule for all only."""
    everywhere, somewhere = Grant("*", Role.WRITER), Grant("team-a", Role.WRITER)
    assert Caller(TOKEN, (everywhere, somewhere)).limits(Role.READER) is None
    assert Caller(TOKEN, (everywhere, replace(somewhere, role=Role.ADMIN))).limits(Role.READER) is not None
    assert Caller(TOKEN).limits(Role.READER) is not None
    limits = Caller(TOKEN, (somewhere,)).limits(Role.WRITER)
    assert limits is not None
    assert [limits.can_see(one) for one in ("team-a", "team-b", "", None)] == [True, False, False, False]
    with pytest.raises(PermissionDeniedError, match="'dashboard' has no role in what is in no namespace"):
        limits.ensure("")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "line 1: it must hold a list named `rules`"),
        ("rules: {}", "line 1: it must hold a list named `rules`"),
        ("rules: []", "it holds 0 rules; 1 to 500 are allowed"),
        ("rules: [{match: everyone, grants: {a: reader}}]\nrole: x", "line 2: there is no `role`, only `rules`"),
        (
            "rules:\n- match: everyone\n  grants: {a: owner}",
            "line 3: `owner` is no role; there are reader, writer, admin",
        ),
        ("rules:\n- match: everyone\n  grants:\n    a: reader\n    a: writer", "line 5: duplicate `a`"),
        ("rules:\n- match: everyone\n  grants:\n    Team_A: reader", "line 4: `Team_A` is not a namespace"),
        ("rules:\n- match: everyone\n  grants:\n    a: reader\n    b:", "line 5: `None` is no role"),
        ("rules:\n- match: everyone\n  grants: {}", "line 3: it grants nothing"),
        ("rules:\n- match: everyone", "line 2: Object missing required field `grants`"),
        ("rules:\n- match: everybody\n  grants: {a: reader}", "line 2: Invalid enum value 'everybody'"),
        ("rules:\n- match: {}\n  grants: {a: reader}", "line 2: it is empty; `match: everyone`"),
        ("rules:\n- match:\n    groups:\n  grants: {a: reader}", "line 3: Expected `str | array`, got `null`"),
        ("rules:\n- match:\n    groups: []\n  grants: {a: reader}", "line 3: `groups` has an empty value"),
        ("rules:\n- match:\n    group: x\n  grants: {a: reader}", "line 2: Object contains unknown field `group`"),
        ("rules:\n- match:\n    claims:\n      a:\n  grants: {a: reader}", "line 4: the claim `a` has an empty value"),
        ("rules:\n- match:\n    claims: {a: [[x]]}\n  grants: {a: reader}", "line 3: the claim `a` must be a text"),
        ("rules:\n- match: everyone\n  grants: {*: reader}", "line 3: expected alphabetic or numeric character"),
        ("rules:\n- &a {match: everyone, grants: {a: reader}}\n- *a", "line 2: an anchor and its aliases"),
        ("rules: [", "line 1: expected the node content"),
        ("rules:\n- [1]: x", "line 2: a key must be a text"),
    ],
)
def test_mistakes(text: str, mistake: str) -> None:
    """The line and what is wrong."""
    with pytest.raises(RulesError) as caught:
        parse_rules(text.encode())
    assert str(caught.value).startswith(mistake)


def test_several_mistakes() -> None:
    """The first five are listed."""
    rules = "\n".join(f"- {{match: everyone, grants: {{A{index}: reader}}}}" for index in range(7))
    with pytest.raises(RulesError, match=r"line 2: .*line 6: .*; and 2 more"):
        parse_rules(f"rules:\n{rules}".encode())


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"rules: \x00", b"[" * 100_000])
def test_what_is_not_yaml(data: bytes) -> None:
    """Any bytes are a mistake of the file, and nothing else."""
    with pytest.raises(RulesError):
        parse_rules(data)


def test_patterns_take_linear_time() -> None:
    """A long value with many stars in its pattern, which a caller may choose, delays nothing."""
    began = time.perf_counter()
    assert not matches_pattern("a" * 16_000, "*a" * 50 + "*b")
    assert time.perf_counter() - began < 1
    cases = [("", "*"), ("ab", "a*b"), ("ab", "a**b"), ("a.b", "a.*"), ("axxbyyc", "a*b*c"), ("aa", "a*a")]
    assert all(matches_pattern(text, pattern) for text, pattern in cases)
    assert not any(
        matches_pattern(text, pattern) for text, pattern in [("a", "a*a"), ("ab", "b*"), ("abc", "a*bb*c"), ("A", "a")]
    )


def test_many_rules_are_fast() -> None:
    """As many rules as a file may hold cost a call less than a request to KFP does."""
    rule = {"match": {"issuer": "https://login.example.com", "groups": ["x", "y"]}, "grants": {"a": "reader"}}
    rules = parse_rules(json.dumps({"rules": [rule] * MAX_RULES}).encode())
    assert len(rules) == MAX_RULES
    began = time.perf_counter()
    assert not rules.grants(PERSON)
    assert not rules.grants(replace(PERSON, groups=("z",)))
    assert rules.grants(replace(PERSON, groups=("y",))) == (Grant("a", Role.READER),)
    assert time.perf_counter() - began < 0.1


def test_the_example_of_the_guide() -> None:
    """docs/security.md has a file that can be copied; the schema names all of its fields."""
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    example = text.partition("```yaml\n# yaml-language-server")[2].partition("```")[0]
    rules = parse_rules(f"# yaml-language-server{example}".encode())
    person = replace(PERSON, groups=("team-a",))
    assert rules.grants(person) == (Grant("", Role.READER), Grant("team-*", Role.READER), Grant("team-a", Role.WRITER))
    fields = rules_schema()["$defs"]["Match"]["properties"]
    assert {*fields} == {"issuer", "subject", "groups", "claims", "certificate", "token", "way"}

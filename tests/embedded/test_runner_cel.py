"""Conditions and selectors in CEL, compared with KFP's own code (see `tests/data/cel_expressions.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kfadapter_embedded.runner.condition import holds, picked
from kfadapter_embedded.runner.values import ValueFaultError

if TYPE_CHECKING:
    from kfadapter_embedded.json_text import JsonValue

_RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "cel_expressions.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(("condition", "decided"), _RECORDED["rows"])
def test_conditions(condition: str, decided: bool | str) -> None:
    """A condition is true, false, or an error, as in KFP's driver."""
    if isinstance(decided, bool):
        assert holds(condition, _RECORDED["parameters"]) is decided
    else:
        with pytest.raises(ValueFaultError):
            holds(condition, _RECORDED["parameters"])


OPERANDS: dict[str, JsonValue] = {
    "t": True,
    "f": False,
    "n": 3.0,
    "m": 9007199254740992.0,
    "s": "abc",
    "l": [1, 2],
    "o": {"a": 1},
}
# As cel-go 0.27 evaluates them in the driver's environment (`expression/expression.go:Condition`).
DECIDED = [
    ("v['l'].contains(1.0)", None),
    ("v['o'].contains('a')", None),
    ("v['s'].contains(v['n'])", None),
    ("v['s'].contains('b') && !v['s'].startsWith('b')", True),
    ("v['m'] >= 9007199254740993", True),
    ("9007199254740993 == v['m']", True),
    ("9007199254740993 == 9007199254740992", False),
    ("v['t'] / v['t'] > 0.5", None),
    ("v['s'] * v['t'] == v['n']", None),
    ("v['s'] % v['l'] < '12'", None),
    ("v['s'] + 'd' == 'abcd' && v['l'] + [3.0] == [1.0, 2.0, 3.0]", True),
    ("v['f'] && v['n']", False),
    ("v['n'] && v['f']", False),
    ("v['t'] && v['n']", None),
    ("v['t'] || v['nothing'] == 1", True),
    ("v['f'] || v['nothing'] == 1", None),
    ("v['l'] != uint(v['f'])", None),
    ("(!v['t']) == 0", None),
    ("(false ? v['t'] == v['t'] : v['s']) > '1'", True),
]


@pytest.mark.parametrize(("condition", "decided"), DECIDED)
def test_odd_operands(condition: str, decided: bool | None) -> None:
    """Operands of other types than an operator takes are errors (None), also where Python's operators take them."""
    text = condition.replace("v[", "inputs.parameter_values[")
    if decided is not None:
        assert holds(text, OPERANDS) is decided
    else:
        with pytest.raises(ValueFaultError):
            holds(text, OPERANDS)


REASONS = [
    ("inputs.parameter_values['missing'] == 1", "no such key: missing"),
    ("1 == '1'", r"found no matching overload for '_==_' applied to '\(int, string\)'"),
    ("inputs.parameters['n'].number_value == 5.0", "undefined field 'number_value'"),
    ("true || nope", "undeclared reference to 'nope'"),
    ("inputs.parameter_values['n'] < '6'", "no such overload"),
    ("int('x') == 7", "type conversion error from 'string' to 'int'"),
    ("'true'", "is not bool"),
    ("parseJson('x') == 1", "failed to unmarshal JSON"),
    ("inputs.parameter_values['n'] ==", "Syntax error"),
    ("inputs.parameter_values['s'] == 'a\nb'", "Syntax error"),
]


@pytest.mark.parametrize(("condition", "reason"), REASONS)
def test_reasons(condition: str, reason: str) -> None:
    """Errors have cel-go's message."""
    with pytest.raises(ValueFaultError, match=reason):
        holds(condition, _RECORDED["parameters"])


ROW: JsonValue = {"a": 1.0, "b": [1, {"c": "x"}], "it's": 2, "한": 3, "a.b": 4, "big": 1e22}
PICKED = [
    (ROW, 'parseJson(string_value)["a"]', 1),
    (ROW, 'parseJson(string_value)["b"][1]["c"]', "x"),
    (ROW, 'parseJson(string_value)["it\'s"]', 2),
    (ROW, "parseJson(string_value)['한']", 3),
    (ROW, 'parseJson(string_value)["a.b"]', 4),
    (ROW, "parseJson(string_value).b[0]", 1),
    (ROW, "struct_value.b[1]", {"c": "x"}),
    (ROW, 'parseJson(string_value)["big"]', 1e22),
    ([1, [2]], "list_value[1]", [2]),
    ('{"a": 5}', 'parseJson(string_value)["a"]', 5),
    ("text", "string_value + '!'", "text!"),
    (2, "number_value + 1.0", 3),
    (5, "parseJson(string_value)", 5),
    ("abc", "size(string_value)", 3),
]


@pytest.mark.parametrize(("value", "selector", "part"), PICKED)
def test_selectors(value: JsonValue, selector: str, part: JsonValue) -> None:
    """A selector returns a part of a value, of its fields or of its text (`expression.go:Select`)."""
    assert picked(value, selector) == part


@pytest.mark.parametrize(
    ("value", "selector"),
    [
        (ROW, 'parseJson(string_value)["zz"]'),
        (ROW, "string_value["),
        (ROW, "nope"),
        ([1], "parseJson(string_value)[1]"),
        ("x", 'parseJson(string_value)["a"]'),
        (5, 'parseJson(string_value)["a"]'),
        (5, "struct_value.a"),
    ],
)
def test_selectors_that_find_nothing(value: JsonValue, selector: str) -> None:
    """An invalid selector, or one without a match, is an error."""
    with pytest.raises(ValueFaultError, match="evaluation of parameter expression selector"):
        picked(value, selector)

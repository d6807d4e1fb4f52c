"""Values between tasks as KFP 2.17.0 handles them.

The expected values were computed by KFP's own functions at that tag (`metadata/converter.go`, protojson), or are
those of its driver in the corpus (`tests/data/corpus.tar.xz`).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kfadapter_embedded.execution import State
from kfadapter_embedded.json_text import protojson
from kfadapter_embedded.runner.command import words_of
from kfadapter_embedded.runner.inputs import given_inputs, iteration_inputs, root_inputs, with_defaults
from kfadapter_embedded.runner.outcome import Outcome
from kfadapter_embedded.runner.spec import Component, Container, Executor, Task
from kfadapter_embedded.runner.values import (
    ValueFaultError,
    Values,
    as_text,
    check_literals,
    converted,
    load_json,
    parsed,
)
from kfadapter_embedded.runner.warned import TaskWarnings

if TYPE_CHECKING:
    from kfadapter_embedded.json_text import JsonValue

# JSON as written by a task or the compiler, the same by protojson, and as a string (PbValueToText).
WRITTEN = [
    ("1.0", "1", "1"),
    ("-0.0", "-0", "-0"),
    ("1e-7", "1e-7", "0.0000001"),
    ("1e-6", "0.000001", "0.000001"),
    ("2e-05", "0.00002", "0.00002"),
    ("2.5", "2.5", "2.5"),
    ("1e22", "1e+22", "10000000000000000000000"),
    ("1000000000000000000000", "1e+21", "1000000000000000000000"),
    ("100000000000000000000", "100000000000000000000", "100000000000000000000"),
    ("9007199254740993", "9007199254740992", "9007199254740992"),
    ("1152921504606846976", "1152921504606847000", "1152921504606847000"),
    ("true", "true", "true"),
    ("null", "null", ""),
    ('"한 \\u2028 \\" <&>"', '"한 \u2028 \\" <&>"', '한 \u2028 " <&>'),
    ('[1.0, 1e-7, 1e21, -0.0, null, "a"]', '[1,1e-7,1e+21,-0,null,"a"]', '[1,1e-7,1e+21,-0,null,"a"]'),
    ('{"b": 1, "a": {}, "é": "<&>"}', '{"a":{},"b":1,"é":"<&>"}', '{"a":{},"b":1,"é":"\\u003c\\u0026\\u003e"}'),
    ('["1.50 2e-7"]', '["1.50 2e-7"]', '["1.50 2e-7"]'),
]


@pytest.mark.parametrize(("written", "json_text", "text"), WRITTEN)
def test_forms(written: str, json_text: str, text: str) -> None:
    """Numbers are doubles, JSON is compact with sorted keys, and strings are formatted as by Go."""
    value = load_json(written)
    assert (protojson(value), as_text(value)) == (json_text, text)


PARSED = [
    (" 7\n", "NUMBER_INTEGER", 7),
    ("+7", "NUMBER_INTEGER", 7),
    ("9007199254740993", "NUMBER_INTEGER", 9007199254740992),
    ("0" * 5000 + "1", "NUMBER_INTEGER", 1),
    ("1_000.5", "NUMBER_DOUBLE", 1000.5),
    ("0x_1p-2", "NUMBER_DOUBLE", 0.25),
    ("\u3000.5\x85", "NUMBER_DOUBLE", 0.5),
    ("5.", "NUMBER_DOUBLE", 5),
    ("1e-400", "NUMBER_DOUBLE", 0),
    ("-Infinity", "NUMBER_DOUBLE", -math.inf),
    *((text, "BOOLEAN", True) for text in ("1", "t", "T", "TRUE", "true", "True", " True\n")),
    *((text, "BOOLEAN", False) for text in ("0", "f", "F", "FALSE", "false", "False")),
    (" [1, 2.0, null] ", "LIST", [1, 2, None]),
    ('{"a": 1.0}', "STRUCT", {"a": 1}),
    (" x\n", "STRING", " x\n"),
]


@pytest.mark.parametrize(("text", "kind", "expected"), PARSED)
def test_written_outputs(text: str, kind: str, expected: object) -> None:
    """An output text that a component wrote is parsed as by KFP's launcher (TextToPbValue)."""
    value = parsed(text, kind)
    assert (value, type(value)) == (expected, type(expected))


def _failure(text: str, kind: str, reason: str) -> str:
    return f'TextToPbValue(text={json.dumps(text)}, type="{kind}") failed: {reason}'


UNREADABLE = [
    ("7.0", "NUMBER_INTEGER", 'strconv.ParseInt: parsing "7.0": invalid syntax'),
    ("1e3", "NUMBER_INTEGER", 'strconv.ParseInt: parsing "1e3": invalid syntax'),
    ("0x10", "NUMBER_INTEGER", 'strconv.ParseInt: parsing "0x10": invalid syntax'),
    ("1_000", "NUMBER_INTEGER", 'strconv.ParseInt: parsing "1_000": invalid syntax'),
    ("", "NUMBER_INTEGER", 'strconv.ParseInt: parsing "": invalid syntax'),
    ("9223372036854775808", "NUMBER_INTEGER", 'strconv.ParseInt: parsing "9223372036854775808": value out of range'),
    ("1e400", "NUMBER_DOUBLE", 'strconv.ParseFloat: parsing "1e400": value out of range'),
    ("1_e5", "NUMBER_DOUBLE", 'strconv.ParseFloat: parsing "1_e5": invalid syntax'),
    ("0x1", "NUMBER_DOUBLE", 'strconv.ParseFloat: parsing "0x1": invalid syntax'),
    ("yes", "BOOLEAN", 'strconv.ParseBool: parsing "yes": invalid syntax'),
    ("null", "LIST", "unexpected type"),
    ("[]", "STRUCT", "unexpected type"),
]


@pytest.mark.parametrize(("text", "kind", "reason"), UNREADABLE)
def test_unreadable_outputs(text: str, kind: str, reason: str) -> None:
    """Outputs that KFP's launcher cannot parse fail with its message."""
    with pytest.raises(ValueFaultError) as raised:
        parsed(text, kind)
    assert str(raised.value) == _failure(text, kind, reason)


@pytest.mark.parametrize("text", ["[NaN]", "[1e400]", "[1, 2", "{'a': 1}", "", '[{"a": 1, "\\u0061": 2}]'])
def test_outputs_that_are_no_json(text: str) -> None:
    """A list or struct that is not valid JSON for Go fails."""
    with pytest.raises(ValueFaultError, match=r"^TextToPbValue\(text="):
        parsed(text, "LIST")


TYPES = {
    "STRING": '"7"',
    "NUMBER_INTEGER": "7",
    "NUMBER_DOUBLE": "1.5",
    "BOOLEAN": "true",
    "LIST": '[1,"a"]',
    "STRUCT": '{"a":1}',
}
GOT = {
    "STRING": "string",
    "NUMBER_INTEGER": "number",
    "NUMBER_DOUBLE": "number",
    "BOOLEAN": "bool",
    "LIST": "list",
    "STRUCT": "struct",
}


@pytest.mark.parametrize("declared", TYPES)
@pytest.mark.parametrize("given", TYPES)
def test_declared_types(given: str, declared: str) -> None:
    """KFP's driver converts to strings only; integers and doubles are one type (corpus: handmade_conversions)."""
    value = load_json(TYPES[given])
    if declared == "STRING":
        assert converted(value, declared, "x") == TYPES[given].strip('"')
    elif GOT[given] == GOT[declared]:
        assert converted(value, declared, "x") == value
    else:
        with pytest.raises(
            ValueFaultError, match=f'^input parameter "x" type mismatch: expect {declared}, got {GOT[given]}$'
        ):
            converted(value, declared, "x")


def test_nulls() -> None:
    """A null is an empty string, and fails for other types (corpus: handmade_constants)."""
    assert converted(None, "STRING", "x") == ""
    with pytest.raises(ValueFaultError, match=r'^got null for input parameter "x"$'):
        converted(None, "NUMBER_INTEGER", "x")


def test_nan_fails_who_takes_it() -> None:
    """NaN and infinity are valid outputs, and invalid inputs."""
    with pytest.raises(ValueFaultError, match="invalid -Inf value"):
        converted(-math.inf, "NUMBER_DOUBLE", "x")


def test_literals() -> None:
    """A value must be one of the literals, of the same type (`util.ValidateLiteralParameter`)."""
    check_literals(2, (1, 2), "n")
    check_literals("x", (), "n")
    for value, literals in ((True, (1, 2)), ("3", (3,)), (None, ("a",))):
        with pytest.raises(ValueFaultError, match=r'^input parameter "n" value .* does not match any of the allowed'):
            check_literals(value, literals, "n")


def _placeholder(name: str) -> str:
    return f"{{{{$.inputs.parameters['{name}']}}}}"


NAMES = {"pipeline_job_name": "the run", "workspace_path": "/w"}


def _component(*, group: bool = False, **parameters: dict[str, Any]) -> Component:
    definitions = {"parameters": {name: {"parameterType": "STRING", **one} for name, one in parameters.items()}}
    component = msgspec.convert({"inputDefinitions": definitions, **({"dag": {}} if group else {})}, Component)
    if not group:
        component.executor = msgspec.convert({"container": {"image": "python"}}, Executor)
    return component


def _given(
    sources: dict[str, Any],
    component: Component,
    parent: dict[str, JsonValue] | None = None,
    outputs: dict[str, JsonValue] | None = None,
    loop: dict[str, Any] | None = None,
    *,
    strict: bool = False,
) -> tuple[dict[str, JsonValue], tuple[str, ...]]:
    """The parameters of a task, and the names of its warnings."""
    task = msgspec.convert({"inputs": {"parameters": sources}, "parameterIterator": loop}, Task)
    done = {"maker": Outcome(State.SUCCEEDED, values=Values(outputs or {}))}
    warnings = TaskWarnings(strict=strict)
    values = given_inputs(
        "key", task, component, Values(parent or {}), done=done, path="", names=NAMES, warnings=warnings
    )
    return dict(values.parameters), tuple(text.rpartition("(")[2].rstrip(")") for text in warnings.texts)


def _constant(value: object) -> dict[str, object]:
    return {"runtimeValue": {"constant": value}}


def _output(key: str = "o") -> dict[str, object]:
    return {"taskOutputParameter": {"producerTask": "maker", "outputParameterKey": key}}


def test_inputs_of_groups_are_texts_too() -> None:
    """A number for a group's input that is declared STRING is a string when its condition is evaluated."""
    assert _given({"x": _output()}, _component(group=True, x={}), outputs={"o": 2}) == ({"x": "2"}, ())


def test_null_parameters() -> None:
    """An optional input of a command that gets a null is omitted; a required one fails."""
    source = {"x": {"componentInputParameter": "p"}}
    assert _given(source, _component(x={"isOptional": True, "defaultValue": "d"}), {"p": None}) == ({}, ())
    with pytest.raises(ValueFaultError, match="the resolved input parameter is null: p"):
        _given(source, _component(x={}), {"p": None})
    with pytest.raises(ValueFaultError, match="parent DAG does not have input parameter p"):
        _given(source, _component(x={}))


def test_optional_inputs_of_groups() -> None:
    """A group's optional input that is omitted has its default, or is null; it is no string then."""
    component = _component(group=True, x={"isOptional": True}, y={"isOptional": True, "defaultValue": 1})
    assert _given({}, component) == ({"x": None, "y": "1"}, ())


def test_null_passed_on_into_a_group() -> None:
    """A null passed into a group is replaced by its default here, with a warning if a task inside takes it."""
    component = _component(group=True, x={"isOptional": True, "defaultValue": "d"})
    source = {"x": {"componentInputParameter": "p"}}
    assert _given(source, component, {"p": None}) == ({"x": "d"}, ())
    inside = {"tasks": {"t": {"inputs": {"parameters": {"z": {"componentInputParameter": "x"}}}}}}
    component.dag = msgspec.convert({"dag": inside}, Component).dag
    assert _given(source, component, {"p": None}) == ({"x": "d"}, ("optional-into-pipeline",))
    with pytest.raises(ValueFaultError, match="optional-into-pipeline"):
        _given(source, component, {"p": None}, strict=True)


def test_outputs_that_are_not_there() -> None:
    """A missing output of an earlier task is an empty string, and fails for other types (corpus: loops_outputs)."""
    assert _given({"x": _output("no")}, _component(x={}))[0] == {"x": ""}
    with pytest.raises(ValueFaultError, match="got null"):
        _given({"x": _output("no")}, _component(x={"parameterType": "NUMBER_INTEGER"}))
    with pytest.raises(ValueFaultError, match="none of the oneof fields is set"):
        _given({"x": _text_of("c"), "c": _output("no")}, _component(x={}))


def test_missing_inputs() -> None:
    """A required input without a source fails unless the component has a default, which is then not used."""
    with pytest.raises(
        ValueFaultError, match='neither value nor default value provided for non-optional parameter "x"'
    ):
        _given({}, _component(x={}))
    assert _given({}, _component(x={"defaultValue": "d"})) == ({"x": ""}, ())


def _text_of(name: str) -> dict[str, object]:
    return _constant(f"<{_placeholder(name)}>")


BREAKING = ["a 'b' \"c\"", "a\\b", "a\nb", ["x"], {"a": 1}]


@pytest.mark.parametrize("value", BREAKING)
def test_texts_that_break_json_are_warned_of(value: JsonValue) -> None:
    """Values that KFP's launcher puts unescaped into JSON make the intended text, with a warning."""
    given, warned = _given({"x": _text_of("c"), "c": _output()}, _component(x={}), outputs={"o": value})
    assert (given["x"], warned) == (f"<{as_text(value)}>", ("raw-json-in-text",))


@pytest.mark.parametrize("value", ["한 'x'", 1e-7, True, [1, 2], ""])
def test_texts_that_are_sound(value: JsonValue) -> None:
    """Other values are inserted into texts without a warning."""
    given, warned = _given({"x": _text_of("c"), "c": _output()}, _component(x={}), outputs={"o": value})
    assert (given["x"], warned) == (f"<{as_text(value)}>", ())


def test_values_that_look_like_placeholders_are_kept() -> None:
    """A value with a placeholder of an input is kept, with a warning; with an unknown input it is no placeholder."""
    value = "{{$.inputs.parameters['x']}}"
    assert _given({"x": _output()}, _component(x={}), outputs={"o": value}) == ({"x": value}, ("placeholder-in-value",))
    other = value.replace("x", "other")
    assert _given({"x": _output()}, _component(x={}), outputs={"o": other}) == ({"x": other}, ())
    # A constant with its own placeholder contains itself once (corpus: texts_placeholders).
    assert _given({"x": _constant(f"a {value} b")}, _component(x={}))[0] == {"x": f"a a {value} b b"}


def test_texts_for_groups_are_warned_of() -> None:
    """A text for a nested pipeline is resolved here; KFP leaves its placeholders."""
    given, warned = _given({"x": _text_of("c"), "c": _output()}, _component(group=True, x={}), outputs={"o": 1})
    assert (given["x"], warned) == ("<1>", ("text-into-pipeline",))


def test_templates_of_argo_are_warned_of() -> None:
    """`CreateRun` of 2.17.0 answers "failed to resolve {{ item.name }}", but takes `{{ name }}` and `{{$.x}}`."""
    for text in ("{{ item.name }}", "a {{inputs.x}}", "{{workflow.name}}"):
        assert _given({"x": _constant(text)}, _component(x={})) == ({"x": text}, ("argo-template",))
    for text in ("{{ name }}", "{{$.inputs.x}}", "{{user.name}}"):
        assert _given({"x": _constant(text)}, _component(x={})) == ({"x": text}, ())


def test_four_bytes_are_warned_of() -> None:
    """4-byte characters are accepted, with a warning: in constants, parameters of the run, outputs and code."""
    assert _given({"x": _constant("😀")}, _component(x={})) == ({"x": "😀"}, ("four-byte-character",))
    output = _given({"x": _output()}, _component(x={}), outputs={"o": "😀"})
    assert output == ({"x": "😀"}, ("four-byte-character-in-output",))
    assert _given({"x": {"componentInputParameter": "p"}}, _component(x={}), {"p": "😀"}) == ({"x": "😀"}, ())
    component = _component()
    component.executor = msgspec.convert({"container": {"command": ["print('😀')"]}}, Executor)
    assert _given({}, component) == ({}, ("four-byte-character",))
    warnings = TaskWarnings()
    assert root_inputs(_component(p={}), {"p": "😀"}, warnings).parameters == {"p": "😀"}
    assert len(warnings.texts) == 1


LOOP = {"items": {"inputParameter": "xs"}, "itemInput": "item"}


def test_items_are_texts_if_they_are_declared_so() -> None:
    """A loop's item is converted in each iteration; null is an empty string (corpus: handmade_loop_parameters)."""
    component = _component(group=True, xs={"parameterType": "LIST"}, item={})
    assert _given({"xs": _output()}, component, outputs={"o": [1]}, loop=LOOP) == ({"xs": [1]}, ())
    task = msgspec.convert({"parameterIterator": LOOP}, Task)
    items: tuple[JsonValue, ...] = (1, None, {"k": 1})
    texts = [iteration_inputs(task, component, Values({"item": item})).parameters["item"] for item in items]
    assert texts == ["1", "", '{"k":1}']
    number = _component(n={"parameterType": "NUMBER_INTEGER"})
    assert _given({"n": {"componentInputParameter": "i"}}, number, {"i": texts[0]}) == ({"n": 1}, ("item-of-any-list",))
    with pytest.raises(ValueFaultError, match="type mismatch: expect LIST, got string"):
        _given({"xs": _output()}, component, outputs={"o": "[1]"}, loop=LOOP)


def test_loops_that_fail_on_a_cluster_are_warned_of() -> None:
    """A loop over a field, or whose list is used inside it, runs here with a warning, unless it is empty."""
    component = _component(group=True, xs={"parameterType": "LIST"}, item={})
    field = {"componentInputParameter": "row", "parameterExpressionSelector": 'parseJson(string_value)["a"]'}
    given = _given({"xs": field}, component, {"row": {"a": [1]}}, loop=LOOP)
    assert given == ({"xs": [1]}, ("loop-over-item-field",))
    assert _given({"xs": field}, component, {"row": {"a": []}}, loop=LOOP) == ({"xs": []}, ())
    inside = {"tasks": {"t": {"inputs": {"parameters": {"z": {"componentInputParameter": "xs"}}}}}}
    component.dag = msgspec.convert({"dag": inside}, Component).dag
    assert _given({"xs": _output()}, component, outputs={"o": [1]}, loop=LOOP)[1] == ("looped-list-inside",)


def test_null_fields_are_warned_of() -> None:
    """A field that is null is an empty string, with a warning; the driver of KFP 2.17 fails."""
    field = {"componentInputParameter": "row", "parameterExpressionSelector": 'parseJson(string_value)["a"]'}
    assert _given({"x": field}, _component(x={}), {"row": {"a": None}}) == ({"x": ""}, ("null-field",))


def test_defaults_of_commands() -> None:
    """The launcher adds a command's defaults unchanged, after the driver's checks (`addDefaultParams`)."""
    component = _component(x={"isOptional": True, "defaultValue": 1}, y={"isOptional": True})
    assert with_defaults(component, Values(), "t").parameters == {"x": 1}
    assert with_defaults(component, Values({"x": "a"}), "t").parameters == {"x": "a"}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (-float(2**63), "-9223372036854775808"),
        (float(2**63), "9.223372036854776e+18"),
        (1234567.5, "1.2345675e+06"),
        (123456.5, "123456.5"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
    ],
)
def test_numbers_in_commands(number: float, text: str) -> None:
    """The driver formats an int64 with Go's `%d`, other numbers with `%g` (`driver/util.go:pbValueToString`)."""
    command = Container(command=("{{$.inputs.parameters['n']}}",))
    assert words_of(command, Values({"n": number}), {}, "") == (text,)


def test_parameters_of_runs() -> None:
    """A run has its values, defaults, and null for optional ones (`compiler/argocompiler/argo.go:Compile`)."""
    root = _component(a={}, b={"defaultValue": 1, "isOptional": True}, c={"isOptional": True})
    assert root_inputs(root, {"a": "x"}, TaskWarnings()).parameters == {"a": "x", "b": 1, "c": None}
    with pytest.raises(ValueFaultError, match="'a' has no value"):
        root_inputs(root, {}, TaskWarnings())

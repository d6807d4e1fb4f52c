"""Conditions in words, of KFP v2 and of Argo."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfadapter_grpc.kfp.spec import argo_expression as expression
from kfadapter_grpc.kfp.spec.v2_condition import describe_condition
from kfadapter_grpc.kfp.spec.values import Source, item_of, no_sources

X = "inputs.parameter_values['pipelinechannel--x']"
Y = 'inputs.parameter_values["y"]'
NAMES = {"pipelinechannel--x": "flip.Output", "y": "item of words"}


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (f"{X} == 'heads'", "flip.Output == 'heads'"),
        (f"int({X}) > 3", "flip.Output > 3"),
        (f"double(int({X})) >= -3.5e2", "flip.Output >= -3.5e2"),
        (f"'1' != {X}", "'1' != flip.Output"),
        (f"{X} == true", "flip.Output == true"),
        (f"{X}", "flip.Output"),
        (f"!{X}", "not flip.Output"),
        (f"!!{X}", "not not flip.Output"),
        (f"!{X} == false", "(not flip.Output) == false"),
        (f"!({X} == 'a') && {Y} == 'b'", "not (flip.Output == 'a') and item of words == 'b'"),
        (f"!({X} == 'a' || {Y} == 'b')", "not (flip.Output == 'a' or item of words == 'b')"),
        (f"({X} < 1 || {X} > 2) && {Y} <= 3", "(flip.Output < 1 or flip.Output > 2) and item of words <= 3"),
        (f"{X}=='한글 && \\'quoted\\''", "flip.Output == '한글 && \\'quoted\\''"),
        ("inputs.parameters['y'].string_value == 'b'", "item of words == 'b'"),
        ("inputs.parameters['y'].int_value > 1", "item of words > 1"),
    ],
)
def test_conditions_of_v2(condition: str, words: str) -> None:
    """CEL, as written by KFP's compiler, is shown in words: names resolved, casts removed."""
    assert describe_condition(condition, NAMES.get) == words


@pytest.mark.parametrize(
    "condition",
    [
        "inputs.parameter_values['unknown'] == 1",
        f"{X} == 'it's'",
        f"{X} in ['a']",
        f"size({X}) > 1",
        f"{X} ==",
        f"{X} == 1 == 2",
        f"({X}",
        f"{X})",
        f"{X} &&",
        "&&",
        "",
        "(" * 1000 + X + ")" * 1000,
        "!" * 1000 + X,
    ],
)
def test_conditions_that_are_not_understood(condition: str) -> None:
    """An expression that the compiler does not write, or that refers to nothing, is reported as unknown."""
    assert describe_condition(condition, NAMES.get) is None


@given(st.text("!()<>=&|'\" xinputs.parameter_values[]{}0123ab한", max_size=40))
def test_any_condition(condition: str) -> None:
    """No condition makes either reader fail."""
    reported = describe_condition(condition, NAMES.get)
    assert reported is None or isinstance(reported, str)
    assert isinstance(expression.describe_condition(condition, no_sources)[0], str)
    assert isinstance(expression.describe_depends(condition), str)


def _sources(name: str) -> Source | None:
    return {"given": Source("train.loss"), "item": item_of("words", "loop")}.get(name)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("{{tasks.flip.outputs.parameters.x}} == heads", "flip.x == heads"),
        ('"{{steps.flip.outputs.result}}" == "heads"', 'flip.result == "heads"'),
        ("'{{ tasks.flip.status }}' != 'Failed'", "flip.status != 'Failed'"),
        ("{{inputs.parameters.given}} > 1 && {{inputs.parameters.own}} < 2", "train.loss > 1 and own < 2"),
        ("!({{workflow.parameters.a-b}} == 1)||{{workflow.status}} == x", "not (a-b == 1) or workflow.status == x"),
        ("{{item}} == 1", "item of words == 1"),
        ("{{item.name}} == 'a && b'", "item.name of words == 'a && b'"),
        ("'v{{item}}' == 'v1'", "'vitem of words' == 'v1'"),
        ("true", "true"),
    ],
)
def test_conditions_of_argo(when: str, words: str) -> None:
    """Argo's conditions are shown in words: expressions in braces are resolved, quotes around them removed."""
    assert expression.describe_condition(when, _sources) == (words, True)


@pytest.mark.parametrize("when", ["{{=item > 1}}", "{{retries}} == 1", "{{unclosed == 1", "{{{{x}}}} == 1"])
def test_conditions_of_argo_that_are_not_understood(when: str) -> None:
    """Unknown expressions in braces are shown unchanged."""
    assert expression.describe_condition(when, _sources) == (when, False)


@pytest.mark.parametrize(
    ("depends", "names", "words"),
    [
        ("a", ["a"], ""),
        ("a && b.Succeeded", ["a", "b"], ""),
        ("a || b", ["a", "b"], "a or b"),
        ("(a.Succeeded || a.Skipped) && !b.Failed", ["a", "a", "b"], "(a.Succeeded or a.Skipped) and not b.Failed"),
        ("each.AnySucceeded", ["each"], "each.AnySucceeded"),
    ],
)
def test_depends(depends: str, names: list[str], words: str) -> None:
    """A `depends` has the names of tasks, and is shown in words if it requires more than the success of all."""
    assert expression.names_in_depends(depends) == names
    assert expression.describe_depends(depends) == words


def test_long_blanks() -> None:
    """A condition of many blanks is read in linear time."""
    blanks = " " * 60_000
    assert describe_condition(f"{blanks}true{blanks}", NAMES.get) == "true"
    assert expression.describe_condition(f"1{blanks}== 1", no_sources)[1]
    assert expression.describe_depends(f"a{blanks}|| b").endswith("or b")

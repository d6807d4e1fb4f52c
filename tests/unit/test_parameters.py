"""Parameters of a run are checked against the pipeline's declaration, all at once."""

from __future__ import annotations

import math

import pytest

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.parameters import MAX_VIOLATIONS, check_parameters
from kfadapter_grpc.contract.spec import Json, Parameter, ParameterType

_T = ParameterType


def _one(kind: ParameterType, *, has_default: bool = False, optional: bool = False) -> Parameter:
    return Parameter("p", kind, kind.value, has_default=has_default, optional=optional)


@pytest.mark.parametrize(
    ("kind", "given", "sent"),
    [
        (_T.NUMBER_INTEGER, 7.0, 7),
        (_T.NUMBER_INTEGER, -7, -7),
        (_T.NUMBER_INTEGER, 2.0**53 - 1, 2**53 - 1),
        (_T.NUMBER_DOUBLE, 0.5, 0.5),
        (_T.NUMBER_DOUBLE, 3.0, 3),
        (_T.STRING, "서울", "서울"),
        (_T.STRING, "", ""),
        (_T.BOOLEAN, False, False),
        (_T.LIST, [1.0, [2.0, "x"], {"k": 3.0}], [1, [2, "x"], {"k": 3}]),
        (_T.LIST, [], []),
        (_T.STRUCT, {"a": {"b": [1.0, 1.5, True, None]}}, {"a": {"b": [1, 1.5, True, None]}}),
        (_T.UNKNOWN, "anything", "anything"),
    ],
)
def test_a_value_of_the_declared_type_is_accepted(kind: ParameterType, given: Json, sent: Json) -> None:
    """Whole numbers are ints for KFP, also inside lists and objects, as a Struct only has 7.0."""
    result = check_parameters([_one(kind)], {"p": given})["p"]
    assert repr(result) == repr(sent)


@pytest.mark.parametrize(
    ("literals", "given", "says"),
    [
        (("빨강", "green"), "blue", 'is the string \'blue\'; the pipeline allows only "빨강", "green"'),
        (tuple(map(str, range(30))), "x" * 99, 'only "0", .* "9" and 20 more'),
        (("y" * 99,), "x", 'only "y+…'),
    ],
)
def test_only_the_allowed_values_are_accepted(literals: tuple[str, ...], given: str, says: str) -> None:
    """If the pipeline lists the allowed values of a parameter, another one is rejected, with some of these."""
    declared = [Parameter("p", _T.STRING, literals=literals)]
    assert check_parameters(declared, {"p": literals[0]}) == {"p": literals[0]}
    with pytest.raises(errors.ParameterTypeError, match=says) as caught:
        check_parameters(declared, {"p": given})
    assert [one.field for one in caught.value.violations] == ["parameters.p"]


def test_allowed_numbers_are_accepted_in_any_form() -> None:
    """A Struct only has 1.0, which is accepted as 1."""
    assert check_parameters([Parameter("p", _T.NUMBER_INTEGER, literals=(1, 2))], {"p": 2.0}) == {"p": 2}


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        (_T.NUMBER_INTEGER, 7.5, "the number 7.5; the pipeline declares an integer"),
        (_T.NUMBER_INTEGER, "7", "the string '7'"),
        (_T.NUMBER_INTEGER, True, "the boolean true"),
        (_T.NUMBER_INTEGER, math.inf, "inf"),
        (_T.NUMBER_INTEGER, float(2**53 + 1), r"2\^53 - 1"),
        (_T.NUMBER_DOUBLE, False, "a number"),
        (_T.NUMBER_DOUBLE, math.nan, "JSON"),
        (_T.STRING, 7.0, "the number 7; the pipeline declares a string"),
        (_T.STRING, None, "null"),
        (_T.BOOLEAN, 1.0, "true or false"),
        (_T.BOOLEAN, "true", "true or false"),
        (_T.LIST, {}, "an object; the pipeline declares a list"),
        (_T.LIST, [[math.inf]], "JSON"),
        (_T.STRUCT, [], "a list; the pipeline declares an object"),
        (_T.STRUCT, {"a": {"b": math.nan}}, "JSON"),
        (_T.TASK_FINAL_STATUS, {}, "set by Kubeflow Pipelines itself"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: ParameterType, given: Json, says: str) -> None:
    """A value of another type is PARAMETER_TYPE, and the text has the given and the expected type."""
    with pytest.raises(errors.ParameterTypeError, match=says) as caught:
        check_parameters([_one(kind)], {"p": given})
    assert [violation.field for violation in caught.value.violations] == ["parameters.p"]


@pytest.mark.parametrize(
    "left_out",
    [_one(_T.STRING, has_default=True), _one(_T.STRING, optional=True), _one(_T.TASK_FINAL_STATUS)],
)
def test_what_may_be_left_out(left_out: Parameter) -> None:
    """A default, an optional parameter and the status that KFP sets itself need no value."""
    assert check_parameters([left_out], {}) == {}


def test_all_violations_are_reported_at_once() -> None:
    """One error has a violation for each invalid parameter, whatever the mistake."""
    declared = [Parameter("recipient", _T.STRING), Parameter("times", _T.NUMBER_INTEGER), Parameter("seed", _T.STRING)]
    with pytest.raises(errors.ParameterUnknownError) as caught:
        check_parameters(declared, {"recipent": "x", "times": "three"})
    reported = {violation.field: violation.description for violation in caught.value.violations}
    assert set(reported) == {"parameters.recipent", "parameters.times", "parameters.recipient", "parameters.seed"}
    assert "did you mean 'recipient'?" in reported["parameters.recipent"]
    assert caught.value.metadata == {"parameters": "recipent, times, recipient, seed"}


def test_missing_alone_is_missing() -> None:
    """PARAMETER_MISSING is only returned if nothing else is wrong."""
    with pytest.raises(
        errors.ParameterMissingError, match=r"parameters\.p: has no value and no default; set it to a str"
    ):
        check_parameters([_one(_T.STRING)], {})


def test_an_unknown_name_with_nothing_like_it() -> None:
    """The text lists the declared parameters, or reports that there are none."""
    with pytest.raises(errors.ParameterUnknownError, match=r"it has p$"):
        check_parameters([_one(_T.STRING, has_default=True)], {"나": 1.0})
    with pytest.raises(errors.ParameterUnknownError, match="declares no parameters"):
        check_parameters([], {"x": 1.0})


def test_what_is_not_known_to_be_all_is_left_to_kfp() -> None:
    """If the declaration may be incomplete, other names are passed on unchanged."""
    assert check_parameters([_one(_T.STRING, optional=True)], {"x": [1.0]}, complete=False) == {"x": [1]}


def test_very_many_wrong_parameters() -> None:
    """The number of violations is limited, so that the error stays readable."""
    with pytest.raises(errors.ParameterUnknownError) as caught:
        check_parameters([], {f"p{number}": 1.0 for number in range(10_000)})
    assert len(caught.value.violations) == MAX_VIOLATIONS

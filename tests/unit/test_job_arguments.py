from __future__ import annotations

import pytest

from kfadapter_grpc.contract.spec import Json, Parameter, ParameterType
from kfadapter_oran.jobs import ArgumentProfile, run_arguments

GIVEN: dict[str, Json] = {
    "epochs": "10",
    "trainingjob_id": "7",
    "featuregroup_name": "기지국",
    "modelName": "모델",
    "modelVersion": "1",
    "modellocation": "",
}


def declared(**types: str) -> list[Parameter]:
    """Makes declarations, each of a name and a type."""
    return [Parameter(name, ParameterType(kind)) for name, kind in types.items()]


def test_as_given_nothing_is_renamed_or_left_out() -> None:
    """Arguments keep their names; strings become values of the declared types, undeclared arguments stay unchanged."""
    arguments = run_arguments(GIVEN, declared(epochs="NUMBER_INTEGER", featurepath="STRING"))
    assert arguments.values == {**GIVEN, "epochs": 10}
    assert arguments.omitted == ()


@pytest.mark.parametrize("value", ["x", "1.5", ""])
def test_what_is_not_of_the_type_stays_a_text(value: str) -> None:
    """A string that is not a value of the declared type is left to the adapter, which reports it."""
    assert run_arguments({"epochs": value}, declared(epochs="NUMBER_INTEGER")).values == {"epochs": value}


def test_other_values_are_unchanged() -> None:
    """A value that is not a string is unchanged."""
    assert run_arguments({"epochs": 3}, declared(epochs="STRING")).values == {"epochs": 3}


def test_flask_adapter_names() -> None:
    """With the profile, arguments get the Flask adapter's names; undeclared ones are reported as left out."""
    names = declared(epochs="NUMBER_INTEGER", featurepath="STRING", modelname="STRING", modelversion="STRING")
    arguments = run_arguments(GIVEN, names, ArgumentProfile.FLASK_ADAPTER)
    assert arguments.values == {"epochs": 10, "featurepath": "기지국_7", "modelname": "모델", "modelversion": "1"}
    assert arguments.omitted == (
        "featuregroup_name",
        "modelName",
        "modelVersion",
        "modellocation",
        "trainingjob_id",
    )


def test_renaming_only_where_declared() -> None:
    """A pipeline that declares the training manager's own names gets only those."""
    arguments = run_arguments(GIVEN, declared(modelName="STRING"), ArgumentProfile.FLASK_ADAPTER)
    assert arguments.values == {"modelName": "모델"}


def test_a_value_of_the_old_name_wins() -> None:
    """A value that the training manager sends under the old name is not replaced."""
    given: dict[str, Json] = {**GIVEN, "modelname": "다른 모델"}
    arguments = run_arguments(given, declared(modelname="STRING"), ArgumentProfile.FLASK_ADAPTER)
    assert arguments.values == {"modelname": "다른 모델"}


def test_half_a_feature_path_is_none() -> None:
    """Unless both of its parts are set, `featurepath` is not set, and the pipeline's default applies."""
    arguments = run_arguments({"trainingjob_id": "7"}, declared(featurepath="STRING"), ArgumentProfile.FLASK_ADAPTER)
    assert arguments.values == {}

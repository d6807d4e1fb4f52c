"""Arguments of a training job, as the training manager sends them, and what a pipeline's run is given of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.parameters import typed_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kfadapter_grpc.contract.spec import Json, Parameter

JOB_LABEL = "trainingjob_id"
"""The label of a run that tells which training job it was started for."""

_RENAMED = {"modelname": "modelName", "modelversion": "modelVersion"}
_FEATURE_PATH = "featurepath"
_FEATURE_PARTS = ("featuregroup_name", "trainingjob_id")


class ArgumentProfile(enum.Enum):
    """How the arguments of a training job become those of a run."""

    AS_GIVEN = "as-given"
    """Under their own names, all of them."""
    FLASK_ADAPTER = "flask-adapter"
    """As the Flask adapter named them: `featurepath`, `modelname` and `modelversion` are made of the training manager's
    arguments where the pipeline declares them, and what the pipeline does not declare is left out."""


@dataclass(frozen=True, slots=True)
class RunArguments:
    """What a run is given.

    Attributes:
        values: The values, texts turned into the declared types.
        left_out: The names of arguments that the pipeline does not declare and that were left out, sorted.
    """

    values: Mapping[str, Json]
    left_out: tuple[str, ...] = ()


def run_arguments(
    given: Mapping[str, Json], declared: Sequence[Parameter], profile: ArgumentProfile = ArgumentProfile.AS_GIVEN
) -> RunArguments:
    """Turns the arguments of a training job into those of a run.

    A text becomes a value of the declared type; one that is none, and with `AS_GIVEN` a name that is not declared,
    stays as it is: the adapter refuses the run and tells all that is wrong with it.
    """
    names = {parameter.name for parameter in declared}
    wanted = {**_old_names(given, names), **given} if profile is ArgumentProfile.FLASK_ADAPTER else dict(given)
    left_out = wanted.keys() - names if profile is ArgumentProfile.FLASK_ADAPTER else set[str]()
    kept = {name: value for name, value in wanted.items() if name not in left_out}
    texts = {name: value for name, value in kept.items() if isinstance(value, str)}
    return RunArguments({**kept, **typed_values(texts, declared)}, tuple(sorted(left_out)))


def _old_names(given: Mapping[str, Json], declared: set[str]) -> dict[str, Json]:
    """What the pipeline declares under the names of the Flask adapter."""
    made = {old: given[name] for old, name in _RENAMED.items() if name in given}
    if all(part in given for part in _FEATURE_PARTS):
        made[_FEATURE_PATH] = "_".join(str(given[part]) for part in _FEATURE_PARTS)
    return {name: value for name, value in made.items() if name in declared}

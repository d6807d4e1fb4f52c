"""How a task, a loop or a whole DAG has ended, and what came out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kfadapter_embedded.execution import State, task_name

from .task_api import COLLECTED
from .values import Origin, RuntimeArtifact, Values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kfadapter_embedded.json_text import JsonValue

    from .spec import Component, Dag

LAUNCHER = "failed to execute component"
"""How KFP's launcher begins to say why a task failed."""


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        state: SUCCEEDED, FAILED, SKIPPED or CANCELED.
        error: Why it failed, in words.
        culprit: The innermost task that failed, by its path.
        values: What came out of it.
        cut_off: Whether it was skipped because a task before it failed, and not because of a condition.
        message: The error in the words of KFP's driver or launcher.
        attempts: How many times its command has been executed.
    """

    state: State
    error: str = ""
    culprit: str = ""
    values: Values = field(default_factory=Values)
    cut_off: bool = False
    message: str = ""
    attempts: int = 0

    @property
    def blocks(self) -> bool:
        """Whether tasks that depend on it cannot run."""
        return self.state in {State.FAILED, State.CANCELED} or self.cut_off

    def told(self) -> str:
        """The failure as an error of the whole run."""
        return f"task {self.culprit} failed: {self.error}" if self.culprit else self.error


def failed(error: str) -> Outcome:
    """A component that could not be executed, or gave what it must not."""
    return Outcome(State.FAILED, error, message=f"{LAUNCHER}: {error}")


def dag_outcome(dag: Dag, done: Mapping[str, Outcome], *, is_branch: bool) -> Outcome:
    """The outcome of a whole DAG: one failure is its failure, whatever ran afterwards."""
    if failure := _first_failure(done[name] for name in dag.tasks):
        return Outcome(State.FAILED, failure.error, failure.culprit)
    if any(one.state is State.CANCELED for one in done.values()):
        return Outcome(State.CANCELED)
    parameters: dict[str, JsonValue] = {}
    artifacts: dict[str, tuple[RuntimeArtifact, ...]] = {}
    origins: dict[str, Origin] = {}
    for key, selectors in {**dag.outputs.parameters, **dag.outputs.artifacts}.items():
        for one in selectors.outputs:
            given = done[one.task].values if one.task in done else Values()
            value, several = given.parameters.get(one.key), given.artifacts.get(one.key)
            if value is None and several is None:
                continue
            if several is None:
                parameters[key] = value
            else:
                artifacts[key] = several
            origins[key] = Origin("ONE_OF_OUTPUT" if is_branch or selectors.is_one_of else "OUTPUT", one.task)
            break
    return Outcome(State.SUCCEEDED, values=Values(parameters, artifacts, origins))


def loop_outcome(outcomes: list[Outcome], component: Component, path: str) -> Outcome:
    """The outcome of a loop: its outputs are lists, without the iterations that gave none."""
    if failure := _first_failure(iter(outcomes)):
        return Outcome(State.FAILED, failure.error, failure.culprit)
    if any(one.state is State.CANCELED for one in outcomes):
        return Outcome(State.CANCELED)
    given = [one.values for one in outcomes]
    parameters: dict[str, JsonValue] = {
        key: [one.parameters[key] for one in given if key in one.parameters]
        for key in component.output_definitions.parameters
    }
    artifacts = {
        key: tuple(artifact for one in given for artifact in one.artifacts.get(key, ()))
        for key in component.output_definitions.artifacts
    }
    origins = dict.fromkeys({**parameters, **artifacts}, Origin(COLLECTED, task_name(path)))
    return Outcome(State.SUCCEEDED, values=Values(parameters, artifacts, origins))


def _first_failure(outcomes: Iterable[Outcome]) -> Outcome | None:
    return next((one for one in outcomes if one.state is State.FAILED), None)

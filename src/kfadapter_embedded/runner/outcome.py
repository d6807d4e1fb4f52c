"""The outcome of a task, a loop or a whole DAG: how it ended, and its outputs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from kfadapter_embedded.execution import State, task_name
from kfadapter_embedded.json_text import JsonValue
from kfadapter_grpc.check import rules
from kfadapter_grpc.check.rule import Rule

from .spec import Component, Dag
from .task_api import COLLECTED
from .values import Origin, RuntimeArtifact, Values

IMPORTED = "IMPORTED"
"""The state of an import, which is COMPLETE in ML Metadata, but whose end does not update that of its group."""
LAUNCHER = "failed to execute component"
"""How KFP's launcher begins to say why a task failed."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task, with its outputs.

    Attributes:
        culprit: The innermost task that failed, by its title.
        message: The error with the message of KFP's driver or launcher.
        attempts: How many times its command has been executed.
        known: The state of it in ML Metadata on a cluster: CANCELED if its condition is false, empty if its
            driver was not started or failed.
        at: When it ended; for a group that failed, when the first of its tasks failed.
    """

    state: State
    error: str = ""
    culprit: str = ""
    values: Values = field(default_factory=Values)
    message: str = ""
    attempts: int = 0
    known: str = ""
    at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def cached(self) -> bool:
        """Whether its values are from an earlier task."""
        return self.known == "CACHED"

    def told(self) -> str:
        """The failure as an error of the whole run."""
        return f"task {self.culprit} failed: {self.error}" if self.culprit else self.error


def failed(error: str, reason: str = "") -> Outcome:
    """A component that could not be executed, or has an invalid output; the reason is the launcher's wording."""
    return Outcome(State.FAILED, error, message=f"{LAUNCHER}: {reason or error}")


def dag_outcome(dag: Dag, done: Mapping[str, Outcome], *, is_branch: bool) -> Outcome:
    """The outcome of a whole DAG, from its tasks in the order in which they ended."""
    parameters: dict[str, JsonValue] = {}
    artifacts: dict[str, tuple[RuntimeArtifact, ...]] = {}
    origins: dict[str, Origin] = {}
    collected: dict[str, Rule | None] = {}
    ways: dict[str, tuple[str, ...]] = {}
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
            ways[key] = (one.task, *given.ways.get(one.key, ()))
            if one.key in given.collected:
                collected[key] = given.collected[one.key]
            if selectors.is_one_of and done[one.task].known == "RUNNING":
                collected[key] = rules.ONE_OF_RUNNING
            break
    return _together(list(done.values()), len(dag.tasks), Values(parameters, artifacts, origins, collected, ways))


def loop_outcome(outcomes: list[Outcome], component: Component, path: str) -> Outcome:
    """The outcome of a loop: its outputs are lists, without the iterations that have no such output."""
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
    collected = {key: _broken(key, given, is_parameter=key in parameters) for key in origins}
    return _together(outcomes, len(outcomes), Values(parameters, artifacts, origins, collected))


def _broken(key: str, given: list[Values], *, is_parameter: bool) -> Rule | None:
    """KFP's rule that is violated by using an output collected from these iterations."""
    if not given:
        return rules.COLLECTED_EMPTY
    inner = {one.collected[key] for one in given if key in one.collected}
    if rules.ONE_OF_RUNNING in inner:
        return rules.ONE_OF_RUNNING
    if rules.COLLECTED_SKIPPED in inner or any(key not in {**one.parameters, **one.artifacts} for one in given):
        return rules.COLLECTED_SKIPPED
    if any(not artifact.path for one in given for artifact in one.artifacts.get(key, ())):
        return rules.COLLECTED_IMPORTS
    if len({one.ways.get(key) for one in given}) > 1:
        return rules.COLLECTED_ONE_OF
    return rules.COLLECTED_TWICE if inner and is_parameter else None


def _together(outcomes: list[Outcome], expected: int, values: Values) -> Outcome:
    """The outcome of a group of `expected` tasks: if one failed, the group failed, whatever ran afterwards."""
    known = _known(outcomes, expected)
    failures = [one for one in outcomes if one.state is State.FAILED]
    if failures:
        first = min(failures, key=lambda one: one.at)
        return Outcome(State.FAILED, first.error, first.culprit, values, known=known, at=first.at)
    if any(one.state is State.CANCELED for one in outcomes):
        return Outcome(State.CANCELED)
    return Outcome(State.SUCCEEDED, values=values, known=known)


def _known(outcomes: list[Outcome], expected: int) -> str:
    """The state of a group of `expected` tasks in ML Metadata on a cluster.

    Only the launcher of a task in it updates it, when the task ends (`metadata/client.go:UpdateDAGExecutionsState`): a
    group whose last task is a branch that is not taken stays RUNNING.
    """
    state, ended, failed = "RUNNING", 0, False
    for one in outcomes:
        ended += one.known in {"COMPLETE", "CACHED", "CANCELED", IMPORTED}
        failed = failed or one.known == "FAILED"
        if one.known in {"COMPLETE", "FAILED"}:
            state = "COMPLETE" if ended == expected else "FAILED" if failed else state
    return state

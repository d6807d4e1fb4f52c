"""The command of a step: with all placeholders filled in, its environment variables, its limits.

The command of a component is built as KFP's driver (`driver/util.go`: resolveContainerArgs) and launcher
(`component/launcher_v2.go`: compileCmdAndArgs, getPlaceholders) build it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from kfadapter_embedded.execution import Steps
from kfadapter_embedded.json_text import JsonValue, general

from .limits import Limits
from .log import TaskLog
from .outputs import Outputs
from .places import Tree
from .spec import Container, mapping
from .task_api import DEFAULT
from .values import ValueFaultError, Values, as_text

EXECUTOR = "kfp.dsl.executor_main"
"""What Python components are executed by."""
# The first words of the command of a component whose code is in its image.
_CONTAINERIZED = ("python3", "-m", EXECUTOR)
_WHOLE_INPUT = "{{$}}"
_EMPTY_LISTS = (
    f"import {EXECUTOR} as main; from kfp.dsl.executor import Executor; take = Executor.get_input_artifact; "
    "Executor.get_input_artifact = lambda self, name: take(self, name) or ([] if name in {} else None); "
    "main.executor_main()"
)
_PLACEHOLDER = re.compile(r"\{\{\$(?:\.[^{}]*)?\}\}")
_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\['(?P<name>.+?)']}}")
_INT64 = 1 << 63


@dataclass(frozen=True)
class Command:
    """The command of one attempt of a step.

    Attributes:
        number: The attempt's number in its run.
        variables: The environment variables set by the step and by KFP.
        inputs: The files and folders of this machine that it reads, besides those in its tree.
        pull: The image pull policy: `Always`, `IfNotPresent`, `Never`; empty for Kubernetes' default.
        seconds: How long it may run (`kubernetes.set_timeout`); 0 for no limit.
    """

    number: int
    words: tuple[str, ...]
    image: str
    variables: Mapping[str, str]
    limits: Limits
    inputs: tuple[Path, ...]
    tree: Tree
    pull: str = ""
    seconds: float = 0.0

    @property
    def overdue(self) -> str:
        """The reason of its end if it ran too long."""
        return f"killed: it ran for longer than its timeout of {self.seconds:g} s"


@dataclass(frozen=True)
class Exit:
    """How a command ended: its exit code, -N after signal N, and the reason if it is more specific."""

    code: int
    reason: str = ""


class StartError(Exception):
    """A command could not be executed to its end; the message has the reason."""


Start: TypeAlias = Callable[[Command, "TaskLog"], Exit]
"""Executes a command, writes what it prints into the log, and waits until it and all that it started have ended."""


def needs_image(container: Container) -> bool:
    """Whether the program, or its code, is in the image: true of all but lightweight Python components."""
    words = (*container.command, *container.args)
    return EXECUTOR not in " ".join(words) or is_containerized(container)


def is_containerized(container: Container) -> bool:
    """Whether it is a Python component whose code is in its image (`target_image`)."""
    return (*container.command, *container.args)[: len(_CONTAINERIZED)] == _CONTAINERIZED


def in_container(container: Container, steps: Steps) -> bool:
    return steps is Steps.CONTAINER or (steps is Steps.AUTO and needs_image(container))


def known_placeholders(values: Values, outputs: Outputs) -> dict[str, str]:
    """The placeholders that KFP's launcher fills in besides `{{$}}` (`component/launcher_v2.go:getPlaceholders`)."""
    known = {f"{{{{$.inputs.parameters['{key}']}}}}": as_text(value) for key, value in values.parameters.items()}

    def add(side: str, key: str, uri: str, path: Path | None) -> None:
        known[f"{{{{$.{side}.artifacts['{key}'].uri}}}}"] = uri
        known[f"{{{{$.{side}.artifacts['{key}'].path}}}}"] = outputs.tree.shown(path) if path else uri

    for key, several in values.artifacts.items():
        for first in several[:1]:
            add("inputs", key, first.uri, outputs.tree.path(first.uri))
            if first.workspace_path:
                known[f"{{{{$.inputs.artifacts['{key}'].path}}}}"] = first.workspace_path
    for key in outputs.declared.artifacts:
        add("outputs", key, outputs.uri(key), outputs.path(key))
    for key in outputs.declared.parameters:
        known[f"{{{{$.outputs.parameters['{key}'].output_file}}}}"] = outputs.tree.shown(outputs.tree.parameter(key))
    return known


def words_of(container: Container, values: Values, known: Mapping[str, str], executor_input: str) -> tuple[str, ...]:
    """The command and arguments of a component; raises ValueFaultError where KFP's driver or launcher rejects them.

    `known` is what `known_placeholders` returns, `executor_input` the value of `{{$}}`.
    """
    fill = _Filling(values, {**known, _WHOLE_INPUT: executor_input})
    words = tuple(word for part in (*container.command, *container.args) for word in fill.part(part))
    if not words:
        raise ValueFaultError("command and arguments are empty: a step of KFP never runs what its image runs by itself")
    return words


def with_empty_lists(part: str, values: Values) -> str:
    """A part of a Python component's command, changed to pass an empty list for an input list without artifacts.

    KFP's executor passes None, whatever its input is.
    """
    empty = sorted(name for name, several in values.artifacts.items() if not several and name.isidentifier())
    return part.replace(f"-m {EXECUTOR} ", f'-c "{_EMPTY_LISTS.format(empty)}" ') if empty else part


class _Filling:
    """Fills values into the parts of a command. Placeholders in the values themselves are not replaced."""

    def __init__(self, values: Values, known: Mapping[str, str]) -> None:
        self._known = known
        # The driver, which resolves most parts, does not know the defaults of components; the launcher does.
        self._given = {
            key: value
            for key, value in values.parameters.items()
            if key not in values.origins or values.origins[key].type != DEFAULT
        }

    def part(self, part: str) -> Iterator[str]:
        """The words that one part of the command expands to."""
        if "$.outputs" not in part and part.strip().startswith('{"IfPresent":'):
            yield from (self._filled(one) for one in self._chosen(part))
        else:
            yield self._filled(part)

    def _chosen(self, part: str) -> Iterator[str]:
        """The value of `dsl.IfPresentPlaceholder`."""
        try:
            choice = mapping(mapping(json.loads(part))["IfPresent"])
        except ValueError:
            raise ValueFaultError("failed to resolve container args: failed to parse IfPresent JSON") from None
        present = self._given.get(str(choice.get("InputName"))) is not None
        chosen = choice.get("Then" if present else "Else")
        for one in chosen if isinstance(chosen, list) else [] if chosen is None else [chosen]:
            if not isinstance(one, str):
                raise ValueFaultError(
                    "failed to resolve container args: non-string item in IfPresent Then/Else array: KFP 2.17.0 takes "
                    "no dsl.ConcatPlaceholder inside dsl.IfPresentPlaceholder"
                )
            yield one

    def _filled(self, word: str) -> str:
        by_driver = "$.outputs" not in word

        def value(found: re.Match[str]) -> str:
            if by_driver and (wanted := _INPUT.fullmatch(found[0])):
                return self._resolved(wanted["name"])
            return self._known.get(found[0], found[0])

        return _PLACEHOLDER.sub(value, word)

    def _resolved(self, name: str) -> str:
        if name not in self._given:
            raise ValueFaultError(
                f"failed to resolve container args: parameter {name!r} not found in executor input: KFP 2.17.0 puts "
                "no default of a component into its command; pass the value"
            )
        return _driver_text(self._given[name])


def _driver_text(value: JsonValue) -> str:
    """As `driver/util.go`: pbValueToString, which formats numbers with Go's `%d` and `%g`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return as_text(value)
    if float(value).is_integer() and -_INT64 <= value < _INT64:
        return str(int(float(value)))
    return general(float(value))

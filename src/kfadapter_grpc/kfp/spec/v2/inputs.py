"""Where the inputs of a task come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.spec.report import LARGEST_PART
from kfadapter_grpc.kfp.spec.source import shortened
from kfadapter_grpc.kfp.spec.v2 import levels
from kfadapter_grpc.kfp.spec.values import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.kfp.spec.part import Fields, Part

_FIELD = re.compile(r"""parseJson\(string_value\)\["([^"]*)"\]""")
_LONGEST_CONSTANT = 300


@dataclass(frozen=True, slots=True)
class Input:
    """Where an input comes from; one of `outer`, `task` and `constant` is set.

    Attributes:
        outer: An input of the group that the task is in.
        task: A task of the same group.
        output: That task's output.
        constant: A value, in words.
        field: The one field that is taken of it.
    """

    outer: str = ""
    task: str = ""
    output: str = ""
    constant: str = ""
    field: str = ""


def read_inputs(part: Part) -> dict[str, Input]:
    """Reads the inputs of a task, parameters and artifacts alike: KFP keeps their names apart."""
    fields = part.fields(levels.INPUTS)
    inputs = {name: _artifact(one.fields(levels.INPUT_ARTIFACT)) for name, one in fields["artifacts"].entries()}
    for name, one in fields["parameters"].entries():
        inputs[name] = read_parameter(one)
    return inputs


def read_parameter(part: Part) -> Input:
    """Reads where a parameter comes from; one that comes from nowhere known is noted."""
    fields = part.fields(levels.INPUT_PARAMETER)
    field = _field(fields["parameterExpressionSelector"])
    if fields.has("componentInputParameter"):
        return Input(outer=fields["componentInputParameter"].text(), field=field)
    if fields.has("taskOutputParameter"):
        return _output(fields["taskOutputParameter"].fields(levels.TASK_OUTPUT), field)
    if fields.has("taskFinalStatus"):
        producer = fields["taskFinalStatus"].fields(levels.FINAL_STATUS)["producerTask"].text()
        return Input(task=producer, output="status")
    return Input(constant=_constant(fields["runtimeValue"]), field=field)


def producers(inputs: Iterable[Input]) -> Iterable[str]:
    """The tasks that inputs come from."""
    return (one.task for one in inputs if one.task)


def _artifact(fields: Fields) -> Input:
    if fields.has("taskOutputArtifact"):
        return _output(fields["taskOutputArtifact"].fields(levels.TASK_OUTPUT), "")
    return Input(outer=fields["componentInputArtifact"].text())


def _output(fields: Fields, field: str) -> Input:
    output = fields["outputParameterKey"].text() or fields["outputArtifactKey"].text()
    return Input(task=fields["producerTask"].text(), output=output, field=field)


def _field(part: Part) -> str:
    """Reads which field of a value is taken."""
    selector = part.text()
    found = _FIELD.fullmatch(selector)
    if selector and found is None:
        part.note()
    return found[1] if found else selector


def _constant(part: Part) -> str:
    """Reads a value into words: a text in quotes, anything else as JSON."""
    fields = part.fields(levels.RUNTIME_VALUE)
    if fields.has("runtimeParameter"):
        return fields["runtimeParameter"].text()
    if "constant" in fields:
        return _in_words(fields["constant"])
    old = fields["constantValue"].fields(levels.OLD_VALUE)
    key = next((key for key in ("stringValue", "intValue", "doubleValue") if old.has(key)), "stringValue")
    return old[key].text() if key == "intValue" else _in_words(old[key])


def _in_words(part: Part) -> str:
    """A value that is too large to be told is nothing to note: it is no part of a summary."""
    if part.size > LARGEST_PART:
        return "…"
    found, value = part.peek()
    if not found:
        return ""
    return shortened(f"'{value}'" if isinstance(value, str) else one_line(value), _LONGEST_CONSTANT)
